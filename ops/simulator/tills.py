"""Simulated tills: `traffic` makes their records, `sell` sends them and counts confirmations."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

from confluent_kafka import KafkaError, Message, Producer

from ops.simulator.traffic import SimulatedRecord, TrafficShares, traffic
from schemas.dead_letter import Reason

__all__ = ["ConfirmedTally", "EventPace", "SimulatedRecord", "TrafficShares", "sell", "till_producer", "traffic"]

_SLACK = 0.002  # seconds: below this a wait costs more than it is worth
_NAP = 0.1  # seconds between two looks at `stop` and at the broker's answers


@dataclass
class ConfirmedTally:
    """The broker's confirmations, for the reconciliation: the ERP must hold `documents` in the end.

    `fresh` are the sound events (with the `day_closes`, which become no document), `resent` their
    repetitions, `broken` the dead letters to expect by reason. `gross` sums the fresh ones by store,
    and `broken_gross` the gross of receipts that become no document (without reused ids: those are booked).
    `failed` counts, by error, the records that were not confirmed: each may be in the topic or not.
    One thread writes; others may read.
    """

    fresh: int = 0
    day_closes: int = 0
    resent: int = 0
    broken: Counter[Reason] = field(default_factory=Counter)
    gross: dict[str, Decimal] = field(default_factory=dict)
    broken_gross: Decimal = Decimal(0)
    failed: Counter[str] = field(default_factory=Counter)
    _unconfirmed: set[bytes] = field(default_factory=set, repr=False)

    @property
    def sent(self) -> int:
        """All records that the broker confirmed."""
        return self.fresh + self.resent + self.broken.total()

    @property
    def documents(self) -> int:
        """The documents that the fresh events must become."""
        return self.fresh - self.day_closes

    def broken_by(self, reason: str) -> int:
        """How many dead letters must be there for `reason`."""
        return sum(count for each, count in self.broken.items() if each == reason)

    def confirm(self, sent: SimulatedRecord) -> None:
        """Count a record that the broker has confirmed."""
        if sent.reason is not None:
            self.broken[sent.reason] += 1
            if sent.reason != Reason.CONFLICTING_DUPLICATE:
                self.broken_gross += sent.gross
        elif sent.kind == "resent" and sent.value not in self._unconfirmed:
            self.resent += 1
        else:
            # A repetition whose first sending failed is the event's first arrival.
            self._unconfirmed.discard(sent.value)
            self.fresh += 1
            self.day_closes += sent.type == "day_close"
            self.gross[sent.store] = self.gross.get(sent.store, Decimal(0)) + sent.gross

    def fail(self, sent: SimulatedRecord, error: str) -> None:
        """Count a record that was given up without the broker's confirmation."""
        self.failed[error] += 1
        if sent.kind == "fresh":
            self._unconfirmed.add(sent.value)


class EventPace:
    """Lets `rate` events per second through; a backlog of more than a second is forgotten."""

    def __init__(self, rate: float | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._monotonic = monotonic
        self._due = monotonic()

    def ahead(self) -> float:
        """Seconds until the next event is due; 0 or less when it is."""
        return self._due - self._monotonic()

    def advance(self) -> None:
        """Count an event."""
        self._due = max(self._due + self._interval, self._monotonic() - 1)


def till_producer(brokers: str, settings: Mapping[str, str | int | float | bool] | None = None) -> Producer:
    """Return an idempotent producer that waits for all replicas; `settings` are further ones of librdkafka."""
    config: dict[str, str | int | float | bool] = {
        "bootstrap.servers": brokers,
        "client.id": "tillstream-tills",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
    }
    return Producer(config | dict(settings or {}))


def sell(
    producer: Producer,
    topic: str,
    records: Iterator[SimulatedRecord],
    rate: float | None,
    stop: threading.Event,
    tally: ConfirmedTally,
    *,
    limit: int | None = None,
    flush_seconds: float = 30.0,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Send `records` at `rate` per second (None: as fast as the broker takes them) until `stop` or `limit`.

    Returns when every record is in `tally`, confirmed or failed: records without an answer within
    `flush_seconds` after the end are counted as failed. Raises KafkaException if a record can't
    be sent at all (an unknown topic, a fatal error of the producer).
    """
    pace = EventPace(rate, monotonic)
    for sent in islice(records, limit):
        while not stop.is_set() and (ahead := pace.ahead()) > _SLACK:
            stop.wait(min(ahead, _NAP))
            producer.poll(0)
        if not _produce(producer, topic, sent, stop, tally):
            break
        pace.advance()
    if producer.flush(flush_seconds):
        producer.purge()
        producer.flush(1.0)


def _produce(
    producer: Producer, topic: str, sent: SimulatedRecord, stop: threading.Event, tally: ConfirmedTally
) -> bool:
    """Queues the record, waiting while the queue is full; False when stopped before."""

    def answer(error: KafkaError | None, message: Message) -> None:
        if error is None:
            tally.confirm(sent)
        else:
            tally.fail(sent, error.name())

    while not stop.is_set():
        try:
            producer.produce(topic, sent.value, sent.key, on_delivery=answer)
        except BufferError:
            producer.poll(_NAP)
        else:
            producer.poll(0)
            return True
    return False
