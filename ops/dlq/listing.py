"""The dead letters of the topic: the latest of each record, and whether it is resolved."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ops.dlq.filters import DeadLetterFilter
from streams.dead_letters.audit import CLOSED, AuditAction, AuditOutcome, ResolutionIndex, read_entries
from streams.dead_letters.header import DeadLetterHeader, RecordOrigin, parse_header
from streams.kafka.errors import TopicsUnusable
from streams.kafka.reader import Progress, TopicRecord, read_partitions
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings


@dataclass
class AuditRead:
    """The resolutions by record, the actions by id with their outcomes, and the dead letters that one action has
    tried."""

    ledger: ResolutionIndex = field(default_factory=ResolutionIndex)
    actions: dict[str, AuditAction] = field(default_factory=dict)
    tried: set[tuple[int, int]] = field(default_factory=set)


@dataclass
class DeadLetterListing:
    """The result of reading the topics. `ends`: the end offsets of the dead-letter topic's partitions at that time."""

    letters: list[DeadLetterHeader]
    trail: AuditRead
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def open(self) -> list[DeadLetterHeader]:
        """The letters about which something is left to do."""
        return [head for head in self.letters if not self.trail.ledger.is_closed(head)]


def list_dead_letters(
    settings: Settings, wanted: DeadLetterFilter, progress: Progress = lambda _: None, of: str | None = None
) -> DeadLetterListing:
    """Return the dead letters that match the filter, by location; each record once, with its latest dead letter.

    Closed ones are left out, unless the filter asks for them. The whole dead-letter topic is read. Raises
    TopicsUnusable and BrokerUnreachable.
    """
    there = partitions_of_topics(settings.kafka_access)
    if settings.dead_letter_topic not in there:
        raise TopicsUnusable(
            f"the topic {settings.dead_letter_topic} does not exist at {settings.broker}; it is created when it is "
            "needed, or set `dead_letter_topic` (`parked_topic`)"
        )
    shelf = DeadLetterListing([], read_audit(settings, there, of))
    matches = wanted.matcher()
    newest: dict[RecordOrigin, tuple[DeadLetterHeader, bool]] = {}
    for record in _records(settings, there[settings.dead_letter_topic], progress):
        head = parse_header(record, settings.dead_letter_topic)
        shelf.ends[record.partition] = record.offset + 1
        known = newest.get(head.origin)
        if known is None or head.supersedes(known[0]):
            newest[head.origin] = (head, matches(head, record))
    meant = [head for head, fits in newest.values() if fits]
    shelf.letters = sorted(meant, key=lambda head: (head.partition, head.offset))
    if not wanted.closed:
        shelf.letters = shelf.open
    return shelf


def read_audit(settings: Settings, there: dict[str, int] | None = None, of: str | None = None) -> AuditRead:
    """Return the whole audit trail; for the action `of`, the places of the letters that it has tried.

    Raises BrokerUnreachable.
    """
    there = partitions_of_topics(settings.kafka_access) if there is None else there
    parked = settings.dead_letter_topic == settings.parked_topic  # where that one is looked at, it is no end
    trail = AuditRead(ResolutionIndex([end for end in CLOSED if end != "parked"] if parked else CLOSED))
    ends: dict[str, Counter[str]] = {}
    for entry in read_entries(settings, there[settings.audit_topic]) if settings.audit_topic in there else ():
        if isinstance(entry, AuditOutcome):
            trail.ledger.note(entry)
            ends.setdefault(entry.action, Counter())[entry.end] += 1
            if entry.action == of:
                trail.tried.add(entry.letter)
        else:
            trail.actions[entry.id] = entry
    for action in trail.actions.values():
        if action.id in ends:  # of a replay that was killed or resumed, what each piece did
            action.counts = dict(sorted(ends[action.id].items()))
    return trail


def history(settings: Settings, origin: RecordOrigin) -> tuple[list[DeadLetterHeader], list[AuditOutcome]]:
    """All letters of a record, and all that was done about it, in order of time."""
    there = partitions_of_topics(settings.kafka_access)
    topic = settings.dead_letter_topic
    every = (parse_header(record, topic) for record in _records(settings, there.get(topic, 0), lambda _: None))
    heads = [head for head in every if head.origin == origin]
    trail = read_entries(settings, there[settings.audit_topic]) if settings.audit_topic in there else ()
    done = [entry for entry in trail if isinstance(entry, AuditOutcome) and entry.origin == origin]
    return sorted(heads, key=lambda head: (head.attempts, head.last_failed, head.offset)), done


def _records(settings: Settings, partitions: int, progress: Callable[[int], None]) -> Iterator[TopicRecord]:
    for piece in read_partitions(settings.kafka_access, settings.dead_letter_topic, range(partitions), progress):
        yield from piece
