"""Bad records go to the dead-letter topic as they came, with their reason, and are safe there before they are acked."""

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.dead_letter import Reason
from streams.batch import Headers, Rejection

CONNECT = "__connect.errors."
OWN = "tillstream."
#: Of Kafka Connect's names those that are written here; a connector's others stay as they are.
_WRITTEN = {
    CONNECT + name for name in ("topic", "partition", "offset", "stage", "exception.class.name", "exception.message")
}
TRUNCATION = (OWN + "truncated", OWN + "sha256")
#: Stands for the headers of somebody else's letter that confluent-kafka can't read, as a name is not UTF-8.
UNREADABLE = OWN + "unreadable_headers"


class DeadLetterRecord(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


#: Sends letters, in order; returns when the broker has confirmed them all.
Publish = Callable[[Sequence[DeadLetterRecord]], Awaitable[None]]
Clock = Callable[[], datetime]


class BudgetExceeded(Exception):
    """So many records are rejected that it is more likely us than them: nothing more may be dead-lettered."""


class BudgetGuard:
    """Watches the share of rejections among the latest `sample` records, batch by batch.

    A batch passes while all rejections among them, its own included, are at most ratio × sample, or while its own share
    is at most `ratio`. So a topic of nothing but rejections stops after ratio × sample of them; or sooner, when more
    than `max_consecutive` records are rejected with none between them that is not.
    """

    def __init__(self, ratio: float, sample: int, max_consecutive: int | None = None) -> None:
        self._most = max(1, int(ratio * sample))
        self._sample = sample
        self._max_consecutive = max_consecutive
        self._run = 0
        self._latest: deque[tuple[int, int]] = deque()
        self._records = self._rejected = 0

    @property
    def used(self) -> float:
        """The share of the budget that is used up; above 1 it is exceeded."""
        return self._rejected / self._most

    def reset(self) -> None:
        """Forgets what was counted."""
        self._latest.clear()
        self._records = self._rejected = self._run = 0

    def spend(self, records: int, rejected: int, in_order: Iterable[bool] = ()) -> None:
        """Counts a batch. Raises BudgetExceeded, and counts nothing, when its rejections don't fit any more.

        `in_order`: of each record whether it is rejected; not needed where none is.
        """
        run = self._run_after(in_order) if rejected else 0
        fits = self._rejected + rejected <= self._most or rejected <= self._most * records / self._sample
        if not fits:
            raise BudgetExceeded(
                f"{self._rejected + rejected} of the latest {self._records + records} records would be dead letters, "
                f"the budget is {self._most} in {self._sample}; find out what they have in common; then change the "
                "mapping, or restart with what is right, or send SIGUSR1 if they are to be dead letters"
            )
        self._run = run
        self._latest.append((records, rejected))
        self._records += records
        self._rejected += rejected
        while self._records - self._latest[0][0] >= self._sample:
            old_records, old_rejected = self._latest.popleft()
            self._records -= old_records
            self._rejected -= old_rejected

    def _run_after(self, in_order: Iterable[bool]) -> int:
        """The run of rejections that the batch ends with. Raises BudgetExceeded for one that is too long."""
        run = self._run
        for rejected in in_order:
            run = run + 1 if rejected else 0
            if self._max_consecutive is not None and run > self._max_consecutive:
                raise BudgetExceeded(
                    f"more than {self._max_consecutive} records in a row would be dead letters; find out what they have in "
                    "common; then change the mapping, or restart with what is right, or send SIGUSR1 if they are to be "
                    "dead letters"
                )
        return run


#: For what somebody has looked at and let through.
NO_LIMIT = 10**12


class DeadLetterWriter:
    """Puts rejections into the dead-letter topic."""

    def __init__(self, publish: Publish, now: Clock) -> None:
        self._publish = publish
        self._now = now

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str = "") -> None:
        """Returns when the broker has confirmed every rejected record, in the order of their offsets.

        One letter a record, with the reason of the first of its events: a record may hold thousands that are refused.
        """
        if rejections:
            now = self._now()
            ordered = first_per_record(rejections)
            await self._publish(
                [dead_letter_record(rejection, topic, partition, now, versions) for rejection in ordered]
            )


