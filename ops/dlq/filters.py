"""The filter of dead letters that all commands share and the audit topic keeps."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.reference import split_identity, split_receipt, unescaped_reference
from streams.dead_letters.header import DeadLetterHeader
from streams.kafka.reader import TopicRecord
from streams.settings import Settings

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class NotAFilter(ValueError):
    """An invalid option; the message says which values are valid."""


class DeadLetterFilter(BaseModel):
    """Selects dead letters for which every option holds; several values of one option are alternatives."""

    model_config = ConfigDict(frozen=True)

    reasons: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    receipts: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    min_amount: Decimal | None = None
    #: Of audit entries of earlier releases: more than this.
    over: Decimal | None = None
    closed: bool = False
    parked: bool = False

    def stated(self) -> dict[str, Any]:
        """Return the filter as JSON values for the audit topic; empty for all open dead letters.

        A text may be personal: only its digest is recorded.
        """
        told = self.model_dump(mode="json", exclude_defaults=True)
        if self.text is not None:
            told["text"] = _digest(self.text)
        return told

    def resumed(self, told: dict[str, Any]) -> "DeadLetterFilter":
        """Return the filter that `told` comes of; a text must be given again. Raises NotAFilter."""
        filters = {name: value for name, value in told.items() if name != "text"}
        if told.get("text") != (_digest(self.text) if self.text is not None else None):
            raise NotAFilter("that replay was begun with a --text, which the audit trail does not keep: give it again")
        return DeadLetterFilter.model_validate(filters | {"text": self.text})

    def matcher(self) -> Callable[[DeadLetterHeader, TopicRecord], bool]:
        """Whether a letter is meant; whether it is open is not looked at here."""
        places = [_span(place) for place in self.places]
        wanted = self.text.lower().encode() if self.text else None
        ids = {*self.event_ids}

        def matches(head: DeadLetterHeader, record: TopicRecord) -> bool:
            return (
                (not self.reasons or any(fnmatchcase(head.reason, pattern) for pattern in self.reasons))
                and (not self.stores or head.store in self.stores)
                and (not self.sources or head.source in self.sources)
                and (not ids or head.event_id in ids or split_identity(head.event_id)[1] in ids)
                and (not self.receipts or _is_receipt(head.receipt, self.receipts))
                and (not places or any(n == head.partition and a <= head.offset <= b for n, a, b in places))
                and (self.since is None or head.last_failed >= self.since)
                and (self.until is None or head.last_failed < self.until)
                and (self.min_amount is None or (head.amount is not None and abs(head.amount) >= self.min_amount))
                and (self.over is None or (head.amount is not None and abs(head.amount) > self.over))
                and (wanted is None or wanted in (record.value or b"").lower() or wanted in (record.key or b"").lower())
            )

        return matches


def _digest(text: str) -> str:
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def with_parked_topic(settings: Settings) -> Settings:
    """Return settings with the parked topic as the dead-letter topic: records that fail again go back there."""
    return settings.model_copy(update={"dead_letter_topic": settings.parked_topic})


def _is_receipt(reference: str, wanted: tuple[str, ...]) -> bool:
    """Whether a reference `source/store/register/number/type` is one of these, or has one of these numbers.

    Dead letters of before have references without escapes, with any number of slashes.
    """
    if reference in wanted:
        return True
    if parts := split_receipt(reference):
        return parts[3] in wanted
    old = reference.split("/", 3)
    return (len(old) == 4 and old[3].rpartition("/")[0] in wanted) or reference in map(unescaped_reference, wanted)


def _span(text: str) -> tuple[int, int, int]:
    """`3:17` or `3:10-20`: a place in the dead-letter topic, or all between two."""
    partition, _, offsets = text.partition(":")
    first, dash, last = offsets.partition("-")
    try:
        found = int(partition), int(first), int(last) if dash else int(first)
        if not all(0 <= number < 2**63 for number in found) or found[0] >= 2**31:
            raise ValueError
        return found
    except ValueError:
        raise NotAFilter(f"{text!r} is no place: give PARTITION:OFFSET, or PARTITION:FIRST-LAST") from None


def moment(text: str, now: datetime) -> datetime:
    """Return a time as people give it: 2026-03-10, 2026-03-10T12:00+01:00, or 90m, 2h, 3d, 1w ago. Raises
    NotAFilter."""
    unit = _UNITS.get(text[-1:])
    if unit is not None and text[:-1].isascii() and text[:-1].isdigit():
        try:
            return now - int(text[:-1]) * unit
        except OverflowError:
            raise NotAFilter(f"{text!r} is before all times") from None
    try:
        stated = datetime.fromisoformat(text)
    except ValueError:
        raise NotAFilter(f"{text!r} is no time: give 2026-03-10, 2026-03-10T12:00+01:00, or 90m, 2h, 3d ago") from None
    return stated if stated.tzinfo is not None else stated.replace(tzinfo=UTC)
