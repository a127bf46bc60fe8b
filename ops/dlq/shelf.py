"""The dead letters that there are: the newest of each record, and whether something was done about it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ops.dlq.filters import Filter
from streams.letters.heads import Head, Origin, head_of
from streams.letters.reading import Progress, TopicRecord, pieces
from streams.letters.trail import CLOSED, Action, Ledger, Outcome, entries
from streams.settings import Settings
from streams.topics import TopicsUnusable, partitions_of_topics


@dataclass
class TrailRead:
    """What was done about each record; the actions by id, as they ended if they have; how many letters each tried."""

    ledger: Ledger = field(default_factory=Ledger)
    actions: dict[str, Action] = field(default_factory=dict)
    tried: Counter[str] = field(default_factory=Counter)


@dataclass
class Shelf:
    """What a look at the topics found. `ends`: where the dead-letter topic's partitions ended then."""

    letters: list[Head]
    trail: TrailRead
    ends: dict[int, int] = field(default_factory=dict)
    read: int = 0

    @property
    def open(self) -> list[Head]:
        """The letters about which something is left to do."""
        return [head for head in self.letters if not self.trail.ledger.is_closed(head)]


def survey(settings: Settings, wanted: Filter, progress: Progress = lambda _: None) -> Shelf:
    """The letters that the filter means, by place; each record once, however often it became a letter.

    What is closed is left out, unless the filter asks for it. The whole dead-letter topic is read. Raises
    TopicsUnusable and BrokerUnreachable.
    """
    there = partitions_of_topics(settings)
    if settings.dead_letter_topic not in there:
        raise TopicsUnusable(
            f"the topic {settings.dead_letter_topic} does not exist at {settings.broker}; a worker creates it, or set "
            "`dead_letter_topic`"
        )
    shelf = Shelf([], read_trail(settings, there))
    matches = wanted.matcher()
    newest: dict[Origin, tuple[Head, bool]] = {}
    for record in _records(settings, there[settings.dead_letter_topic], progress):
        head = head_of(record, settings.dead_letter_topic)
        shelf.read += 1
        shelf.ends[record.partition] = record.offset + 1
        known = newest.get(head.origin)
        if known is None or head.is_newer_than(known[0]):
            newest[head.origin] = (head, matches(head, record))
    meant = [head for head, fits in newest.values() if fits]
    shelf.letters = sorted(meant, key=lambda head: (head.partition, head.offset))
    if not wanted.closed:
        shelf.letters = shelf.open
    return shelf


def read_trail(settings: Settings, there: dict[str, int] | None = None) -> TrailRead:
    """The whole audit trail. Raises BrokerUnreachable."""
    there = partitions_of_topics(settings) if there is None else there
    parked = settings.dead_letter_topic == settings.parked_topic  # where that one is looked at, it is no end
    trail = TrailRead(Ledger([end for end in CLOSED if end != "parked"] if parked else CLOSED))
    for entry in entries(settings, there[settings.audit_topic]) if settings.audit_topic in there else ():
        if isinstance(entry, Outcome):
            trail.ledger.note(entry)
            trail.tried[entry.action] += 1
        else:
            trail.actions[entry.id] = entry
    return trail


def history(settings: Settings, origin: Origin) -> tuple[list[Head], list[Outcome]]:
    """All letters of a record, and all that was done about it, in order of time."""
    there = partitions_of_topics(settings)
    topic = settings.dead_letter_topic
    heads = [head_of(record, topic) for record in _records(settings, there.get(topic, 0), lambda _: None)]
    trail = entries(settings, there[settings.audit_topic]) if settings.audit_topic in there else ()
    done = [entry for entry in trail if isinstance(entry, Outcome) and entry.origin == origin]
    return sorted((h for h in heads if h.origin == origin), key=lambda h: (h.attempts, h.last_failed, h.offset)), done


def _records(settings: Settings, partitions: int, progress: Callable[[int], None]) -> Iterator[TopicRecord]:
    for piece in pieces(settings, settings.dead_letter_topic, range(partitions), progress):
        yield from piece
