"""Batches with header names of any bytes are read to their end, and others as aiokafka reads them."""

import inspect
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from streams.worker.header_names import LenientMemoryRecords
from tests.support.raw_headers import RawName, RawRecord, batch_of

GOOD: RawRecord = (b"S1", b"{}", [(b"trace", b"\xff\x00"), (b"empty", None)])
BAD: RawRecord = (None, b"[]", [(b"tr\xff\xfece", b"1"), ("né".encode(), None), (b"\xed\xa0\x80", b"")])
NULL: RawRecord = (b"S1", None, [])
GZIP = 1


def records(data: Any) -> list[tuple[Any, ...]]:
    found = []
    while data.has_next():
        batch = data.next_batch()
        assert batch.validate_crc()
        found += [(each.offset, each.timestamp_type, each.key, each.value, tuple(each.headers)) for each in batch]
    return found


@pytest.mark.parametrize("codec", [0, GZIP])
def test_names_that_are_not_utf8_are_decoded_byte_by_byte_and_do_not_stop_the_reader(codec: int) -> None:
    data = bytes(batch_of([GOOD, BAD, GOOD, NULL], codec).build()) + bytes(batch_of([BAD, GOOD], codec).build())
    good = (b"S1", b"{}", (("trace", b"\xff\x00"), ("empty", None)))
    bad = (None, b"[]", ((r"tr\xff\xfece", b"1"), ("né", None), (r"\xed\xa0\x80", b"")))
    assert [each[2:] for each in records(LenientMemoryRecords(data))] == [good, bad, good, (b"S1", None, ()), bad, good]
    assert [each[0] for each in records(LenientMemoryRecords(data))] == [0, 1, 2, 3, 0, 1]
    with pytest.raises(UnicodeDecodeError):
        records(MemoryRecords(data))


def test_timestamps_are_those_that_were_written() -> None:
    builder = batch_of([])
    for number, moment in enumerate((1_700_000_000_000, 1_699_999_999_000)):
        builder.append(number, moment, b"k", b"v", [(RawName(b"\xff"), None)])
    data = bytes(builder.build())
    assert [each.timestamp for each in LenientMemoryRecords(data).next_batch()] == [
        1_700_000_000_000,
        1_699_999_999_000,
    ]


def test_readable_records_are_read_by_aiokafka() -> None:
    data = bytes(batch_of([GOOD, NULL, GOOD]).build())
    assert records(LenientMemoryRecords(data)) == records(MemoryRecords(data))
    compiled: Any = MemoryRecords(data).next_batch()
    assert {type(each) for each in LenientMemoryRecords(data).next_batch()} == {type(each) for each in compiled}


def test_fetcher_makes_its_records_by_that_name() -> None:
    assert "records = MemoryRecords(part_data[-1])" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
