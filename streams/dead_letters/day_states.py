"""The states of store-days and their sign-offs: kept in the audit topic, next to the actions on dead letters."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import read_partitions
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings

#: Days in one record, a few hundred bytes each.
_TOGETHER = 500


class NotBooked(BaseModel):
    """The part of a day that is not in the ERP: receipts, their gross by currency, and records without a known amount,
    or whose receipt is booked in another version."""

    model_config = ConfigDict(extra="ignore")

    receipts: int = 0
    amounts: dict[str, str] = {}
    others: int = 0


class DayState(BaseModel):
    """The state of a store's business day since a moment. `figures` is a digest of the sums it was found by.

    `books` and `unbooked` answer whether the books agreed and which money was not booked. Entries without them are
    older than that distinction: their `balanced` says that the books agreed, and nothing of dead letters; their
    `closed` is a day of which records waited, or were lost. `held` is a digest of the ERP's documents.
    """

    model_config = ConfigDict(extra="ignore")

    store: str
    day: str
    state: Literal["open", "closed", "differs", "unproved", "incomplete", "balanced", "signed off"]
    at: datetime
    by: str
    figures: str = ""
    why: str = ""
    reopened: bool = False
    books: Literal["agree", "differ", "not proved"] | None = None
    unbooked: NotBooked | None = None
    held: str = ""


class DayStates(BaseModel):
    """Some of them, in one record of the audit topic."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["days"] = "days"
    days: list[DayState]


def read_day_states(settings: Settings) -> dict[tuple[str, str], list[DayState]]:
    """By store and day all that was noted, in order of time. Raises BrokerUnreachable."""
    found: dict[tuple[str, str], list[DayState]] = {}
    partitions = partitions_of_topics(settings.kafka_access).get(settings.audit_topic, 0)
    for records in (
        read_partitions(settings.kafka_access, settings.audit_topic, range(partitions)) if partitions else ()
    ):
        for record in records:
            try:
                noted = DayStates.model_validate_json(record.value or b"")
            except ValidationError:
                continue  # actions on dead letters
            for state in noted.days:
                found.setdefault((state.store, state.day), []).append(state)
    return found


def write_day_states(settings: Settings, states: Iterable[DayState]) -> None:
    """Write them; they are safe when this returns. The topic exists. Raises BrokerUnreachable."""
    sender = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)
    together: list[DayState] = []
    for state in states:
        together.append(state)
        if len(together) == _TOGETHER:
            _send(sender, settings, together)
            together = []
    if together:
        _send(sender, settings, together)
    sender.confirm()


def _send(sender: ConfirmingProducer, settings: Settings, states: Sequence[DayState]) -> None:
    sender.send(settings.audit_topic, b"days", DayStates(days=list(states)).model_dump_json().encode())
