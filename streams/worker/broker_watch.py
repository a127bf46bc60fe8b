"""Watches the broker from outside the consumer: outages, partition ends, and records behind open transactions."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from streams.kafka.errors import AccessLost, BrokerUnreachable, TopicChanged, TopicsUnusable
from streams.kafka.topics import PartitionEnd
from streams.kafka.transactions import OpenTransactions
from streams.logs import damper
from streams.metrics import WorkerMetrics
from streams.worker.state import WorkerState

#: Consecutive failed checks that make an outage. One may fail while a broker restarts or a leader moves.
MAX_MISSES = 2


class EndOffsets(Protocol):
    """The part of `streams.worker.transport.SliceConsumer` that the watch uses."""

    ends: dict[int, int]

    def lag(self) -> dict[int, int]: ...


class BrokerWatch:
    """Reports outages to `state`, and logs one line when an outage begins and one when it ends.

    `ends` asks the broker for the ends of partitions, as `TopicMonitor.ends`. While `is_missed` returns true, because
    something else waits for the broker as well, the first failed check counts as an outage.
    """

    def __init__(
        self,
        ends: Callable[[Iterable[int]], Mapping[int, PartitionEnd]],
        topic: str,
        state: WorkerState,
        metrics: WorkerMetrics,
        is_missed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ends = ends
        self._state = state
        self._metrics = metrics
        self._is_missed = is_missed
        self._transactions = OpenTransactions(topic, state.clock)
        self._log = structlog.get_logger("tillstream.kafka")
        self._misses = 0
        self._silent_since = 0.0

    async def check(self, consumer: EndOffsets) -> None:
        """Check the broker once, off the event loop. Never raises its errors: permanent ones go to `state.fail`."""
        began = self._state.clock()
        try:
            ends = await asyncio.to_thread(self._ends, list(consumer.lag()))
        except (BrokerUnreachable, TopicsUnusable, TopicChanged) as error:
            self._note_failure(error, began)
        else:
            self._note_answer()
            consumer.ends = {partition: end.stable for partition, end in ends.items()}
            self._transactions.note(ends)
            self._metrics.note_uncommitted(self._transactions.waiting, self._transactions.age())
            self._state.warn("transactions", self._transactions.trouble())

    def _note_failure(self, error: Exception, began: float) -> None:
        self._misses += 1
        if self._misses == 1:
            self._silent_since = began
        is_outage = isinstance(error, BrokerUnreachable) and not isinstance(error, AccessLost)
        if self._misses < MAX_MISSES and not (is_outage and self._is_missed()):
            return
        if not is_outage:
            self._state.fail(error)
            return
        if self._state.outage is None:
            self._log.warning("Kafka does not answer, waiting for it", reason=str(error))
        self._state.broker_down(str(error))

    def _note_answer(self) -> None:
        self._misses = 0
        if self._state.outage is not None:
            seconds = round(self._state.clock() - self._silent_since, 1)
            suppressed = sum(damper.take_suppressed().values())
            self._log.warning("Kafka is back", seconds=seconds, library_messages_suppressed=suppressed)
        self._state.broker_up()
