"""Receipts into the topic, each confirmed by the broker, with checkpoints on the way."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from ops.files.receipts import FileReceipt
from ops.importing.checkpoints import ImportCheckpoint
from streams.kafka.errors import BrokerUnreachable
from streams.kafka.producer import create_producer, produce
from streams.kafka.topics import create_source_topic
from streams.settings import Settings

_PATIENCE = 60.0
_FULL = 0.1
#: Receipts between two looks at the clock, and seconds between two checkpoints.
_LOOK = 1_000
_PAUSE = 2.0
_PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "compression.type": "lz4",  # a third of zstd's processor time, which the reading needs
    "linger.ms": 50,
    "batch.size": 2**19,
    "queue.buffering.max.kbytes": 2**16,
}


class ReceiptSender:
    """A producer for the settings' topic, which is created if it is missing.

    It counts the records that the broker has confirmed and refused, with the last reason; `offsets` are the last
    confirmed ones. Raises BrokerUnreachable and TopicsUnusable.
    """

    def __init__(self, settings: Settings) -> None:
        create_source_topic(settings.kafka_access, settings.topic_plan, settings.partitions)
        self.confirmed = 0
        self.failed = 0
        self.reason = ""
        self.offsets: dict[int, int] = {}
        self._settings = settings
        self._producer = create_producer(settings.kafka_access, _PRODUCER)

    def send(self, key: bytes | None, value: bytes) -> None:
        """Hands a record over; waits while the queue is full. Raises BrokerUnreachable."""
        given_up = None
        while True:
            try:
                refusal = produce(self._producer, self._settings.topic, key, value, self._answered)
                if refusal is not None:
                    self.failed, self.reason = self.failed + 1, refusal
                    return
                self._producer.poll(0)
                return
            except BufferError:  # the queue is full: let the broker take some
                given_up = given_up or time.monotonic() + _PATIENCE
                if not self._producer.poll(_FULL) and time.monotonic() > given_up:
                    raise self._silent() from None

    def settle(self) -> None:
        """Wait until the broker has answered for every record sent. Raises BrokerUnreachable."""
        if self._producer.flush(_PATIENCE):
            raise self._silent()

    def _answered(self, error: object, message: Any) -> None:
        if error is not None:
            self.failed, self.reason = self.failed + 1, str(error)
            return
        self.confirmed += 1
        partition, offset = message.partition(), message.offset()
        if partition is not None and offset is not None:
            self.offsets[partition] = offset

    def _silent(self) -> BrokerUnreachable:
        return BrokerUnreachable(
            f"{self._settings.broker} has not confirmed {len(self._producer):,} records; import again: it goes on "
            "behind those that are confirmed"
        )


def send(
    name: str,
    receipts: Iterator[FileReceipt],
    sender: ReceiptSender,
    checkpoint: ImportCheckpoint,
    skip: int,
    on_progress: Callable[[int], None],
) -> int:
    """Send all receipts but the first `skip`, and return their number, those included.

    `on_progress` hears how many have gone. Raises BrokerUnreachable, and what reading raises.
    """
    number = 0
    refused = sender.failed
    saved = time.monotonic()
    for number, receipt in enumerate(receipts, 1):
        if number > skip:
            sender.send(receipt.key, receipt.value)
        if number % _LOOK == 0:
            on_progress(number)
            if number > skip and time.monotonic() - saved > _PAUSE:
                sender.settle()
                if sender.failed == refused:
                    checkpoint.write(name, number, sender.offsets)
                saved = time.monotonic()
    sender.settle()
    on_progress(number)
    return number
