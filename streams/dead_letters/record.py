"""One dead letter: the rejected record byte for byte, with headers that say where it came from and why it failed."""

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

from schemas.dead_letter import Reason
from streams.batch import Headers, Rejection

CONNECT = "__connect.errors."
OWN = "tillstream."
#: The Kafka Connect headers that Tillstream writes; a connector's other headers stay as they are.
_WRITTEN = {
    CONNECT + name for name in ("topic", "partition", "offset", "stage", "exception.class.name", "exception.message")
}
TRUNCATION = (OWN + "truncated", OWN + "sha256")
#: Replaces the headers of another program's dead letter if confluent-kafka can't read them: a name is not UTF-8.
UNREADABLE = OWN + "unreadable_headers"


class DeadLetterRecord(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter_record(
    rejection: Rejection, topic: str, partition: int, now: datetime, versions: str = ""
) -> DeadLetterRecord:
    """Return the rejected record, byte for byte, with our headers added. Ours from an earlier attempt are overwritten.

    `versions` names the contract and the mapping that the record was read by.
    """
    record, event = rejection.record, rejection.event
    previous = {name: value for name, value in record.headers if name.startswith(OWN)}
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
        OWN + "attempts": str(_attempts(previous) + 1),
        OWN + "first_failed_at": _text(previous.get(OWN + "first_failed_at")) or _timestamp(now),
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
        text = _text(previous.get(name))
        if text:
            ours[name] = text
    return DeadLetterRecord(
        record.key, record.value, [*theirs, *((name, value.encode()) for name, value in ours.items())]
    )


def record_size(dead_letter: DeadLetterRecord) -> int:
    """Return the size of the original record in bytes: its key, its value and its own headers, without ours."""
    return sum(len(part or b"") for part in dead_letter[:2]) + sum(
        _header_size(header) for header in dead_letter.headers if not _ours(header)
    )


def truncate(dead_letter: DeadLetterRecord, room: int) -> DeadLetterRecord:
    """Cut the original record down to `room` bytes: the key first, then the value, then headers while they fit.

    Two headers record the size of the whole value in bytes and its SHA-256. The other headers say where the whole
    record is stored.
    """
    key = dead_letter.key if dead_letter.key is None else dead_letter.key[:room]
    room -= len(key or b"")
    value = dead_letter.value if dead_letter.value is None else dead_letter.value[:room]
    room -= len(value or b"")
    theirs = []
    for header in dead_letter.headers:
        if not _ours(header) and _header_size(header) <= room:
            theirs.append(header)
            room -= _header_size(header)
    whole = dead_letter.value or b""
    values = (str(len(whole)), hashlib.sha256(whole).hexdigest())
    ours = [header for header in dead_letter.headers if _ours(header) and header[0] not in TRUNCATION]
    truncation = [(name, value.encode()) for name, value in zip(TRUNCATION, values, strict=True)]
    return DeadLetterRecord(key, value, [*theirs, *ours, *truncation])


def _ours(header: tuple[str, bytes]) -> bool:
    return header[0].startswith(OWN) or header[0] in _WRITTEN


def _header_size(header: tuple[str, bytes | None]) -> int:
    return len(header[0].encode()) + len(header[1] or b"")  # a header may have no value


def reason_of(headers: Headers) -> Reason | None:
    """Return the reason in a dead letter's headers; None if it isn't one of our reason codes."""
    code = _text(dict(headers).get(OWN + "reason"))
    return Reason(code) if code in list(Reason) else None


def _attempts(previous: dict[str, bytes]) -> int:
    count = _text(previous.get(OWN + "attempts")) or ""
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def first_failed(headers: Headers) -> datetime | None:
    """Return when a record first became a dead letter; None if its headers don't say."""
    text = _text(dict(headers).get(OWN + "first_failed_at"))
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value is not None else None


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
