"""An unavailable sink is retried by all calls together."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from schemas.document import ErpDocument
from sinks.base import Result, SinkUnavailable
from sinks.memory import MemorySink
from streams.metrics import WorkerMetrics
from streams.sink_retry import BackOff, RetryingSink
from tests.support.documents import document


class AnHour(BackOff):
    """`first` at least, and nobody waits for the end."""

    def wait(self, attempt: int) -> float:
        return 3600.0


class Picky(MemorySink):
    """Is never there for one event; `tries` are the times of the attempts."""

    def __init__(self, event_id: str) -> None:
        super().__init__()
        self._event_id = event_id
        self.tries: list[float] = []

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        if documents[0].event_id == self._event_id:
            self.tries.append(time.monotonic())
            raise SinkUnavailable("lock", "somebody else has it")
        return super().write(documents)


async def failed(metrics: WorkerMetrics, times: int, kind: str = "connection") -> None:
    """Return when this many calls have failed. Raises TimeoutError after half a minute."""
    async with asyncio.timeout(30):
        while (metrics.registry.get_sample_value("tillstream_sink_errors_total", {"kind": kind}) or 0) < times:
            await asyncio.sleep(0.001)


async def test_first_answer_after_an_outage_ends_the_waiting_of_all_calls() -> None:
    sink, metrics = MemorySink(), WorkerMetrics()
    patient = RetryingSink(sink, metrics, AnHour(first=0.001))
    for _ in range(2):
        sink.fail_next(SinkUnavailable("connection", "down"))
    waiting = [asyncio.create_task(patient.write([document(number)])) for number in (1, 2)]
    await failed(metrics, 2)
    assert patient.trouble == "sink: connection: down"
    await patient.write([document(3)])
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert (len(sink.documents), patient.trouble) == (3, None)


async def test_pause_that_the_system_asks_for_is_kept_whoever_is_answered() -> None:
    sink, metrics = MemorySink(), WorkerMetrics()
    patient = RetryingSink(sink, metrics, BackOff(0.001, 0.001))
    sink.fail_next(SinkUnavailable("connection", "too many requests", retry_after=3600.0))
    waiting = asyncio.create_task(patient.write([document(1)]))
    await failed(metrics, 1)
    for number in range(2, 20):
        await patient.write([document(number)])
    assert not waiting.done()
    waiting.cancel()


async def test_call_that_fails_while_others_are_answered_keeps_its_first_pause() -> None:
    sink = Picky(document(1).event_id)
    patient = RetryingSink(sink, WorkerMetrics(), AnHour(first=0.05))
    waiting = asyncio.create_task(patient.write([document(1)]))
    number = 1
    while len(sink.tries) < 4:
        number += 1
        await patient.write([document(number)])
    waiting.cancel()
    assert all(later - earlier >= 0.05 for earlier, later in zip(sink.tries, sink.tries[1:], strict=False))
    assert number > 8


async def test_call_that_fails_is_in_trouble_until_it_is_answered_itself() -> None:
    sink = Picky(document(1).event_id)
    metrics = WorkerMetrics()
    patient = RetryingSink(sink, metrics, AnHour())
    waiting = asyncio.create_task(patient.write([document(1)]))
    await failed(metrics, 1, "lock")
    for number in range(2, 5):
        await patient.write([document(number)])
        assert patient.trouble is not None
        assert list(patient.waiting) == [waiting]
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert (patient.trouble, list(patient.waiting)) == (None, [])
