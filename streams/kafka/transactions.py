"""Finds sales behind an open Kafka transaction: in the topic, but hidden from readers of committed records.

A till's transaction that is neither committed nor aborted blocks its partition for all readers, also for records that
other tills have sent after it. The lag doesn't count them, since they can't be read.
"""

from collections.abc import Callable, Mapping

from streams.kafka.topics import PartitionEnd

#: Seconds that a partition may be blocked without a warning: transactions of tills end within moments.
GRACE = 10.0


class OpenTransactions:
    """The records behind open transactions in `topic`, by partition. `clock` is monotonic, in seconds."""

    def __init__(self, topic: str, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._clock = clock
        self._since: dict[int, tuple[int, float]] = {}  # by partition: last stable offset, unchanged since
        #: Records, and markers, beyond the last stable offset.
        self.waiting: dict[int, int] = {}

    def note(self, ends: Mapping[int, PartitionEnd]) -> None:
        """Note the partitions' current ends; partitions that are missing belong to other workers now."""
        now = self._clock()
        self.waiting = {partition: max(0, end.high - end.stable) for partition, end in ends.items()}
        since = {}
        for partition, end in ends.items():
            if self.waiting[partition]:
                stable, began = self._since.get(partition, (end.stable, now))
                since[partition] = (end.stable, began if stable == end.stable else now)
        self._since = since

    def age(self) -> float:
        """Return for how many seconds the partition that has been blocked longest has been."""
        now = self._clock()
        return max((now - began for _, began in self._since.values()), default=0.0)

    def trouble(self) -> str | None:
        """Return a warning while a partition is blocked for longer than transactions take."""
        age = self.age()
        if age < GRACE:
            return None
        stuck = sorted(partition for partition, (_, began) in self._since.items() if self._clock() - began >= GRACE)
        records = sum(self.waiting[partition] for partition in stuck)
        return (
            f"{records} records of {self._topic} wait behind an open Kafka transaction, for {age:.0f} s, in partitions "
            f"{', '.join(map(str, stuck))}: its producer has neither committed nor aborted it"
        )
