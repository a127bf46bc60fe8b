"""The audit log: actions on dead letters, their operators and outcomes. A topic of its own.

It is a topic, because it must outlive the tool that writes it, and be next to the dead letters. Kinds of records, all
JSON:

- An action (`AuditAction`) when it begins, and again when it ends, keyed by its id.
- The outcomes of an action, equal ones grouped (`OutcomeGroup`), keyed by its id too. They are confirmed before the
  dead letters are committed as read, so a run that continues after a crash finds every outcome, or repeats the work.
- The states of some hundred store-days (`streams.dead_letters.day_states`), which are not entries of this log.
- The documents that a repair took back (`streams.dead_letters.removed_documents`), keyed by its id, which are no
  entries either.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from sinks.base import ReferenceSnapshot
from streams.dead_letters.header import DeadLetterHeader, RecordOrigin
from streams.dead_letters.removed_documents import erp_url, to_pieces
from streams.kafka.errors import kafka_errors
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import TopicRecord, assign, create_consumer, read_partitions, split_messages
from streams.settings import Settings

#: ActionKind became of a letter. `failed` leaves it open: a newer letter tells why.
OutcomeEnd = Literal["delivered", "superseded", "duplicate", "noted", "failed", "parked", "resolved", "refused"]
#: Those after which nothing is left to do.
CLOSED: tuple[OutcomeEnd, ...] = ("delivered", "superseded", "duplicate", "noted", "parked", "resolved")
ActionKind = Literal["replay", "park", "resolve", "export", "purge", "reveal", "repair", "undo"]


class AuditAction(BaseModel):
    """Something done about many letters. Fields that a later version adds are ignored.

    `until`: where the dead-letter topic's partitions ended at the beginning.
    """

    kind: Literal["action"] = "action"
    id: str
    what: ActionKind
    state: Literal["begun", "done", "stopped", "failed"]
    by: str
    at: datetime
    filter: dict[str, Any] = {}
    reason: str = ""
    patch: Any = None
    options: dict[str, Any] = {}
    until: dict[int, int] = {}
    counts: dict[str, int] = {}


class AuditOutcome(NamedTuple):
    """The outcome of one dead letter.

    `attempts` is the dead letter's: this and every earlier one is resolved. `letter` is its partition and offset in the
    dead-letter topic.
    """

    action: str
    topic: str
    partition: int
    offset: int
    digest: str
    attempts: int
    letter: tuple[int, int]
    end: OutcomeEnd
    at: datetime
    reason: str = ""
    detail: str = ""

    @property
    def origin(self) -> RecordOrigin:
        """Where the record came from."""
        return RecordOrigin(self.topic, self.partition, self.offset, self.digest)


class OutcomeGroup(BaseModel):
    """Equal outcomes of several dead letters in one record: a record for each would cost more than the dead letter did.

    `letters` has the offset and digest of each record, and the partition and offset of its dead letter.
    """

    kind: Literal["outcomes"] = "outcomes"
    action: str
    topic: str
    partition: int
    attempts: int
    end: OutcomeEnd
    reason: str = ""
    detail: str = ""
    at: datetime
    letters: list[tuple[int, str, int, int]]

    def outcomes(self) -> Iterator[AuditOutcome]:
        """Letter by letter."""
        for offset, digest, *letter in self.letters:
            yield AuditOutcome(
                self.action,
                self.topic,
                self.partition,
                offset,
                digest,
                self.attempts,
                (letter[0], letter[1]),
                self.end,
                self.at,
                self.reason,
                self.detail,
            )


Entry = AuditAction | AuditOutcome
_RECORD: TypeAdapter[AuditAction | OutcomeGroup] = TypeAdapter(
    Annotated[AuditAction | OutcomeGroup, Field(discriminator="kind")]
)
#: Letters in one record, of some 60 bytes each: well below what brokers take without being told.
_TOGETHER = 4_000
#: Records that a follower takes at once, and seconds that it waits for the first ones.
_PIECE = 1_000
_POLL = 0.1


class LastOutcome(NamedTuple):
    """The last outcome of a record: up to which attempt, with which end."""

    attempts: int
    end: OutcomeEnd


_done = lru_cache(LastOutcome)  # one for all equal ones


def new_action_id() -> str:
    """Return an action's id; ids sort by time."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S-%f}"[:-3] + secrets.token_hex(1)


def group_outcomes(
    action: str, ended: Iterable[tuple[DeadLetterHeader, OutcomeEnd, str, str]]
) -> Iterator[OutcomeGroup]:
    """Yield the action's outcomes (each with its end, reason and detail), equal ones grouped."""
    groups: dict[tuple[str, int, int, OutcomeEnd, str, str], list[tuple[int, str, int, int]]] = defaultdict(list)
    for head, end, reason, detail in ended:
        topic, partition, offset, digest = head.origin
        group = groups[topic, partition, head.attempts, end, reason, detail]
        group.append((offset, digest, head.partition, head.offset))
    now = datetime.now(UTC)
    for (topic, partition, attempts, end, reason, detail), letters in groups.items():
        for start in range(0, len(letters), _TOGETHER):
            yield OutcomeGroup(
                action=action,
                topic=topic,
                partition=partition,
                attempts=attempts,
                end=end,
                reason=reason,
                detail=detail,
                at=now,
                letters=letters[start : start + _TOGETHER],
            )


