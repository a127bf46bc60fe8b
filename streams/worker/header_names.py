"""Reads records whose header names are not UTF-8. aiokafka raises for them, each time it reads them again.

Kafka's protocol says that header names are text, but brokers don't check, and clients in C and Go write any bytes. Such
a name is decoded here with each invalid byte as `\\xff`, so that people can read it, in a dead letter as well.
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
    """aiokafka's MemoryRecords, with batches that tolerate invalid header names."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 0
        self._records = MemoryRecords(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """Return the next batch; call it only if `has_next`."""
        start = self._start
        (length,) = struct.unpack_from(">i", self._data, start + _LENGTH_AT)
        self._start += _AFTER_LENGTH + length
        batch: Any = self._records.next_batch()
        if self._data[start + _MAGIC_AT] < 2 or batch.is_control_batch:  # these have no headers
            return batch
        return _LenientBatch(batch, memoryview(self._data)[start : self._start])


class _LenientBatch:
    """An aiokafka batch that reads its own records from the first header name that aiokafka can't decode."""

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
    """Parse the records of a batch, as in https://kafka.apache.org/documentation/#recordbatch."""
    batch = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    reader = _ByteReader(batch._buffer, batch._pos)
    for _ in range(batch._num_records):
        reader.read_int()  # the record's length
        reader.read_int()  # attributes: one byte, and always 0
        created_at, offset = batch.first_timestamp + reader.read_int(), batch.base_offset + reader.read_int()
        timestamp = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else created_at
        key, value = reader.read_bytes(), reader.read_bytes()
        headers = [(_decode_name(reader.read_bytes()), reader.read_bytes()) for _ in range(reader.read_int())]
        yield _RawRecord(offset, timestamp, batch.timestamp_type, key, value, headers)


def _decode_name(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "backslashreplace")


class _ByteReader:
    """Reads the varints and byte strings of Kafka's record format."""

    def __init__(self, data: Any, at: int) -> None:
        self._data = data
        self._at = at

    def read_int(self) -> int:
        number: int
        number, self._at = decode_varint(self._data, self._at)
        return number

    def read_bytes(self) -> bytes | None:
        length = self.read_int()
        if length < 0:
            return None
        start, self._at = self._at, self._at + length
        return bytes(self._data[start : self._at])