def first_per_record(rejections: Sequence[Rejection]) -> list[Rejection]:
    """The first rejection of each record of a batch, by offset."""
    firsts: dict[int, Rejection] = {}
    for rejection in rejections:
        firsts.setdefault(rejection.record.offset, rejection)
    return [firsts[offset] for offset in sorted(firsts)]


def dead_letter_record(
    rejection: Rejection, topic: str, partition: int, now: datetime, versions: str = ""
) -> DeadLetterRecord:
    """The rejected record, byte for byte, with its headers overwritten, never appended, where they are ours.

    `versions` are those of the contract and of the mapping by which it was read.
    """
    record, event = rejection.record, rejection.event
    before = {name: value for name, value in record.headers if name.startswith(OWN)}
    theirs = [header for header in record.headers if not _ours(header)]
    ours = {
        CONNECT + "topic": topic,
        CONNECT + "partition": str(partition),
        CONNECT + "offset": str(record.offset),
        CONNECT + "stage": rejection.stage,
        CONNECT + "exception.class.name": rejection.reason.value,
        CONNECT + "exception.message": rejection.detail,
        OWN + "reason": rejection.reason.value,
        OWN + "detail": rejection.detail,
        OWN + "attempts": str(_attempts(before) + 1),
        OWN + "first_failed_at": _text(before.get(OWN + "first_failed_at")) or _timestamp(now),
        OWN + "last_failed_at": _timestamp(now),
    }
    if event is not None:
        ours[OWN + "event_id"] = event.identity
        ours[OWN + "store"] = event.store
        ours[OWN + "receipt"] = event.receipt_ref
        ours[OWN + "amount"] = f"{event.totals['gross']} {event.currency}"
    if versions:
        ours[OWN + "mapping_version"] = versions
    for name in (OWN + "replay_id", UNREADABLE, *TRUNCATION):
        stated = _text(before.get(name))
        if stated:
            ours[name] = stated
    return DeadLetterRecord(
        record.key, record.value, [*theirs, *((name, value.encode()) for name, value in ours.items())]
    )


def record_size(made: DeadLetterRecord) -> int:
    """Bytes of what came with the record: key, value and its own headers."""
    return sum(len(part or b"") for part in made[:2]) + sum(
        _room(header) for header in made.headers if not _ours(header)
    )


def truncate(made: DeadLetterRecord, room: int) -> DeadLetterRecord:
    """The letter with at most `room` bytes of its record: the key first, then the value, then headers while they fit.

    Says so in two headers: the size of the whole value in bytes, and its SHA-256. Where the whole record still lies is
    in the others.
    """
    key = made.key if made.key is None else made.key[:room]
    room -= len(key or b"")
    value = made.value if made.value is None else made.value[:room]
    room -= len(value or b"")
    theirs = []
    for header in made.headers:
        if not _ours(header) and _room(header) <= room:
            theirs.append(header)
            room -= _room(header)
    whole = made.value or b""
    facts = (str(len(whole)), hashlib.sha256(whole).hexdigest())
    ours = [header for header in made.headers if _ours(header) and header[0] not in TRUNCATION]
    marks = [(name, fact.encode()) for name, fact in zip(TRUNCATION, facts, strict=True)]
    return DeadLetterRecord(key, value, [*theirs, *ours, *marks])


def _ours(header: tuple[str, bytes]) -> bool:
    return header[0].startswith(OWN) or header[0] in _WRITTEN


def _room(header: tuple[str, bytes | None]) -> int:
    return len(header[0].encode()) + len(header[1] or b"")  # a header may have no value


def reason_of(headers: Headers) -> Reason | None:
    """The reason a dead letter states; None when it is not one of ours."""
    stated = _text(dict(headers).get(OWN + "reason"))
    return Reason(stated) if stated in list(Reason) else None


def _attempts(before: dict[str, bytes]) -> int:
    stated = _text(before.get(OWN + "attempts")) or ""
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 10 else 0


def first_failed(headers: Headers) -> datetime | None:
    """When a record that comes again became a dead letter first; None when it does not say so."""
    stated = _text(dict(headers).get(OWN + "first_failed_at"))
    try:
        moment = datetime.fromisoformat(stated or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value is not None else None


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
