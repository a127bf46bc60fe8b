"""Run a contract's examples and compare each outcome with the one that the contract's author expects."""

import difflib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.contract import ContractExample
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.sources.source import Source

#: The clock for examples. They don't age: a receipt from any year is plausible.
_FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class _SampleRecord:
    """The example as a Kafka record."""

    value: bytes
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    offset: int = 0
    timestamp: int = 0


def run_example(source: Source, folder: Path, example: ContractExample) -> str | None:
    """Return None if the example has the expected outcome, otherwise a readable diff.

    Fields stated in the example must match: lists as a whole, times in any zone. Fields it does not state are ignored.
    `folder` is the contract's folder, where the example's `file` is. The record goes through decoding and checks as in
    the worker, so an event that doesn't add up is a dead letter.
    """
    expected = _expected(example)
    try:
        value = _value(example, folder)
    except OSError as error:
        return f"{example.file}: {error.strerror}"
    actual = outcome(source, value, example.key, example.headers)
    if "rejected" in expected:
        actual = actual | {"rejected": [reason.partition(":")[0] for reason in actual.get("rejected", [])]}
    if "skipped" in expected and "skipped" in actual:
        actual = actual | {"skipped": True}
    elif "events" in actual:  # a record with events may also have skipped parts
        actual.pop("skipped", None)
        if len(actual["events"]) == len(expected.get("events", ())):
            actual["events"] = list(map(_as_stated, actual["events"], expected["events"]))
    if actual == expected:
        return None
    return "\n".join(difflib.unified_diff(_lines(expected), _lines(actual), "expected", "actual", lineterm=""))


def _as_stated(result: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """Return the stated fields of an actual event, with the time written as stated if it is the same moment."""
    stated_values = {name: value for name, value in result.items() if name in stated}
    with suppress(KeyError, TypeError, ValueError):
        if datetime.fromisoformat(stated_values["occurred_at"]) == datetime.fromisoformat(stated["occurred_at"]):
            stated_values["occurred_at"] = stated["occurred_at"]
    return stated_values


def outcome(source: Source, value: bytes, key: str | None = None, headers: dict[str, str] | None = None) -> Any:
    """Return a record's outcome: `events`, reasons it was `skipped` or `rejected` (reason: detail); no empty lists."""
    sample = _SampleRecord(
        value, None if key is None else key.encode(), tuple((k, v.encode()) for k, v in (headers or {}).items())
    )
    arrivals, undecodable, skipped = decode(Batch("example", 0, [sample]), source)
    checked, failed = check(arrivals, _FAR_FUTURE)
    result = {
        "events": [
            receipt.arrival.event.model_dump(mode="json", by_alias=True, exclude_defaults=True) for receipt in checked
        ],
        "skipped": [part.why for part in skipped],
        "rejected": [f"{fault.reason}: {fault.detail}" for fault in (*undecodable, *failed)],
    }
    return {name: values for name, values in result.items() if values}


def _value(example: ContractExample, folder: Path) -> bytes:
    if example.file is not None:
        return (folder / example.file).read_bytes()
    value = example.value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def _expected(example: ContractExample) -> dict[str, Any]:
    if example.events is not None:
        return {"events": list(example.events)} if example.events else {}
    return {"rejected": [example.rejected]} if example.rejected is not None else {"skipped": True}


def _lines(result: dict[str, Any]) -> list[str]:
    return json.dumps(result, indent=2, ensure_ascii=False).splitlines()
