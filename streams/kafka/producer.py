"""Records into topics, each confirmed by the broker, from outside of Faust."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.kafka.errors import BrokerUnreachable
from streams.kafka.topics import client_config
from streams.settings import Settings
from streams.worker.broker_clock import ADVICE

_PATIENCE = 60.0
_FULL = 0.1
_HELLO = 2.0
#: What the headers of a dead letter, and the frame of a batch, take at most on top of a record.
_ROOM = 2**17


class ConfirmingProducer:
    """Sends in order; what was sent is safe when `confirm` returns."""

    def __init__(self, settings: Settings) -> None:
        self._broker = settings.broker
        self._faults: list[str] = []
        self._producer = Producer(
            client_config(settings.broker, settings.kafka)
            | {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "partitioner": "murmur2_random",  # as the worker's, so that the letters of a key stay in order
                "message.max.bytes": settings.max_record_bytes + _ROOM,
                "message.timeout.ms": int(_PATIENCE * 1000),
            }
        )
        # An idempotent producer that has no connection yet asks for its id half a second later (measured: 0.5 s to the
        # first confirmation, 0.06 s with this).
        with suppress(KafkaException):  # whether a broker is there `confirm` tells
            self._producer.list_topics(timeout=_HELLO)

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """Hands the record over; waits while the producer has no room."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), on_delivery=self._told)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(_FULL)
            except KafkaException as error:
                self._faults.append(f"{topic}: {error.args[0].str()}")
                return

    def confirm(self) -> None:
        """Returns when the broker has all that was sent. Raises BrokerUnreachable."""
        left = self._producer.flush(_PATIENCE)
        faults, self._faults = self._faults, []
        if faults or left:
            raise BrokerUnreachable(f"{self._broker} did not confirm: {faults[0] if faults else 'no answer'}")

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            advice = f"; {ADVICE}" if error.code() == KafkaError.INVALID_TIMESTAMP else ""
            self._faults.append(f"{message.topic()}: {error.str()}{advice}")
