"""A bad world is waited out: the same call again, with back-off, until the sink answers it.

Calls wait side by side, one of each partition. The first that is answered ends the waiting of all, so that after an
outage nothing stays behind for as long as the last pause was.
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

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
#: Seconds without a write after which an idle sink is pinged.
PING_AFTER = 10.0


@dataclass(frozen=True, slots=True)
class BackOff:
    """Waiting times in seconds: doubling from `first` to `most`, each spread by ±25 %."""

    first: float = 0.2
    most: float = 10.0

    def wait(self, attempt: int) -> float:
        """How long to wait after the `attempt`-th failure (1 is the first)."""
        return min(self.most, self.first * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.75, 1.25)  # noqa: S311 (jitter)


class RetryingSink:
    """A sink whose calls never fail for the world's sake: they take as long as the world does."""

    def __init__(self, sink: Sink, metrics: WorkerMetrics, back_off: BackOff | None = None) -> None:
        self._sink = sink
        self._metrics = metrics
        self._back_off = back_off or BackOff()
        self._log = structlog.get_logger("tillstream.sink")
        self._troubles: dict[object, str] = {}  # by the task that waits, or EVERYONE
        self._answers_again = asyncio.Event()
        self._last_call = time.monotonic()

    @property
    def trouble(self) -> str | None:
        """The sink's trouble, while there is some: until every call that waits for it is answered."""
        return next(iter(list(self._troubles.values())), None)

    @property
    def waiting(self) -> Collection[object]:
        """The tasks whose calls wait for the sink; EVERYONE, when nobody called and it did not answer a ping."""
        return list(self._troubles)

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.write`, away from the event loop. Waits out SinkUnavailable; may be cancelled at any time."""
        if not documents:
            return []
        results, seconds = await self._patiently(self._sink.write, documents)
        self._metrics.sink_write.observe(seconds)
        return results

    async def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.rehearse`, and as patient as `write`."""
        return (await self._patiently(self._sink.rehearse, documents))[0] if documents else []

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As `Sink.holds`, and as patient as `write`."""
        return (await self._patiently(self._sink.holds, external_refs))[0] if external_refs else set()

    async def _patiently(self, call: Callable[[Asked], Answer], asked: Asked) -> tuple[Answer, float]:
        """The answer, and the seconds that the call took."""
        attempt = 0
        task = asyncio.current_task()
        try:
            while True:
                started = time.perf_counter()
                self._last_call = time.monotonic()
                try:
                    answer = await asyncio.to_thread(call, asked)
                except SinkUnavailable as error:
                    attempt += 1
                    await self._wait_out(error, attempt, task)
                else:
                    self._answered(task)
                    return answer, time.perf_counter() - started
        finally:
            self._troubles.pop(task, None)

    async def ping_if_idle(self) -> None:
        """Pings the sink when nothing was written for a while, so that trouble shows before the next sale."""
        if time.monotonic() - self._last_call < PING_AFTER:
            return
        self._last_call = time.monotonic()
        try:
            await asyncio.to_thread(self._sink.ping)
        except SinkUnavailable as error:
            self._in_trouble(error, 1, EVERYONE)
        else:
            self._answered(EVERYONE)

    def _in_trouble(self, error: SinkUnavailable, attempt: int, who: object) -> None:
        self._metrics.sink_errors.labels(error.kind).inc()
        self._metrics.sink_up.set(0)
        if not self._troubles:
            self._answers_again = asyncio.Event()
            self._log.warning("sink unavailable, waiting", kind=error.kind, error=str(error), attempt=attempt)
        self._troubles[who] = f"sink: {error.kind}: {error}"

    async def _wait_out(self, error: SinkUnavailable, attempt: int, who: object) -> None:
        self._in_trouble(error, attempt, who)
        if error.retry_after:
            await asyncio.sleep(error.retry_after)
            return
        answers_again, pause = self._answers_again, self._back_off.wait(attempt)
        # What fails while others are answered is not tried again each time that one is.
        at_least = min(pause, self._back_off.first)
        await asyncio.sleep(at_least)
        with suppress(TimeoutError):
            await asyncio.wait_for(answers_again.wait(), pause - at_least)

    def _answered(self, who: object) -> None:
        """The sink answers this one: who else waits for it tries again soon, and is in trouble until it is answered."""
        waited = bool(self._troubles)
        self._troubles.pop(who, None)
        self._troubles.pop(EVERYONE, None)
        if waited:
            self._answers_again.set()
            self._answers_again = asyncio.Event()
        if not self._troubles:
            self._metrics.sink_up.set(1)
            if waited:
                self._log.info("sink available again")
