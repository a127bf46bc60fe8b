"""The facts, fetched: the source topic by event time, the dead letters, and how far the workers are."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ops.dlq.filters import DeadLetterFilter
from ops.dlq.listing import list_dead_letters
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.rows import DeadLetterRow, EventRow, milliseconds
from schemas.document import ErpDocument
from schemas.store import Store, end_of_business_date
from streams.batch import Batch
from streams.dead_letters.audit import CLOSED, AuditAction, read_entries
from streams.dead_letters.header import parse_header
from streams.kafka.errors import TopicsUnusable
from streams.kafka.reader import (
    Progress,
    TopicRecord,
    group_offsets,
    offset_ranges,
    offsets_at,
    open_consumer,
    read_partitions,
    read_spans,
)
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings

#: An event may be this much later than its record, or the line takes it for implausible; and no time zone is further
#: from UTC than half of it.
_SLACK = timedelta(days=2)
#: Records at once: as events they take some ten kilobytes each.
_PIECE = 1_000
#: Records between two wanted ones that are read as well.
_NEAR = 500


def committed(settings: Settings) -> dict[int, int]:
    """Return the next offset of the workers' group by partition; 0 where it has read nothing.

    Raises TopicsUnusable and BrokerUnreachable.
    """
    partitions = partitions_of_topics(settings.kafka_access).get(settings.topic)
    if partitions is None:
        raise TopicsUnusable(f"the topic {settings.topic} does not exist at {settings.broker}; set `topic`")
    return group_offsets(settings.kafka_access, settings.group, settings.topic, range(partitions))


def dead_letters(settings: Settings) -> Iterator[DeadLetterRow]:
    """Yield the dead letters of the topic's records, open or closed. The last one yielded for a record counts.

    Those of the audit trail come first, since purged and parked dead letters exist only there; then those in the
    dead-letter topic. Raises BrokerUnreachable.
    """
    there = partitions_of_topics(settings.kafka_access)
    by: dict[str, str] = {}
    closed: dict[tuple[int, int, str], tuple[str, str]] = {}  # by which action, and why
    for entry in read_entries(settings, there[settings.audit_topic]) if settings.audit_topic in there else ():
        if isinstance(entry, AuditAction):
            by[entry.id] = entry.by
        elif entry.topic == settings.topic and entry.end in CLOSED:
            origin = entry.partition, entry.offset, entry.digest
            if entry.end in ("parked", "resolved"):
                closed[origin] = entry.action, entry.reason
            place = "{}:{}".format(*entry.letter)
            yield DeadLetterRow(*origin, entry.end, place, entry.end, by.get(entry.action, ""), entry.reason)
    if settings.dead_letter_topic not in there:
        return  # no worker has run yet
    shelf = list_dead_letters(settings, DeadLetterFilter(closed=True))
    for head in shelf.letters:
        if head.origin.topic == settings.topic:
            done = shelf.trail.ledger.last_outcome(head)
            end = done.end if done is not None else ""
            origin = head.origin.partition, head.origin.offset, head.origin.digest
            action, why = closed.get(origin, ("", "")) if end in ("parked", "resolved") else ("", "")
            yield DeadLetterRow(*origin, head.reason, head.location, end, by.get(action, ""), why)


@dataclass
class TopicExtent:
    """The extent of a topic, by partition: `begins` has its first offset, `starts` and `ends` the offsets read.

    `lost` is the latest possible arrival of a record lost to retention, or None if the topic is complete.
    """

    begins: dict[int, int] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    lost: datetime | None = None

    def lacks(self, partition: int, offset: int) -> bool:
        """Return whether the topic has lost the record. False for records that exist but were not read."""
        if partition not in self.begins:
            return False
        unread = self.begins[partition] <= offset < self.starts[partition]
        return not unread and offset < self.ends[partition]


async def read_topic(
    settings: Settings,
    event_store: EventStore,
    expected: ExpectedDocuments,
    now: datetime,
    first: date | None = None,
    progress: Progress = lambda _: None,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> TopicExtent:
    """Add the topic's records to the event store and return the topic's extent.

    With `first`, read only records that can concern business days from then on. `only` filters records. Raises
    BrokerUnreachable.
    """
    extent = TopicExtent()
    with open_consumer(settings.kafka_access, settings.topic) as consumer:
        there = offset_ranges(
            consumer, settings.topic, range(partitions_of_topics(settings.kafka_access)[settings.topic])
        )
        extent.begins = {number: low for number, (low, _) in there.items()}
        extent.ends = {number: high for number, (_, high) in there.items()}
        extent.starts = starts = _starts(consumer, settings.topic, there, first)
        begun = {number for number, low in extent.begins.items() if 0 < low == starts[number]}
        spans = {n: (starts[n], high) for n, (_, high) in there.items() if starts[n] < high}
        for records in read_spans(consumer, settings.topic, spans, progress, _PIECE):
            for number in {record.partition for record in records}:
                of_one = [record for record in records if record.partition == number]
                if number in begun:
                    begun.discard(number)  # its first record; lost ones came before
                    at = datetime.fromtimestamp(max(0, of_one[0].timestamp) / 1000, UTC)
                    extent.lost = at if extent.lost is None else max(extent.lost, at)
                wanted = list(filter(only, of_one))
                rows, closes = await expected.rows(Batch(settings.topic, number, wanted), now)
                event_store.add(rows)
                event_store.add_closes(closes)
    if begun:  # partitions that have nothing any more; who knows of when that was
        extent.lost = now
    return extent


async def read_dead_letters_without_record(
    settings: Settings,
    event_store: EventStore,
    expected: ExpectedDocuments,
    now: datetime,
    extent: TopicExtent,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> None:
    """Add the records that have left the topic from their dead letters, which hold them byte for byte.

    The event store already has the dead letters and the records read from the topic. Raises BrokerUnreachable.
    """
    alone = {place for place in event_store.dead_letters_without_record() if extent.lacks(place[0], place[1])}
    topic = settings.dead_letter_topic
    there = partitions_of_topics(settings.kafka_access).get(topic, 0)
    for records in read_partitions(settings.kafka_access, topic, range(there)) if alone else ():
        for record in filter(only, records):
            head = parse_header(record, topic)
            _, partition, offset, digest = head.origin
            if head.origin.topic != settings.topic or (partition, offset, digest) not in alone:
                continue
            alone.discard((partition, offset, digest))  # it may have failed several times
            arrived = milliseconds(head.first_failed)
            its_record = TopicRecord(partition, offset, arrived, record.key, record.value, record.headers)
            rows, _ = await expected.rows(Batch(settings.topic, partition, [its_record]), now)
            event_store.add(row._replace(digest=digest) for row in rows)


async def sent_documents(
    settings: Settings, expected: ExpectedDocuments, now: datetime, events: Sequence[EventRow], most: int = 2_000
) -> dict[str, ErpDocument]:
    """Return by reference the documents that these receipts' records make; of the first `most`.

    A receipt whose record is gone from the topic is left out. Raises BrokerUnreachable.
    """
    wanted = {(event.event_id, event.ref) for event in events[:most]}
    places: dict[int, set[int]] = defaultdict(set)
    for event in events[:most]:
        places[event.partition].add(event.offset)
    found: dict[str, ErpDocument] = {}
    with open_consumer(settings.kafka_access, settings.topic) as consumer:
        there = offset_ranges(consumer, settings.topic, sorted(places)) if places else {}
        for number, offsets in places.items():
            for span in _spans(sorted(offset for offset in offsets if there[number][0] <= offset < there[number][1])):
                for records in read_spans(consumer, settings.topic, {number: span}, lambda _: None, _PIECE):
                    chosen = [record for record in records if record.offset in offsets]
                    documents = await expected.documents(Batch(settings.topic, number, chosen), now)
                    found |= {
                        each.external_ref: each for each in documents if (each.event_id, each.external_ref) in wanted
                    }
    return found


def _spans(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return the spans to read for these offsets. Near ones share a span, which is faster than another request."""
    spans: list[tuple[int, int]] = []
    for offset in offsets:
        if spans and offset - spans[-1][1] < _NEAR:
            spans[-1] = (spans[-1][0], offset + 1)
        else:
            spans.append((offset, offset + 1))
    return spans


def _starts(consumer: Any, topic: str, there: dict[int, tuple[int, int]], first: date | None) -> dict[int, int]:
    if first is None:
        return {number: low for number, (low, _) in there.items()}
    begins = milliseconds(datetime.combine(first, time(), UTC))  # which may be the first day that there is
    since = max(0, begins - _SLACK // timedelta(milliseconds=1))
    return offsets_at(consumer, topic, there, since)


def day_ends(expected: ExpectedDocuments, store: str, day: date) -> datetime:
    """Return when the store's business day is over; for an unknown store, when the day is over in UTC."""
    return end_of_business_date(day, expected.store(store) or Store())
