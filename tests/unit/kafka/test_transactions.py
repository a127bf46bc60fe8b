"""What waits behind open transactions, and for how long."""

from streams.kafka.topics import PartitionEnd
from streams.kafka.transactions import GRACE, OpenTransactions


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_records_beyond_the_last_stable_offset_wait_and_grow_old_while_it_stands() -> None:
    clock = Clock()
    open_ones = OpenTransactions("pos.sales", clock)
    open_ones.note({0: PartitionEnd(10, 16), 1: PartitionEnd(5, 5)})
    clock.now += 150
    open_ones.note({0: PartitionEnd(10, 20), 1: PartitionEnd(7, 7)})
    assert open_ones.waiting == {0: 10, 1: 0}
    assert open_ones.age() == 150
    assert open_ones.trouble() == (
        "10 records of pos.sales wait behind an open Kafka transaction, for 150 s, in partitions 0: its producer has "
        "neither committed nor aborted it"
    )


def test_transactions_that_come_and_go_are_no_trouble() -> None:
    clock = Clock()
    open_ones = OpenTransactions("pos.sales", clock)
    for offset in range(100):
        open_ones.note({0: PartitionEnd(offset, offset + 3)})
        clock.now += GRACE / 2
        assert open_ones.trouble() is None
    assert open_ones.age() <= GRACE / 2


def test_transaction_that_ends_and_partition_that_goes_to_another_worker_are_forgotten() -> None:
    clock = Clock()
    open_ones = OpenTransactions("pos.sales", clock)
    for ends in ({0: PartitionEnd(16, 16)}, {}):
        open_ones.note({0: PartitionEnd(10, 16)})
        clock.now += 60
        open_ones.note(ends)
        assert open_ones.age() == 0
        assert open_ones.trouble() is None
