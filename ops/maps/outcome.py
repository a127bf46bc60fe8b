"""What becomes of a record by a contract: documents, nothing, dead letters. The line's own steps, without a sink."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from schemas.document import ErpDocument
from schemas.store import Stores
from streams.assembly import find_master_data
from streams.batch import Arrival, Batch, Record, Rejection
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.mapping.mapper import Mapper
from streams.pipeline import with_document
from streams.settings import Settings
from streams.sources.source import Source

_DOCUMENT = TypeAdapter(ErpDocument)


class FileRecord(NamedTuple):
    """A record from a file; a `streams.batch.Record`."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp: int = 0


class BookingRules(NamedTuple):
    """By what receipts are booked: the settings' stores and, if there is a mapping, its master data."""

    stores: Stores
    master: Mapper | None = None

    def zone_of(self, name: str) -> ZoneInfo | None:
        """The time zone of a store."""
        store = self.stores.find(name) if self.master is None else self.master.store(name, self.stores)
        return store.zone if store is not None else None

    def judge(self, arrivals: Sequence[Arrival], now: datetime) -> tuple[list[ErpDocument], list[Rejection], list[str]]:
        """(documents, what becomes none, what the cleaning rules found)"""
        if self.master is None:
            sound, unsound = check(arrivals, now)
            documents, unmapped = to_documents(sound, self.stores)
            return documents, [*unsound, *unmapped], []
        self.master.found.clear()
        sound, unsound = check(arrivals, now, self.master.repair)
        mapped = partial(self.master.document, stores=self.stores, now=now)
        documents, unmapped = to_documents(sound, self.stores, mapped)
        return documents, [*unsound, *unmapped], [f"{rule} ({policy})" for rule, policy in sorted(self.master.found)]


def books(settings: Settings) -> BookingRules:
    """The settings' stores and master data. Raises ContractError, and SinkUnavailable for tables in a database."""
    master_data = find_master_data(settings)
    return BookingRules(settings.find_stores(), master_data.load() if master_data is not None else None)


class RecordOutcome(NamedTuple):
    """What became of a record: a word for each of its events, and the documents."""

    words: tuple[str, ...]
    details: tuple[str, ...]
    documents: tuple[ErpDocument, ...]

    @property
    def word(self) -> str:
        """All words, in one."""
        return ", ".join(self.words) or "nothing"


def outcome(source: Source | None, by: BookingRules, record: Record, now: datetime) -> RecordOutcome:
    """What becomes of the record."""
    arrivals, undecodable, noted = decode(Batch("record", 0, [record]), source)
    events, closes = with_document(arrivals)
    documents, unfit, _ = by.judge(events, now)
    rejected = [*undecodable, *unfit]
    words = [f"document ({document.kind})" for document in documents]
    words += [f"skipped ({each.why})" for each in [*noted, *closes]]
    words += [f"dead letter ({each.reason.value})" for each in rejected]
    return RecordOutcome(tuple(words), tuple(each.detail for each in rejected), tuple(documents))


def as_json(document: ErpDocument) -> dict[str, Any]:
    """The document as JSON values."""
    made: dict[str, Any] = _DOCUMENT.dump_python(document, mode="json")
    return made
