"""Records whose header names are not UTF-8: aiokafka raises for them, and would for ever, as it reads the same again.

Kafka's protocol says that names are text, and its brokers don't look. Clients in C and Go write any bytes. Here such a
name is its text with each byte that is none as `\\xff`, so that everybody can read it, in a dead letter as well.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

_LENGTH_AT, _MAGIC_AT, _AFTER_LENGTH = 8, 16, 12


class LenientMemoryRecords:
    """aiokafka's MemoryRecords, with batches that can be read to their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._begin = 0
        self._records = MemoryRecords(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """The next batch; only if `has_next`."""
        begin = self._begin
        (length,) = struct.unpack_from(">i", self._data, begin + _LENGTH_AT)
        self._begin += _AFTER_LENGTH + length
        batch: Any = self._records.next_batch()
        if self._data[begin + _MAGIC_AT] < 2 or batch.is_control_batch:  # these have no headers
            return batch
        return _LenientBatch(batch, memoryview(self._data)[begin : self._begin])


class _LenientBatch:
    """A batch of aiokafka's; from the first name on that it can't read, its records are read here."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            yield from islice(_records(self._data), read, None)


class _RawRecord(NamedTuple):
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


def _records(data: memoryview) -> Iterator[_RawRecord]:
    """The records of a batch, as https://kafka.apache.org/documentation/#recordbatch says."""
    batch = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    reader = _ByteReader(batch._buffer, batch._pos)
    for _ in range(batch._num_records):
        reader.number()  # the record's length
        reader.number()  # attributes: one byte, and always 0
        written, offset = batch.first_timestamp + reader.number(), batch.base_offset + reader.number()
        timestamp = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else written
        key, value = reader.part(), reader.part()
        headers = [((reader.part() or b"").decode("utf-8", "backslashreplace"), reader.part()) for _ in reader.times()]
        yield _RawRecord(offset, timestamp, batch.timestamp_type, key, value, headers)


class _ByteReader:
    def __init__(self, data: Any, at: int) -> None:
        self._data = data
        self._at = at

    def number(self) -> int:
        number: int
        number, self._at = decode_varint(self._data, self._at)
        return number

    def times(self) -> range:
        return range(self.number())

    def part(self) -> bytes | None:
        length = self.number()
        if length < 0:
            return None
        begin, self._at = self._at, self._at + length
        return bytes(self._data[begin : self._at])
