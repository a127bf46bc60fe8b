"""`tillstream run` with a fault: `python -m tests.support.faulty_worker FAULT[:COUNT] run …`.

The fault strikes when its place is passed for the COUNT-th time (1 is the first), in most places once per batch; once
only, also when the worker is started again by its supervisor. The product itself has no hooks for this: the faults are
put around its parts here, in one place.
"""

import functools
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.sharedctypes import RawValue
from typing import Any, NamedTuple

import aiokafka
import sqlalchemy
from aiokafka.producer.sender import SendProduceReqHandler

from ops.cli import main
from streams import pipeline
from streams.dead_letters.writer import DeadLetterWriter
from streams.dedupe import WindowIndex
from streams.sink_retry import RetryingSink
from streams.worker import app
from streams.worker.transport import Slice, SliceConsumer

HOUR = 3600.0
DAY = 24 * HOUR


def die() -> None:
    """kill -9, by our own hand: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    """A bug."""
    raise ZeroDivisionError("a bug that was put in")


def hang() -> None:
    """Never comes back."""
    time.sleep(3600)


def stop_fetching() -> None:
    """Faust is known to do that without a word."""

    async def nothing(self: SliceConsumer, **_: Any) -> dict[Any, Any]:
        await self.sleep(0.1)
        return {}

    SliceConsumer._getmany = nothing


class Clock:
    """The wall clock of this process, which can jump; monotonic clocks, which waits and time-outs go by, can't."""

    def __init__(self) -> None:
        self._real = time.time
        self._ahead = 0.0
        time.time = lambda: self._real() + self._ahead
        app.utc_now = lambda: datetime.fromtimestamp(time.time(), UTC)
        self._send = aiokafka.AIOKafkaProducer.send
        aiokafka.AIOKafkaProducer.send = lambda *args, **kwargs: self._stamped(*args, **kwargs)

    def _stamped(self, *args: Any, timestamp_ms: int | None = None, **kwargs: Any) -> Any:
        """As records are stamped on a machine with this clock: the producer's own code asks the kernel."""
        stamp = int(time.time() * 1000) if self._ahead and timestamp_ms is None else timestamp_ms
        return self._send(*args, timestamp_ms=stamp, **kwargs)

    def jump(self, seconds: float) -> None:
        """All at once, as when somebody sets it."""
        self._ahead += seconds


class Fault(NamedTuple):
    """`strike` before or after a call of `owner.name`; calls for which `counts` is false are let through."""

    owner: Any
    name: str
    strike: Callable[[], None]
    after: bool
    counts: Callable[..., bool] = lambda *_: True


clock = Clock()


def in_a_write(*_: Any) -> bool:
    """Whether this is a sink's thread: what migrates at the start is in the main one."""
    return threading.current_thread() is not threading.main_thread()


def of_a_slice(_: Any, message: Any) -> bool:
    """Whether a message is of the source topic."""
    return isinstance(message.value, Slice)


def of_dead_letters(_: Any, response: Any) -> bool:
    """Whether the broker confirms dead letters, rather than changelog records."""
    return any(topic.endswith(".dlq") for topic, _ in response.topics)


#: kill -9 here. In the order of a batch's way.
KILLS = {
    "before-decode": Fault(pipeline, "decode", die, False),
    "after-decode": Fault(pipeline, "decode", die, True),
    "before-sink": Fault(RetryingSink, "write", die, False),
    "before-sink-commit": Fault(sqlalchemy.Connection, "commit", die, False, in_a_write),
    "after-sink-commit": Fault(sqlalchemy.Connection, "commit", die, True, in_a_write),
    "between-sink-and-seen": Fault(WindowIndex, "add", die, False),
    "after-seen": Fault(WindowIndex, "add", die, True),
    "between-seen-and-dead-letters": Fault(DeadLetterWriter, "put", die, False),
    "dead-letters-there-but-unconfirmed": Fault(SendProduceReqHandler, "handle_response", die, False, of_dead_letters),
    "between-dead-letters-and-ack": Fault(DeadLetterWriter, "put", die, True),
    "before-ack": Fault(SliceConsumer, "ack", die, False, of_a_slice),
    "after-ack": Fault(SliceConsumer, "ack", die, True, of_a_slice),
    "before-commit": Fault(aiokafka.AIOKafkaConsumer, "commit", die, False),
    "after-commit": Fault(aiokafka.AIOKafkaConsumer, "commit", die, True),
}

FAULTS = KILLS | {
    "loop-hangs": Fault(DeadLetterWriter, "put", hang, False),
    "write-hangs": Fault(sqlalchemy.Connection, "commit", hang, False, in_a_write),
    "fetching-stops": Fault(DeadLetterWriter, "put", stop_fetching, True),
    "bug": Fault(DeadLetterWriter, "put", fail, False),
    "clock-a-day-ahead": Fault(RetryingSink, "write", lambda: clock.jump(DAY), False),
    "clock-two-hours-ahead": Fault(RetryingSink, "write", lambda: clock.jump(2 * HOUR), False),
    "clock-a-day-behind": Fault(RetryingSink, "write", lambda: clock.jump(-DAY), False),
}


def hold_the_interpreter() -> None:
    """A call into C that does not come back, and keeps every other thread from running."""
    sum(range(10**13))


#: At each record with the word `poison` in it, in every life. In the step that decodes.
POISONS = {"poison-bug": fail, "poison-hang": hang, "poison-holds-the-interpreter": hold_the_interpreter}


def poison(strike: Callable[[], None]) -> None:
    """Puts a fault in that some records bring about, whoever reads them."""
    work = pipeline.decode

    def faulty(batch: Any, source: Any) -> Any:
        if any(b"poison" in (record.value or b"") for record in batch.records):
            strike()
        return work(batch, source)

    pipeline.decode = faulty


def put_in(fault: str) -> None:
    """Puts the fault `NAME[:COUNT]` into this process, and into those it forks: they count together."""
    name, _, number = fault.partition(":")
    if name in POISONS:
        poison(POISONS[name])
        return
    owner, method, strike, after, matters = FAULTS[name]
    work = getattr(owner, method)
    calls, lock = RawValue("i", 0), threading.Lock()

    def due(*args: Any) -> bool:
        if not matters(*args):
            return False
        with lock:
            calls.value += 1
            return bool(calls.value == int(number or 1))

    @functools.wraps(work)
    async def faulty_async(*args: Any, **kwargs: Any) -> Any:
        now = due(*args)
        if now and not after:
            strike()
        result = await work(*args, **kwargs)
        if now and after:
            strike()
        return result

    @functools.wraps(work)
    def faulty(*args: Any, **kwargs: Any) -> Any:
        now = due(*args)
        if now and not after:
            strike()
        result = work(*args, **kwargs)
        if now and after:
            strike()
        return result

    setattr(owner, method, faulty_async if inspect.iscoroutinefunction(work) else faulty)


if __name__ == "__main__":
    put_in(sys.argv.pop(1))
    main()
