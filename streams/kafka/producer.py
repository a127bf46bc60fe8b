"""Sends records to topics from outside of Faust, each one confirmed by the broker."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.kafka.errors import CLOCK_ADVICE, BrokerUnreachable, reason_of
from streams.kafka.topics import client_config
from streams.settings import KafkaAccess

_PATIENCE = 60.0
#: Seconds to wait for room when the producer's queue is full.
_QUEUE_FULL_PAUSE = 0.1
_CONNECT_TIMEOUT = 2.0
#: Bytes that the headers of a dead letter and the frame of a batch may add to a record.
_EXTRA_BYTES = 2**17


def create_producer(access: KafkaAccess, config: Mapping[str, Any]) -> Any:
    """Return a producer for these brokers."""
    return Producer(client_config(access) | dict(config))


def produce(
    producer: Any, topic: str, key: bytes | None, value: bytes | None, on_delivery: Callable[[Any, Any], None]
) -> str | None:
    """Hand a record to the producer. Return why the client refuses it, or None.

    Raises BufferError while the producer's queue is full.
    """
    try:
        producer.produce(topic, value, key, on_delivery=on_delivery)
    except KafkaException as error:
        return reason_of(error)
    return None


def write_records(
    access: KafkaAccess, topic: str, records: Sequence[tuple[int, bytes, bytes | None]], seconds: float
) -> bool:
    """Write (partition, key, value) records at once. Return whether the broker has confirmed all within `seconds`."""
    confirmed: list[bool] = []
    producer = create_producer(access, {"acks": "all", "message.timeout.ms": int(seconds * 1000)})
    for partition, key, value in records:
        producer.produce(topic, value, key, partition, on_delivery=lambda error, _: confirmed.append(error is None))
    producer.flush(seconds)
    return len(confirmed) == len(records) and all(confirmed)


class ConfirmingProducer:
    """Sends records in order. When `confirm` returns, all of them are safe."""

    def __init__(self, access: KafkaAccess, max_record_bytes: int) -> None:
        self._servers = access.servers
        self._errors: list[str] = []
        self._producer = create_producer(
            access,
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "partitioner": "murmur2_random",  # as the worker's, so that the dead letters of a key stay in order
                "message.max.bytes": max_record_bytes + _EXTRA_BYTES,
                "message.timeout.ms": int(_PATIENCE * 1000),
            },
        )
        # An idempotent producer without a connection asks for its id half a second later (measured: 0.5 s to the first
        # confirmation, 0.06 s with this).
        with suppress(KafkaException):  # `confirm` reports a missing broker
            self._producer.list_topics(timeout=_CONNECT_TIMEOUT)

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """Hand the record over, waiting while the producer's queue is full."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), on_delivery=self._note_delivery)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(_QUEUE_FULL_PAUSE)
            except KafkaException as error:
                self._errors.append(f"{topic}: {reason_of(error)}")
                return

    def confirm(self) -> None:
        """Return when the broker has confirmed all records sent. Raises BrokerUnreachable."""
        unconfirmed = self._producer.flush(_PATIENCE)
        errors, self._errors = self._errors, []
        if errors or unconfirmed:
            raise BrokerUnreachable(f"{self._servers} did not confirm: {errors[0] if errors else 'no answer'}")

    def _note_delivery(self, error: Any, message: Any) -> None:
        if error is not None:
            advice = f"; {CLOCK_ADVICE}" if error.code() == KafkaError.INVALID_TIMESTAMP else ""
            self._errors.append(f"{message.topic()}: {error.str()}{advice}")
