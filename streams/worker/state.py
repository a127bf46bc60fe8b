"""The state of a worker, for the health endpoints, the watchdog, the drain at the end, and the operator."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from streams.settings import WatchdogSettings

#: Represents all tasks among those that wait: any batch at work may be waiting for the same dependency.
EVERYONE = "everyone"


@dataclass(slots=True)
class WorkerState:
    """The state of one worker. Times are seconds of `clock` (monotonic).

    While `held` is set nothing is acknowledged; `failed` ends the worker.
    """

    clock: Callable[[], float]
    limits: WatchdogSettings = field(default_factory=WatchdogSettings)
    recovered: Callable[[], bool] = lambda: False
    stopping: bool = False
    held: str | None = None
    failed: BaseException | None = None
    outage: str | None = None
    troubles: Callable[[], list[str]] = list  # of sink, dead-letter topic etc., causes before effects
    waiting: Callable[[], Collection[object]] = tuple  # the tasks that wait for the sink or the dead-letter topic
    warnings: dict[str, str] = field(default_factory=dict)  # by task: trouble that does not keep sales from the ERP
    _begun: dict[object, float] = field(default_factory=dict)
    _task_of: dict[object, object] = field(default_factory=dict)
    _last_wait: float = field(init=False)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _resumed: asyncio.Event = field(default_factory=asyncio.Event)
    _passing: bool = True
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    heartbeat: float = field(init=False)
    progress: float = field(init=False)

    def __post_init__(self) -> None:
        self.heartbeat = self.progress = self._last_wait = self.clock()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark a slice as in flight."""
        token = object()
        self._begun[token] = self.clock()
        self._task_of[token] = current_task()
        self._idle.clear()
        try:
            yield
        finally:
            del self._begun[token]
            del self._task_of[token]
            if not self._begun:
                self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Return True as soon as no slice is in flight, False if one still is after `seconds`."""
        if self._begun:
            try:
                await asyncio.wait_for(self._idle.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def pause(self, reason: str) -> None:
        """Start no further slice. The worker stays up, unready, until `resume`; `held` is the reason."""
        self.held = self.held or reason

    async def wait_resumed(self) -> bool:
        """Return after `resume`: True if the held records pass, False if they are checked again."""
        await self._resumed.wait()
        return self._passing

    def resume(self, *, passing: bool = True) -> bool:
        """Release the held records: they pass, or are checked again. Return False when nothing is held."""
        if self.held is None:
            return False
        self.held = None
        self._passing = passing
        self.progress = self.clock()
        self._resumed.set()
        self._resumed = asyncio.Event()
        return True

    def fail(self, error: BaseException) -> None:
        """End the worker because of this error."""
        self.failed = self.failed or error
        self.ended.set()

    def broker_down(self, reason: str) -> None:
        """Note that the broker does not answer."""
        self.outage = reason

    def broker_up(self) -> None:
        """Note that the broker answers, and restart the time allowed without progress."""
        if self.outage is not None:
            self.outage = None
            self.progress = self.clock()

    def warn(self, task: str, reason: str | None) -> None:
        """Set, or with None clear, the trouble of a background task."""
        if reason is None:
            self.warnings.pop(task, None)
        else:
            self.warnings[task] = reason

    def waits_for(self) -> str | None:
        """Return the dependency the worker waits for, if any. Such waiting is not the worker's fault."""
        return next(iter(self.causes()), None)

    def causes(self) -> list[str]:
        """Return all dependencies the worker waits for, the broker first: other failures may follow from it."""
        return ([self.outage] if self.outage is not None else []) + self.troubles()

    def stalled(self) -> list[str]:
        """Return why the worker is stuck by a fault of its own; empty if it isn't.

        Faust is known to hang in recovery, and to stop fetching silently. A batch that waits for the sink is not stuck,
        whatever the batches of other partitions do in the meantime; its time starts over when the sink answers.
        """
        now = self.clock()
        waiting = self.waiting()
        for token, task in list(self._task_of.items()):
            if task in waiting and token in self._begun:
                self._begun[token] = now
        if waiting or self.waits_for() is not None:
            self._last_wait = now
        reasons = []
        if self.loop_hangs():
            reasons.append(f"the event loop hangs for {now - self.heartbeat:.0f} s")
        all_wait = self.outage is not None or EVERYONE in waiting or not waiting
        since = self._last_wait if all_wait else 0.0
        longest = max((now - max(begun, since) for begun in list(self._begun.values())), default=0.0)
        unsettled = now - max(self.progress, self._last_wait)
        if longest > self.limits.batch_seconds:
            reasons.append(f"a batch is in flight for {longest:.0f} s")
        elif unsettled > self.limits.progress_seconds and self.held is None:
            reasons.append(f"records wait and none was settled for {unsettled:.0f} s")
        return reasons

    def loop_hangs(self) -> bool:
        """Return whether the event loop has not run for too long."""
        return self.clock() - self.heartbeat > self.limits.loop_seconds

    def not_live(self) -> list[str]:
        """Return why the process should be restarted; empty if it needn't be."""
        failed = [f"failed: {type(self.failed).__name__}"] if self.failed is not None else []
        return failed + self.stalled()

    def not_ready(self) -> list[str]:
        """Return why sales don't reach the ERP right now; empty if they do."""
        reasons = self.not_live()
        if self.stopping:
            reasons.append("stopping")
        if self.held is not None:
            reasons.append(f"held: {self.held}")
        if not self.recovered():
            reasons.append("joining the group, or recovering the dedupe window")
        return reasons + self.causes()


def current_task() -> object:
    """Return the running task; None outside of any, as in a thread."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
