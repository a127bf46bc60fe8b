"""Records whose header names are any bytes, as clients in C and Go write them: those of Python and Java do not."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy


class RawName(str):
    """A header name that is written as these bytes."""

    raw: bytes

    def __new__(cls, raw: bytes) -> "RawName":
        """`raw`, with a text for those who look."""
        name = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes, whatever the encoding."""
        return self.raw


RawRecord = tuple[bytes | None, bytes | None, Sequence[tuple[bytes, bytes | None]]]


def batch_of(records: Sequence[RawRecord], codec: int = 0) -> _DefaultRecordBatchBuilderPy:
    """`(key, value, headers)` records as the broker gets them."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 16 * 2**20)
    for number, (key, value, headers) in enumerate(records):
        named: list[tuple[str, bytes | None]] = [(RawName(name), text) for name, text in headers]
        assert builder.append(number, None, key, value, named) is not None
    return builder


def produce_raw(bootstrap: str, topic: str, records: Sequence[RawRecord], partition: int = 0) -> None:
    """Writes the records, in one batch; returns when the broker has confirmed it."""

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=16 * 2**20) as producer:
            batch = producer.create_batch()
            batch._builder = batch_of(records)
            batch._relative_offset = len(records)
            await (await producer.send_batch(batch, topic, partition=partition))

    asyncio.run(produce())
