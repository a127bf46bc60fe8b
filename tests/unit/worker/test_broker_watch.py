"""An outage of Kafka: one line when it begins, one when it ends, and the state of the worker in between."""

from collections.abc import Iterable

import pytest
from structlog.testing import capture_logs

from streams.kafka.errors import AccessLost, BrokerUnreachable, TopicsUnusable
from streams.kafka.topics import PartitionEnd
from streams.metrics import WorkerMetrics
from streams.worker.broker_watch import BrokerWatch
from streams.worker.state import WorkerState

GONE = BrokerUnreachable("no Kafka broker answers at k:9092")


class Kafka:
    """Answers, or fails with `error`. Each check takes a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.error: Exception | None = None
        self.found = {0: PartitionEnd(10, 16)}
        self.ends: dict[int, int] = {}
        self.waited_for = False
        self.metrics = WorkerMetrics()
        self.state = WorkerState(lambda: self.now, recovered=lambda: True)
        self.watch = BrokerWatch(self.ask, "pos.sales", self.state, self.metrics, lambda: self.waited_for)

    def ask(self, partitions: Iterable[int]) -> dict[int, PartitionEnd]:
        self.now += 1.0
        self.state.heartbeat = self.state.progress = self.now
        if self.error is not None:
            raise self.error
        return self.found

    def lag(self) -> dict[int, int]:
        return dict.fromkeys(self.found, 0)

    async def check(self, times: int = 1, error: Exception | None = None) -> None:
        self.error = error
        for _ in range(times):
            await self.watch.check(self)


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


async def test_outage_is_logged_when_it_begins_and_when_it_ends_with_its_seconds(kafka: Kafka) -> None:
    with capture_logs() as lines:
        await kafka.check(3)
        await kafka.check(100, GONE)
        assert kafka.state.not_ready() == [str(GONE)]
        await kafka.check(3)
    assert [line["event"] for line in lines] == ["Kafka does not answer, waiting for it", "Kafka is back"]
    assert lines[0]["reason"] == str(GONE)
    assert lines[1]["seconds"] == 101
    assert kafka.state.not_ready() == []


async def test_one_look_that_fails_is_no_news(kafka: Kafka) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            await kafka.check(1, GONE)
            assert kafka.state.not_ready() == []
            await kafka.check()
    assert lines == []


async def test_one_failed_check_is_enough_when_dead_letters_wait_for_the_broker(kafka: Kafka) -> None:
    """Else the dead-letter topic would be the first to be named, though the broker is the cause."""
    kafka.waited_for = True
    kafka.state.troubles = lambda: ["dead-letter topic d: does not confirm for 5 s"]
    await kafka.check(1, GONE)
    assert kafka.state.not_ready() == [str(GONE), "dead-letter topic d: does not confirm for 5 s"]


@pytest.mark.parametrize("error", [AccessLost("refuses"), TopicsUnusable("does not exist any more")])
async def test_permanent_error_ends_the_worker(kafka: Kafka, error: Exception) -> None:
    await kafka.check(2, error)
    assert kafka.state.failed is error
    assert kafka.state.outage is None


async def test_ends_are_those_of_committed_records_and_uncommitted_ones_are_a_metric(kafka: Kafka) -> None:
    await kafka.check()
    assert kafka.ends == {0: 10}
    value = kafka.metrics.registry.get_sample_value
    assert value("tillstream_uncommitted_records", {"partition": "0"}) == 6
    await kafka.check(30)
    assert value("tillstream_uncommitted_age_seconds") == 30
    assert kafka.state.not_ready() == []
    assert "open Kafka transaction" in kafka.state.warnings["transactions"]
    kafka.found = {1: PartitionEnd(3, 3)}
    await kafka.check()
    assert value("tillstream_uncommitted_records", {"partition": "0"}) is None
    assert value("tillstream_uncommitted_age_seconds") == 0
    assert kafka.state.warnings == {}
