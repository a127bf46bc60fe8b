"""`tillstream map try`: shows every step of one record, with personal texts masked."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ops.maps.outcome import FileRecord, as_json
from schemas.contract import Contract
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from streams.batch import Arrival
from streams.decode import NUL, TOO_DEEP, has_nul, path_of
from streams.mapping.mapper import Mapper, store_zone
from streams.pipeline import evaluate
from streams.privacy.masking import PERSONAL_FIELDS, STARS, TextMask
from streams.sources.source import RefusedRecord, SkippedPart, load_source, part_as_text


class StepValue(NamedTuple):
    """An intermediate value: its location in the contract, and the step that produced it."""

    place: str
    step: str
    value: Any

    @property
    def personal(self) -> bool:
        """Whether it becomes a personal field of the event."""
        return self.place.partition("fields.")[2] in PERSONAL_FIELDS


def try_record(path: Path, mapper: Mapper, record: FileRecord, now: datetime) -> dict[str, Any]:
    """Return every step of the record as one JSON object. Raises ContractError."""
    steps: list[StepValue] = []

    def watch(place: str, step: str, value: Any) -> None:
        steps.append(StepValue(place, step, value))

    source = load_source(path, partial(store_zone, mapper), watch=watch)
    contract, mask = source.contract, TextMask()
    result: dict[str, Any] = {"contract": contract.label, "format": contract.format, "record": None, "parts": []}
    parts: list[tuple[dict[str, Any] | SkippedPart | RefusedRecord, list[StepValue]]] = []
    try:
        for part in source.events(record):
            parts.append((part, steps.copy()))
            steps.clear()
        tree = source.read(record)
    except RefusedRecord as fault:
        return result | {"rejected": _rejected(fault.reason, fault.detail)}
    except RecursionError:
        return result | {"rejected": _rejected(*TOO_DEEP)}
    for value in source.personal_values(tree):
        mask.hide(value)
    for _, part_steps in parts:
        for step in part_steps:
            if step.personal:
                mask.hide(step.value)
    trial = _Trial(contract, mapper, record, now, mask)
    result["record"] = part_as_text(mask.show(tree))
    result["parts"] = [trial.part(part, part_steps) for part, part_steps in parts]
    return result


class _Trial(NamedTuple):
    """The rules by which the parts of a record are evaluated."""

    contract: Contract
    mapper: Mapper
    record: FileRecord
    now: datetime
    mask: TextMask

    def part(self, part: dict[str, Any] | SkippedPart | RefusedRecord, steps: list[StepValue]) -> dict[str, Any]:
        """Return the steps of one part and its outcome."""
        conditions = [step for step in steps if ".when." in step.place]
        result: dict[str, Any] = {"kinds": self._kinds(conditions, kind_found=_has_kind(part))}
        result["fields"] = [self._shown(step) for step in steps if ".when." not in step.place]
        if isinstance(part, SkippedPart):
            return result | {"skipped": part.why}
        if isinstance(part, RefusedRecord):
            return result | self._refused(part.reason, part.detail)
        return result | {"event": self.mask.show(part)} | self._evaluated(part)

    def _evaluated(self, part: dict[str, Any]) -> dict[str, Any]:
        """Validate, check and map the event."""
        try:
            event = SaleEvent.model_validate(part)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            messages = {path_of(fault) or "(the whole)": fault["msg"] for fault in reversed(faults)}
            return {"faults": [{"field": path, "fault": messages[path]} for path in reversed(messages)]}
        if has_nul(event):
            return self._refused(*NUL)
        if event.type == "day_close":
            return {"skipped": "day_close"}
        arrival = Arrival(self.record, event, event.identity, b"")
        _, documents, rejected, findings = evaluate([arrival], self.mapper, self.now)
        cleaned = sorted({f"{finding.rule} ({finding.policy})" for finding in findings})
        result: dict[str, Any] = {"cleaning": cleaned} if cleaned else {}
        for fault in rejected:
            return result | self._refused(fault.reason, fault.detail)
        self.mask.hide(documents[0].customer_code)
        return result | {"checks": "all amounts add up", "document": self.mask.show(as_json(documents[0]))}

    def _kinds(self, conditions: list[StepValue], *, kind_found: bool) -> list[dict[str, Any]]:
        """Return the kinds that were tried, the values seen by their conditions, and which kind was taken."""
        kinds: list[dict[str, Any]] = []
        last = -1
        for condition in conditions:
            last = int(condition.place.split(".")[1])
        for number, kind in enumerate(self.contract.kinds):
            seen = [step for step in conditions if step.place.startswith(f"kinds.{number}.when.")]
            if kind.when and not seen:
                break
            holds = [step.value for step in seen if step.step == "holds"]
            taken = kind_found and len(holds) == len(kind.when) and all(value is True for value in holds)
            kinds.append(
                {
                    "kind": number,
                    "becomes": kind.type or f"skipped ({kind.skip})",
                    "conditions": [self._shown(step) for step in seen],
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
            text = STARS if step.personal and value is not None else self.mask.show(value)
        else:
            text = self.mask.show(str(value))
        return {"place": step.place, "step": step.step, "value": text}

    def _refused(self, reason: Reason, detail: str) -> dict[str, Any]:
        return {"rejected": _rejected(reason, self.mask.show(detail))}


def _has_kind(part: dict[str, Any] | SkippedPart | RefusedRecord) -> bool:
    return not (isinstance(part, RefusedRecord) and part.detail.startswith("kinds:"))


def _rejected(reason: Reason, detail: str) -> dict[str, str]:
    return {"reason": reason.value, "detail": detail, "advice": reason.advice}
