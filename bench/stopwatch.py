"""Times the steps of the real line from outside: the names that `streams.pipeline` calls are wrapped while it runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from schemas.document import ErpDocument
from schemas.store import Store, Stores
from sinks.base import Result, Sink
from sinks.postgres import copy_text
from streams import pipeline
from streams.dead_letters.budget import BudgetGuard
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from streams.dedupe import WindowIndex
from streams.mapping.mapper import IdentityMapper
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.sink_retry import RetryingSink

_STEPS = ("decode", "split_day_closes", "first_turn", "check", "by_result")
_TEXTS = ("deliveries_text", "documents_text", "lines_text", "payments_text")
_WHOLE = "whole line"
_SHOWN = (
    *("decode", "split_day_closes", "first_turn", "seen.split", "check", "map"),
    *("sink.write", *(f"  of it {name}" for name in _TEXTS), "by_result", "seen.add", _WHOLE),
)


class Stopwatch:
    """Seconds by step: on the wall, and of CPU time of the thread that does the step."""

    def __init__(self) -> None:
        self.wall = dict.fromkeys(_SHOWN, 0.0)
        self.cpu = dict.fromkeys(_SHOWN, 0.0)
        self.delivered = 0

    @contextmanager
    def span(self, step: str) -> Iterator[None]:
        """Add the time spent inside to `step`."""
        # The whole line runs in two threads, one at a time; a step runs in one.
        clock = time.process_time if step == _WHOLE else time.thread_time
        wall, cpu = time.perf_counter(), clock()
        yield
        self.wall[step] += time.perf_counter() - wall
        self.cpu[step] += clock() - cpu

    def timed(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, timed as `step`."""

        def wrapper(*args: Any, **options: Any) -> Any:
            with self.span(step):
                return call(*args, **options)

        return wrapper


class TimedSink:
    """Passes writes on to a sink and times them, in the thread that makes them."""

    def __init__(self, sink: Sink, watch: Stopwatch) -> None:
        self._sink = sink
        self._watch = watch

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.write`."""
        with self._watch.span("sink.write"):
            return self._sink.write(documents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class NoChunks:
    """A table that costs nothing: Faust's is measured with Kafka."""

    def put(self, key: str, start: float, digests: bytes) -> None:
        """Nothing."""

    def forget(self, key: str, start: float) -> None:
        """Nothing."""


@contextmanager
def timed_line(sink: Sink, watch: Stopwatch) -> Iterator[Services]:
    """Services whose every step is timed, as long as this lasts. Letters are made and dropped."""

    async def publish(letters: Sequence[DeadLetterRecord]) -> None:
        return None

    def now() -> datetime:
        return datetime.now(UTC)

    seen: Any = WindowIndex(24 * 3600, time.time, NoChunks())
    seen.split = watch.timed("seen.split", seen.split)
    seen.add = watch.timed("seen.add", seen.add)
    mapper: Any = IdentityMapper(Stores({}, Store()))
    mapper.map = watch.timed("map", mapper.map)
    steps: dict[str, Any] = {name: watch.timed(name, getattr(pipeline, name)) for name in _STEPS}
    texts: dict[str, Any] = {name: watch.timed(f"  of it {name}", getattr(copy_text, name)) for name in _TEXTS}
    with patch.multiple(pipeline, **steps), patch.multiple(copy_text, **texts):
        yield Services(
            seen=seen,
            sink=RetryingSink(TimedSink(sink, watch), WorkerMetrics()),
            dead_letters=DeadLetterWriter(publish, now),
            budget=BudgetGuard(0.5, 1000),
            mapper=lambda: mapper,
            now=now,
        )
