"""`tillstream map try`: one record, every step of it shown; personal values are stars."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ops.maps.outcome import Bare, as_json, zones
from ops.maps.stars import PERSONAL_FIELDS, STARS, Stars
from schemas.contract import Contract
from schemas.sale import SaleEvent
from streams.batch import Arrival
from streams.checks import check
from streams.mapping import to_documents
from streams.settings import Stores
from streams.sources.source import Refused, Skipped, ready, shown


class Seen(NamedTuple):
    """A value on its way: where in the contract, after which step."""

    place: str
    step: str
    value: Any

    @property
    def personal(self) -> bool:
        """Whether it becomes a personal field of the event."""
        return self.place.partition("fields.")[2] in PERSONAL_FIELDS


def try_record(path: Path, stores: Stores, record: Bare, now: datetime) -> dict[str, Any]:
    """Every step of the record, as one JSON object. Raises ContractError."""
    seen: list[Seen] = []
    source = ready(path, zones(stores), watch=lambda place, step, value: seen.append(Seen(place, step, value)))
    contract, stars = source.contract, Stars()
    result: dict[str, Any] = {"contract": contract.label, "format": contract.format, "record": None, "parts": []}
    made: list[tuple[dict[str, Any] | Skipped | Refused, list[Seen]]] = []
    try:
        for each in source.events(record):
            made.append((each, seen.copy()))
            seen.clear()
        tree = source.read(record)
        stars.hide_at(contract, [tree])
    except Refused as fault:
        return result | {"rejected": _fault(fault)}
    for _, steps in made:
        for step in steps:
            if step.personal:
                stars.hide(step.value)
    result["record"] = shown(stars.show(tree))
    result["parts"] = [_part(contract, each, steps, stars, stores, record, now) for each, steps in made]
    return result


def _part(
    contract: Contract,
    made: dict[str, Any] | Skipped | Refused,
    steps: list[Seen],
    stars: Stars,
    stores: Stores,
    record: Bare,
    now: datetime,
) -> dict[str, Any]:
    conditions = [step for step in steps if ".when." in step.place]
    part: dict[str, Any] = {"kinds": _kinds(contract, conditions, stars, placed=_is_placed(made))}
    part["fields"] = [_shown(step, stars) for step in steps if ".when." not in step.place]
    if isinstance(made, Skipped):
        return part | {"skipped": made.why}
    if isinstance(made, Refused):
        return part | {"rejected": _fault(made)}
    return part | {"event": stars.show(made)} | _judged(made, stars, stores, record, now)


def _judged(made: dict[str, Any], stars: Stars, stores: Stores, record: Bare, now: datetime) -> dict[str, Any]:
    """The event validated, checked and mapped."""
    try:
        event = SaleEvent.model_validate(made)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return {"faults": [{"field": ".".join(map(str, f["loc"])) or "(the whole)", "fault": f["msg"]} for f in faults]}
    if event.type == "day_close":
        return {"skipped": "day_close"}
    sound, unsound = check([Arrival(record, event, event.identity, b"")], now)
    documents, unmapped = to_documents(sound, stores)
    for fault in [*unsound, *unmapped]:
        return {"rejected": {"reason": fault.reason.value, "detail": fault.detail, "advice": fault.reason.advice}}
    return {"checks": "all amounts add up", "document": stars.show(as_json(documents[0]))}


def _is_placed(made: dict[str, Any] | Skipped | Refused) -> bool:
    return not (isinstance(made, Refused) and made.detail.startswith("kinds:"))


def _kinds(contract: Contract, conditions: list[Seen], stars: Stars, *, placed: bool) -> list[dict[str, Any]]:
    """The kinds that were looked at: what their conditions saw, and which one was taken."""
    kinds: list[dict[str, Any]] = []
    last = -1
    for condition in conditions:
        last = int(condition.place.split(".")[1])
    for number, kind in enumerate(contract.kinds):
        saw = [step for step in conditions if step.place.startswith(f"kinds.{number}.when.")]
        if kind.when and not saw:
            break
        holds = [step.value for step in saw if step.step == "holds"]
        taken = placed and len(holds) == len(kind.when) and all(value is True for value in holds)
        kinds.append(
            {
                "kind": number,
                "becomes": kind.type or f"skipped ({kind.skip})",
                "conditions": [_shown(step, stars) for step in saw],
                "taken": taken,
            }
        )
        if taken and number >= last:
            break
    return kinds


def _shown(step: Seen, stars: Stars) -> dict[str, Any]:
    value = step.value
    if isinstance(value, Exception):
        return {"place": step.place, "step": step.step, "fault": str(value)}
    if isinstance(value, dict | list):
        text: Any = stars.show(value)
    elif value is None or isinstance(value, bool | int | str):
        text = STARS if step.personal and value is not None else stars.show(value)
    else:
        text = str(stars.show(str(value)))
    return {"place": step.place, "step": step.step, "value": text}


def _fault(fault: Refused) -> dict[str, str]:
    return {"reason": fault.reason.value, "detail": fault.detail, "advice": fault.reason.advice}
