"""The examples of a contract: each is a record, and what must become of it."""

import difflib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from schemas.contract import Example
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.sources.source import Source


class ExampleRecord(NamedTuple):
    """A record that was never in Kafka."""

    value: bytes
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = []  # noqa: RUF012 (a NamedTuple's default, never changed)
    offset: int = 0
    timestamp: int = 0


def run_example(source: Source, folder: Path, example: Example) -> str | None:
    """None when the example's record becomes what it says; else a readable difference."""
    try:
        record = record_of(folder, example)
    except OSError as error:
        return f"{example.file}: {error.strerror}"
    arrivals, rejected, noted = decode(Batch("example", 0, [record]), source)
    sound, held = check(arrivals, datetime.now(UTC))
    if example.events is not None:
        kept = [receipt.arrival.event.model_dump(mode="json", by_alias=True, exclude_unset=True) for receipt in sound]
        wanted = list(example.events)
        if not rejected and not held and len(kept) == len(wanted) and all(map(_says, kept, wanted)):
            return None
        return _difference(wanted, kept, [f"rejected: {r.reason.value} ({r.detail})" for r in (*rejected, *held)])
    found = [f"{r.reason.value} ({r.detail})" for r in (*rejected, *held)]
    if example.rejected is not None:
        wanted_only = bool(found) and all(text.startswith(f"{example.rejected} ") for text in found) and not sound
        return None if wanted_only else f"- rejected: {example.rejected}\n+ {_outcome(found, len(sound), len(noted))}"
    return None if noted and not found and not sound else f"- skipped\n+ {_outcome(found, len(sound), len(noted))}"


def record_of(folder: Path, example: Example) -> ExampleRecord:
    """The example's record. Raises OSError when its file can't be read."""
    if example.file is not None:
        value = (folder / example.file).read_bytes()
    else:
        text = example.value if isinstance(example.value, str) else json.dumps(example.value, ensure_ascii=False)
        value = text.encode()
    headers = [(name, text.encode()) for name, text in example.headers.items()]
    return ExampleRecord(value, example.key.encode() if example.key is not None else None, headers)


def _says(event: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the event has all that the example states; what it does not state is free."""
    return all(_same(name, event.get(name), value) for name, value in wanted.items())


def _same(name: str, found: Any, wanted: Any) -> bool:
    """Whether two values are equal; moments are, in whichever zone they are written."""
    if name == "occurred_at" and isinstance(found, str) and isinstance(wanted, str):
        try:
            return datetime.fromisoformat(found) == datetime.fromisoformat(wanted)
        except ValueError:
            return False
    return bool(found == wanted)


def _difference(wanted: list[dict[str, Any]], found: list[dict[str, Any]], rejected: list[str]) -> str:
    stated = [
        {name: event.get(name) for name in wanted[n]} if n < len(wanted) else event for n, event in enumerate(found)
    ]
    before, after = (
        json.dumps(each, indent=2, ensure_ascii=False, sort_keys=True).splitlines() for each in (wanted, stated)
    )
    return "\n".join([*difflib.unified_diff(before, after, "expected", "found", lineterm="", n=2), *rejected])


def _outcome(rejected: list[str], events: int, skipped: int) -> str:
    if rejected:
        return f"rejected: {'; '.join(rejected)}"
    return f"{events} event{'s' * (events != 1)}, {skipped} skipped"
