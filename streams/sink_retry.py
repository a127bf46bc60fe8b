"""Retries calls to an unavailable sink, with back-off, until it answers.

One call of each partition may be waiting. The first answer wakes all the others, so that after an outage no partition
stays behind for the length of its last pause.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from schemas.document import ErpDocument
from sinks.base import Result, Sink, SinkUnavailable
from streams.metrics import WorkerMetrics
from streams.worker.state import EVERYONE

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")
#: Seconds without a write after which an idle sink is pinged.
PING_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class BackOff:
    """Waiting times in seconds: doubling from `first` to `max`, each with a jitter of ±25 %."""

    first: float = 0.2
    max: float = 10.0

    def wait(self, attempt: int) -> float:
        """Return how long to wait after the `attempt`-th failure (1 is the first)."""
        return min(self.max, self.first * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.75, 1.25)  # noqa: S311 (jitter)


class RetryingSink:
    """A sink whose calls never raise SinkUnavailable: they retry until the sink answers."""

    def __init__(self, sink: Sink, metrics: WorkerMetrics, back_off: BackOff | None = None) -> None:
        self._sink = sink
        self._metrics = metrics
        self._back_off = back_off or BackOff()
        self._log = structlog.get_logger("tillstream.sink")
        self._troubles: dict[object, str] = {}  # by the waiting task, or EVERYONE
        self._available_again = asyncio.Event()
        self._last_call = time.monotonic()

    @property
    def trouble(self) -> str | None:
        """The last failure, until the sink has answered every waiting call; else None."""
        return next(iter(list(self._troubles.values())), None)

    @property
    def waiting(self) -> Collection[object]:
        """The tasks whose calls wait for the sink; EVERYONE if it did not answer a ping."""
        return list(self._troubles)

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.write`, in a thread. Retries after SinkUnavailable; may be cancelled at any time."""
        if not documents:
            return []
        results, seconds = await self._retried(self._sink.write, documents)
        self._metrics.sink_write.observe(seconds)
        return results

    async def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.rehearse`. Retries as `write` does."""
        return (await self._retried(self._sink.rehearse, documents))[0] if documents else []

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As `Sink.holds`. Retries as `write` does."""
        return (await self._retried(self._sink.holds, external_refs))[0] if external_refs else set()

    async def _retried(self, call: Callable[[Argument], Answer], argument: Argument) -> tuple[Answer, float]:
        """Return the answer, and the seconds of the call that was answered."""
        attempt = 0
        task = asyncio.current_task()
        try:
            while True:
                started = time.perf_counter()
                self._last_call = time.monotonic()
                try:
                    answer = await asyncio.to_thread(call, argument)
                except SinkUnavailable as error:
                    attempt += 1
                    await self._wait_out(error, attempt, task)
                else:
                    self._answered(task)
                    return answer, time.perf_counter() - started
        finally:
            self._troubles.pop(task, None)

    async def ping_if_idle(self) -> None:
        """Ping the sink if it was not called for a while, so that an outage shows before the next sale."""
        if time.monotonic() - self._last_call < PING_AFTER:
            return
        self._last_call = time.monotonic()
        try:
            await asyncio.to_thread(self._sink.ping)
        except SinkUnavailable as error:
            self._in_trouble(error, 1, EVERYONE)
        else:
            self._answered(EVERYONE)

    def _in_trouble(self, error: SinkUnavailable, attempt: int, waiter: object) -> None:
        self._metrics.sink_errors.labels(error.kind).inc()
        self._metrics.sink_up.set(0)
        if not self._troubles:
            self._available_again = asyncio.Event()
            self._log.warning("sink unavailable, waiting", kind=error.kind, error=str(error), attempt=attempt)
        self._troubles[waiter] = f"sink: {error.kind}: {error}"

    async def _wait_out(self, error: SinkUnavailable, attempt: int, waiter: object) -> None:
        self._in_trouble(error, attempt, waiter)
        if error.retry_after:
            await asyncio.sleep(error.retry_after)
            return
        available_again, pause = self._available_again, self._back_off.wait(attempt)
        # A call that keeps failing while others succeed is not retried after each of their answers.
        shortest = min(pause, self._back_off.first)
        await asyncio.sleep(shortest)
        with suppress(TimeoutError):
            await asyncio.wait_for(available_again.wait(), pause - shortest)

    def _answered(self, waiter: object) -> None:
        """Wake the other waiting calls, since the sink answered; each keeps its trouble until answered as well."""
        waited = bool(self._troubles)
        self._troubles.pop(waiter, None)
        self._troubles.pop(EVERYONE, None)
        if waited:
            self._available_again.set()
            self._available_again = asyncio.Event()
        if not self._troubles:
            self._metrics.sink_up.set(1)
            if waited:
                self._log.info("sink available again")
