"""`DeadLetterHeader`: the headers of a dead letter, from any program."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256
from sys import intern
from typing import NamedTuple

from schemas.money import LIMIT, minor_digits
from schemas.reference import split_identity
from streams.dead_letters.record import CONNECT, OWN
from streams.kafka.reader import TopicRecord

#: The reason of a letter that says nothing of itself: not ours, and not Kafka Connect's.
UNKNOWN = "unknown"
#: Of a record's digest.
DIGITS = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 7_000_000_000_000  # milliseconds: in the year 2191


class RecordOrigin(NamedTuple):
    """The location where a record was first read, and a digest of its value: its identity across attempts.

    The digest is needed because a topic that is created again, or restored, begins with the same offsets.
    """

    topic: str
    partition: int
    offset: int
    digest: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(slots=True)
class DeadLetterHeader:
    """The facts in a dead letter's headers. It holds nothing personal; hundreds of thousands fit into memory.

    `partition` and `offset` are its location in the dead-letter topic. A dead letter of another program in Kafka
    Connect's convention has its exception as reason; one without any has the reason `unknown`, and its own location
    as origin.
    """

    partition: int
    offset: int
    origin: RecordOrigin
    reason: str
    stage: str
    detail: str
    attempts: int
    first_failed: datetime
    last_failed: datetime
    event_id: str
    store: str
    receipt: str
    amount: Decimal | None
    currency: str
    versions: str
    replay_id: str
    truncated: bool
    ours: bool

    @property
    def source(self) -> str:
        """The source that the event, or the contract, names."""
        if self.event_id:
            return split_identity(self.event_id)[0]
        contract = self.versions.partition(" ")[0]
        return contract.partition("@")[0] if "@" in contract else ""

    @property
    def location(self) -> str:
        """Its place in the dead-letter topic, as people name it."""
        return f"{self.partition}:{self.offset}"

    def supersedes(self, other: "DeadLetterHeader") -> bool:
        """Return whether it is a later attempt at the same record, or the same one again (after a crash)."""
        mine = (self.attempts, self.last_failed, self.offset)
        return mine > (other.attempts, other.last_failed, other.offset)


def parse_header(record: TopicRecord, topic: str) -> DeadLetterHeader:
    """Parse the headers of a record of the dead-letter topic `topic`. Never raises."""
    said = _texts(record.headers)
    written = _EPOCH + timedelta(milliseconds=min(max(0, record.timestamp), _LATEST))
    amount, _, currency = said(OWN + "amount").partition(" ")
    if not _CURRENCY.fullmatch(currency):  # others'; they would be added up by it
        amount = currency = ""
    reason = said(OWN + "reason")
    return DeadLetterHeader(
        partition=record.partition,
        offset=record.offset,
        origin=_origin(said, record, topic),
        reason=intern(reason or said(CONNECT + "exception.class.name").rpartition(".")[2] or UNKNOWN),
        stage=intern(said(CONNECT + "stage")),
        # Messages of other programs may quote the record.
        detail=intern(said(OWN + "detail")),
        attempts=_whole(said(OWN + "attempts"), 1),
        first_failed=_moment(said(OWN + "first_failed_at")) or written,
        last_failed=_moment(said(OWN + "last_failed_at")) or written,
        event_id=said(OWN + "event_id"),
        store=intern(said(OWN + "store")),
        receipt=said(OWN + "receipt"),
        amount=_number(amount, _digits(currency)),
        currency=intern(currency),
        versions=intern(said(OWN + "mapping_version")),
        replay_id=intern(said(OWN + "replay_id")),
        truncated=bool(said(OWN + "truncated")),
        ours=bool(reason),
    )


Said = Callable[[str], str]


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> Said:
    """Return a header's text, printable; empty if it is missing. The last one of a name counts."""
    found = {name: value for name, value in headers if name.startswith((OWN, CONNECT))}

    def said(name: str) -> str:
        value = found.get(name)
        return printable(value.decode("utf-8", "replace")) if value else ""

    return said


def printable(text: str) -> str:
    """Return the text with control characters and new lines escaped."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


#: Of the categories Cc and Cf those that move the cursor, begin a command, or turn the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CURRENCY = re.compile(r"\S{3}")


def _origin(said: Said, record: TopicRecord, topic: str) -> RecordOrigin:
    stated, partition = said(CONNECT + "topic"), _whole(said(CONNECT + "partition"), -1)
    offset = _whole(said(CONNECT + "offset"), -1)
    if not stated or partition < 0 or offset < 0:
        stated, partition, offset = topic, record.partition, record.offset
    whole = said(OWN + "sha256")  # of the record, where the letter has a part of it only
    digest = whole[:DIGITS] if whole else sha256(record.value or b"").hexdigest()[:DIGITS]
    return RecordOrigin(intern(stated), partition, offset, digest)


def _whole(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else otherwise


@lru_cache(maxsize=256)
def _digits(currency: str) -> int:
    return minor_digits(currency) or 0


def _number(text: str, digits: int) -> Decimal | None:
    """Return the number with at least `places` decimal places."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or number.adjusted() >= LIMIT.adjusted():
        return None
    places = number.as_tuple().exponent
    return number.quantize(Decimal(1).scaleb(-digits)) if isinstance(places, int) and places > -digits else number


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return moment if 1970 < moment.year < 2200 else None  # others' clocks; so that time may be added to it
