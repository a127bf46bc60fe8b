"""The outcome of a record by a contract: documents, skipped parts, dead letters. The line's steps, without a sink."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from schemas.document import ErpDocument
from streams.batch import Batch, Record
from streams.decode import decode
from streams.mapping.mapper import Mapper
from streams.pipeline import evaluate, split_day_closes
from streams.sources.canonical import RecordSource

_DOCUMENT = TypeAdapter(ErpDocument)


class FileRecord(NamedTuple):
    """A record from a file; a `streams.batch.Record`."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp: int = 0


class RecordOutcome(NamedTuple):
    """The outcome of a record: a word for each of its events, details of its dead letters, and its documents."""

    words: tuple[str, ...]
    details: tuple[str, ...]
    documents: tuple[ErpDocument, ...]

    @property
    def word(self) -> str:
        """All words as one text."""
        return ", ".join(self.words) or "nothing"


def outcome(source: RecordSource, mapper: Mapper, record: Record, now: datetime) -> RecordOutcome:
    """Return the record's outcome."""
    arrivals, rejected, skipped = decode(Batch("record", 0, [record]), source)
    receipts, day_closes = split_day_closes(arrivals)
    _, documents, rejections, _ = evaluate(receipts, mapper, now)
    rejected += rejections
    words = [f"document ({document.kind})" for document in documents]
    words += [f"skipped ({part.why})" for part in skipped] + ["skipped (day_close)"] * len(day_closes)
    words += [f"dead letter ({rejection.reason.value})" for rejection in rejected]
    return RecordOutcome(tuple(words), tuple(rejection.detail for rejection in rejected), tuple(documents))


def as_json(document: ErpDocument) -> dict[str, Any]:
    """Return the document as JSON values."""
    values: dict[str, Any] = _DOCUMENT.dump_python(document, mode="json")
    return values