def parse_entries(record: TopicRecord) -> Sequence[Entry]:
    """Return the entries in a record of the audit topic; none for store-days and for foreign records."""
    try:
        found = _RECORD.validate_json(record.value or b"")
    except ValidationError:
        return ()
    return tuple(found.outcomes()) if isinstance(found, OutcomeGroup) else (found,)


def read_entries(settings: Settings, partitions: int) -> Iterable[Entry]:
    """Yield the whole trail, in order within a partition. Raises BrokerUnreachable."""
    for records in read_partitions(settings.kafka_access, settings.audit_topic, range(partitions)):
        for record in records:
            yield from parse_entries(record)


class ResolutionIndex:
    """The last outcome of each record. `closed`: the ends that resolve a record.

    A log may hold millions of records: they are kept by hash, in some 100 bytes each. The chance that two of a million
    share the same 64 bits is 10 ** -7.
    """

    def __init__(self, closed: Sequence[OutcomeEnd] = CLOSED) -> None:
        self._closed = closed
        self._done: dict[int, LastOutcome] = {}

    def note(self, outcome: AuditOutcome) -> None:
        """Record the outcome, unless one of a later attempt is known, or one that ended this attempt."""
        key = hash(outcome.origin)
        known = self._done.get(key)
        if (
            known is None
            or outcome.attempts > known.attempts
            or (outcome.attempts == known.attempts and not self._ended(known, outcome.end))
        ):
            self._done[key] = _done(outcome.attempts, outcome.end)

    def _ended(self, known: LastOutcome, end: OutcomeEnd) -> bool:
        return known.end in self._closed and end not in self._closed

    def last_outcome(self, head: DeadLetterHeader) -> LastOutcome | None:
        """Return the last outcome of this dead letter, or of a later attempt at its record."""
        done = self._done.get(hash(head.origin)) if self._done else None
        return done if done is not None and done.attempts >= head.attempts else None

    def is_closed(self, head: DeadLetterHeader) -> bool:
        """Whether nothing is left to do about the letter."""
        done = self.last_outcome(head)
        return done is not None and done.end in self._closed


class AuditTail:
    """Reads the log as it grows, into an index. Close it when done.

    `but`: an action whose outcomes are left out, since it is the reader's own.
    """

    def __init__(self, settings: Settings, partitions: int, ledger: ResolutionIndex, exclude: str = "") -> None:
        self._exclude = exclude.encode()
        self._reading = f"reading {settings.audit_topic} at {settings.broker}"
        self._consumer = create_consumer(settings.kafka_access)
        assign(self._consumer, settings.audit_topic, range(partitions), 0)
        self._ledger = ledger
        self._open = set(range(partitions))

    def read(self) -> None:
        """Read new entries; the first time, all of them. Raises BrokerUnreachable.

        Asking the broker for the end of the log would wait for the client's own fetch, half a second.
        """
        with kafka_errors(self._reading):
            while self._open:
                self._note(self._consumer.consume(_PIECE, timeout=_POLL))
            while messages := self._consumer.consume(_PIECE, timeout=0):
                self._note(messages)

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()

    def _note(self, messages: Sequence[Any]) -> None:
        records, ended = split_messages(messages)
        for record in records:
            self._note_record(record)
        self._open -= ended  # one of them may end again before another has been read

    def _note_record(self, record: TopicRecord) -> None:
        if record.key != self._exclude:
            for entry in parse_entries(record):
                if isinstance(entry, AuditOutcome):
                    self._ledger.note(entry)


class AuditWriter:
    """Writes entries, which are safe when `confirm` returns."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.audit_topic
        self._erp = erp_url(settings)
        self._sender = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)

    def write(self, action: AuditAction) -> None:
        """Send it."""
        self._sender.send(self._topic, action.id.encode(), action.model_dump_json().encode())

    def write_outcomes(self, outcomes: Iterable[OutcomeGroup]) -> None:
        """Send them; of one letter there is one."""
        for one in outcomes:
            self._sender.send(self._topic, one.action.encode(), one.model_dump_json().encode())

    def write_removed(self, action: str, kept: Iterable[ReferenceSnapshot]) -> None:
        """Send the documents that the action is about to take back, and wait until the broker has them all.

        Raises BrokerUnreachable.
        """
        for piece in to_pieces(action, self._erp, kept):
            self._sender.send(self._topic, action.encode(), piece.model_dump_json().encode())
        self._sender.confirm()

    def confirm(self) -> None:
        """Return when the broker has them all. Raises BrokerUnreachable."""
        self._sender.confirm()
