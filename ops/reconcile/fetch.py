"""The facts, fetched: the source topic by event time, the dead letters, and how far the workers are."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

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
from streams.kafka.reader import Progress, TopicRecord, limits, pieces, read_spans, reading_consumer
from streams.kafka.topics import TIMEOUT, BrokerUnreachable, TopicsUnusable, partitions_of_topics
from streams.settings import Settings

#: An event may be this much later than its record, or the line takes it for implausible; and no time zone is further
#: from UTC than half of it.
_SLACK = timedelta(days=2)
#: Records at once: as events they take some ten kilobytes each.
_PIECE = 1_000
#: Records between two wanted ones that are read as well.
_NEAR = 500


def committed(settings: Settings) -> dict[int, int]:
    """Of each partition of the topic, where the workers' group reads next; 0 where it has read nothing.

    Raises TopicsUnusable and BrokerUnreachable.
    """
    partitions = partitions_of_topics(settings).get(settings.topic)
    if partitions is None:
        raise TopicsUnusable(f"the topic {settings.topic} does not exist at {settings.broker}; set `topic`")
    places = [TopicPartition(settings.topic, number) for number in range(partitions)]
    # By a consumer that never joins: librdkafka's admin client crashes on a coordinator that has just moved
    # (https://github.com/confluentinc/confluent-kafka-javascript/issues/374).
    consumer = reading_consumer(settings, **{"group.id": settings.group})
    try:
        answer = _committed(consumer, places)
    except KafkaException as error:
        raise BrokerUnreachable(f"offsets of {settings.group} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()
    return {place.partition: max(0, place.offset) for place in answer}


#: What brokers say while the group's coordinator is made, moves or loads: on a new broker, for the first one who asks.
_PASSING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


def _committed(consumer: Any, places: list[TopicPartition]) -> list[TopicPartition]:
    deadline = monotonic() + TIMEOUT
    while True:
        try:
            answer: list[TopicPartition] = consumer.committed(places, timeout=TIMEOUT)
            faults = [place.error for place in answer if place.error is not None]
            if faults:
                raise KafkaException(faults[0])
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or monotonic() > deadline:
                raise
            sleep(0.2)
        else:
            return answer


def dead_letters(settings: Settings) -> Iterator[DeadLetterRow]:
    """The letters of the topic's records, whatever was done about them: of each the last that is yielded counts.

    First those of the audit trail, as what was purged since, or parked, is in no other place any more; then those that
    there are. Raises BrokerUnreachable.
    """
    there = partitions_of_topics(settings)
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
    """What a topic has. Of each partition, `begins`: its first offset; `starts` and `ends`: what was read of it.

    `lost`: when the last record arrived that the topic has lost to its retention, at the latest; None when it has all.
    """

    begins: dict[int, int] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    lost: datetime | None = None

    def lacks(self, partition: int, offset: int) -> bool:
        """Whether a record that was there is not there any more, and is not one that was left unread."""
        if partition not in self.begins:
            return False
        unread = self.begins[partition] <= offset < self.starts[partition]
        return not unread and offset < self.ends[partition]


async def read_topic(
    settings: Settings,
    book: EventStore,
    judge: ExpectedDocuments,
    now: datetime,
    first: date | None = None,
    progress: Progress = lambda _: None,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> TopicExtent:
    """Puts what the topic has now into the book; with `first`, what can concern business days from then on;
    `only` these records.

    Returns what the topic has of all that it had. Raises BrokerUnreachable.
    """
    consumer = reading_consumer(settings)
    extent = TopicExtent()
    try:
        there = limits(consumer, settings.topic, range(partitions_of_topics(settings)[settings.topic]))
        extent.begins = {number: low for number, (low, _) in there.items()}
        extent.ends = {number: high for number, (_, high) in there.items()}
        extent.starts = starts = _starts(consumer, settings.topic, there, first)
        begun = {number for number, low in extent.begins.items() if 0 < low == starts[number]}
        spans = {n: (starts[n], high) for n, (_, high) in there.items() if starts[n] < high}
        for records in read_spans(consumer, settings.topic, spans, progress, _PIECE):
            for number in {record.partition for record in records}:
                of_one = [record for record in records if record.partition == number]
                if number in begun:
                    begun.discard(number)  # its first record; what it has lost came before
                    at = datetime.fromtimestamp(max(0, of_one[0].timestamp) / 1000, UTC)
                    extent.lost = at if extent.lost is None else max(extent.lost, at)
                wanted = list(filter(only, of_one))
                rows, closes = await judge.rows(Batch(settings.topic, number, wanted), now)
                book.add(rows)
                book.add_closes(closes)
    except KafkaException as error:
        raise BrokerUnreachable(f"reading {settings.topic} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()
    if begun:  # partitions that have nothing any more; who knows of when that was
        extent.lost = now
    return extent


async def read_letters_alone(
    settings: Settings,
    book: EventStore,
    judge: ExpectedDocuments,
    now: datetime,
    extent: TopicExtent,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> None:
    """Put dead letters into the book whose records have left the topic: a letter has its record byte for byte.

    The book has the letters already, and all that was read of the topic. Raises BrokerUnreachable.
    """
    alone = {place for place in book.letters_alone() if extent.lacks(place[0], place[1])}
    topic = settings.dead_letter_topic
    there = partitions_of_topics(settings).get(topic, 0)
    for records in pieces(settings, topic, range(there)) if alone else ():
        for record in filter(only, records):
            head = parse_header(record, topic)
            _, partition, offset, digest = head.origin
            if head.origin.topic != settings.topic or (partition, offset, digest) not in alone:
                continue
            alone.discard((partition, offset, digest))  # it may have failed several times
            arrived = milliseconds(head.first_failed)
            its_record = TopicRecord(partition, offset, arrived, record.key, record.value, record.headers)
            rows, _ = await judge.rows(Batch(settings.topic, partition, [its_record]), now)
            book.add(row._replace(digest=digest) for row in rows)


async def sent_documents(
    settings: Settings, judge: ExpectedDocuments, now: datetime, facts: Sequence[EventRow], most: int = 2_000
) -> dict[str, ErpDocument]:
    """Return by reference the documents that these receipts' records make; of the first `most`.

    A receipt whose record is gone from the topic is left out. Raises BrokerUnreachable.
    """
    wanted = {(fact.event_id, fact.ref) for fact in facts[:most]}
    places: dict[int, set[int]] = defaultdict(set)
    for fact in facts[:most]:
        places[fact.partition].add(fact.offset)
    found: dict[str, ErpDocument] = {}
    consumer = reading_consumer(settings)
    try:
        there = limits(consumer, settings.topic, sorted(places)) if places else {}
        for number, offsets in places.items():
            for span in _spans(sorted(offset for offset in offsets if there[number][0] <= offset < there[number][1])):
                for records in read_spans(consumer, settings.topic, {number: span}, lambda _: None, _PIECE):
                    chosen = [record for record in records if record.offset in offsets]
                    documents = await judge.documents(Batch(settings.topic, number, chosen), now)
                    found |= {
                        each.external_ref: each for each in documents if (each.event_id, each.external_ref) in wanted
                    }
    except KafkaException as error:
        raise BrokerUnreachable(f"reading {settings.topic} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()
    return found


def _spans(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """The spans to read for these offsets: what is near is read in one go, which is sooner than to ask again."""
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
    asked = [TopicPartition(topic, number, since) for number in there]
    found = consumer.offsets_for_times(asked, timeout=TIMEOUT)
    return {place.partition: place.offset if place.offset >= 0 else there[place.partition][1] for place in found}


def day_ends(judge: ExpectedDocuments, store: str, day: date) -> datetime:
    """Return when the store's business day is over; for an unknown store, when the day is over in UTC."""
    return end_of_business_date(day, judge.store(store) or Store())
