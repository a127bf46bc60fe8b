"""What becomes of a record by a contract: documents, nothing, dead letters. The line's own steps, without a sink."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from schemas.document import ErpDocument
from streams.batch import Batch, Record
from streams.checks import check
from streams.decode import decode
from streams.mapping import to_documents
from streams.pipeline import with_document
from streams.settings import Stores
from streams.sources.rules import ZoneOf
from streams.sources.source import Source

_DOCUMENT = TypeAdapter(ErpDocument)


class Bare(NamedTuple):
    """A record from a file; a `streams.batch.Record`."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp: int = 0


class Outcome(NamedTuple):
    """What became of a record: a word for each of its events, and the documents."""

    words: tuple[str, ...]
    details: tuple[str, ...]
    documents: tuple[ErpDocument, ...]

    @property
    def word(self) -> str:
        """All words, in one."""
        return ", ".join(self.words) or "nothing"


def outcome(source: Source | None, stores: Stores, record: Record, now: datetime) -> Outcome:
    """What becomes of the record."""
    arrivals, undecodable, noted = decode(Batch("record", 0, [record]), source)
    events, closes = with_document(arrivals)
    sound, unsound = check(events, now)
    documents, unmapped = to_documents(sound, stores)
    rejected = [*undecodable, *unsound, *unmapped]
    words = [f"document ({document.kind})" for document in documents]
    words += [f"skipped ({each.why})" for each in [*noted, *closes]]
    words += [f"dead letter ({each.reason.value})" for each in rejected]
    return Outcome(tuple(words), tuple(each.detail for each in rejected), tuple(documents))


def zones(stores: Stores) -> ZoneOf:
    """The time zones of the settings' stores."""

    def zone_of(name: str) -> ZoneInfo | None:
        store = stores.find(name)
        return store.zone if store is not None else None

    return zone_of


def as_json(document: ErpDocument) -> dict[str, Any]:
    """The document as JSON values."""
    made: dict[str, Any] = _DOCUMENT.dump_python(document, mode="json")
    return made
