"""`tillstream map try`: one record, every step of it shown; personal texts are stars."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ops.maps.outcome import BookingRules, FileRecord, as_json
from schemas.contract import Contract
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from streams.batch import Arrival
from streams.decode import NUL, TOO_DEEP, has_nul, path_of
from streams.privacy.masking import PERSONAL_FIELDS, STARS, TextMask
from streams.sources.source import RefusedRecord, SkippedPart, load_source, part_as_text


class StepValue(NamedTuple):
    """A value on its way: where in the contract, after which step."""

    place: str
    step: str
    value: Any

    @property
    def personal(self) -> bool:
        """Whether it becomes a personal field of the event."""
        return self.place.partition("fields.")[2] in PERSONAL_FIELDS


def try_record(path: Path, books: BookingRules, record: FileRecord, now: datetime) -> dict[str, Any]:
    """Every step of the record, as one JSON object. Raises ContractError."""
    seen: list[StepValue] = []
    source = load_source(
        path, books.zone_of, watch=lambda place, step, value: seen.append(StepValue(place, step, value))
    )
    contract, stars = source.contract, TextMask()
    result: dict[str, Any] = {"contract": contract.label, "format": contract.format, "record": None, "parts": []}
    made: list[tuple[dict[str, Any] | SkippedPart | RefusedRecord, list[StepValue]]] = []
    try:
        for each in source.events(record):
            made.append((each, seen.copy()))
            seen.clear()
        tree = source.read(record)
    except RefusedRecord as fault:
        return result | {"rejected": _rejected(fault.reason, fault.detail)}
    except RecursionError:
        return result | {"rejected": _rejected(*TOO_DEEP)}
    for found in source.personal_values(tree):
        stars.hide(found)
    for _, steps in made:
        for step in steps:
            if step.personal:
                stars.hide(step.value)
    trial = _Trial(contract, books, record, now, stars)
    result["record"] = part_as_text(stars.show(tree))
    result["parts"] = [trial.part(each, steps) for each, steps in made]
    return result


class _Trial(NamedTuple):
    """What the parts of a record are tried with."""

    contract: Contract
    books: BookingRules
    record: FileRecord
    now: datetime
    stars: TextMask

    def part(self, made: dict[str, Any] | SkippedPart | RefusedRecord, steps: list[StepValue]) -> dict[str, Any]:
        """The steps of one part, and what became of it."""
        conditions = [step for step in steps if ".when." in step.place]
        part: dict[str, Any] = {"kinds": self._kinds(conditions, placed=_is_placed(made))}
        part["fields"] = [self._shown(step) for step in steps if ".when." not in step.place]
        if isinstance(made, SkippedPart):
            return part | {"skipped": made.why}
        if isinstance(made, RefusedRecord):
            return part | self._refused(made.reason, made.detail)
        return part | {"event": self.stars.show(made)} | self._judged(made)

    def _judged(self, made: dict[str, Any]) -> dict[str, Any]:
        """The event validated, checked and mapped."""
        try:
            event = SaleEvent.model_validate(made)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            messages = {path_of(fault) or "(the whole)": fault["msg"] for fault in reversed(faults)}
            return {"faults": [{"field": path, "fault": messages[path]} for path in reversed(messages)]}
        if has_nul(event):
            return self._refused(*NUL)
        if event.type == "day_close":
            return {"skipped": "day_close"}
        documents, rejected, cleaned = self.books.judge([Arrival(self.record, event, event.identity, b"")], self.now)
        result: dict[str, Any] = {"cleaning": cleaned} if cleaned else {}
        for fault in rejected:
            return result | self._refused(fault.reason, fault.detail)
        self.stars.hide(documents[0].customer_code)
        return result | {"checks": "all amounts add up", "document": self.stars.show(as_json(documents[0]))}

    def _kinds(self, conditions: list[StepValue], *, placed: bool) -> list[dict[str, Any]]:
        """The kinds that were looked at: what their conditions saw, and which one was taken."""
        kinds: list[dict[str, Any]] = []
        last = -1
        for condition in conditions:
            last = int(condition.place.split(".")[1])
        for number, kind in enumerate(self.contract.kinds):
            saw = [step for step in conditions if step.place.startswith(f"kinds.{number}.when.")]
            if kind.when and not saw:
                break
            holds = [step.value for step in saw if step.step == "holds"]
            taken = placed and len(holds) == len(kind.when) and all(value is True for value in holds)
            kinds.append(
                {
                    "kind": number,
                    "becomes": kind.type or f"skipped ({kind.skip})",
                    "conditions": [self._shown(step) for step in saw],
                    "taken": taken,
                }
            )
            if taken and number >= last:
                break
        return kinds

    def _shown(self, step: StepValue) -> dict[str, Any]:
        value = step.value
        if isinstance(value, Exception):
            return {"place": step.place, "step": step.step, "fault": str(value)}
        if value is None or isinstance(value, bool | int | str | dict | list):
            text = STARS if step.personal and value is not None else self.stars.show(value)
        else:
            text = self.stars.show(str(value))
        return {"place": step.place, "step": step.step, "value": text}

    def _refused(self, reason: Reason, detail: str) -> dict[str, Any]:
        return {"rejected": _rejected(reason, self.stars.show(detail))}


def _is_placed(made: dict[str, Any] | SkippedPart | RefusedRecord) -> bool:
    return not (isinstance(made, RefusedRecord) and made.detail.startswith("kinds:"))


def _rejected(reason: Reason, detail: str) -> dict[str, str]:
    return {"reason": reason.value, "detail": detail, "advice": reason.advice}
