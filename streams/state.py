"""What a worker is doing, for the health endpoints, the drain at the end, and the operator."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: The event loop is dead when it has not ticked for so long, and a slice is stuck when it is worked on for so long
#: while the sink is up.
STALLED_AFTER = 60.0
#: Nothing was settled for so long although records wait, or partitions have not been recovered: Faust is known to hang
#: in recovery and to stop fetching without a word.
HANGING_AFTER = 300.0


@dataclass(slots=True)
class State:
    """Times are seconds of `clock` (monotonic). `held` and `failed` end the work: nothing more is acknowledged."""

    clock: Callable[[], float]
    recovered: bool = False
    stopping: bool = False
    held: str | None = None
    failed: BaseException | None = None
    trouble: Callable[[], str | None] = lambda: None
    _begun: dict[object, float] = field(default_factory=dict)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    heartbeat: float = field(init=False)
    progress: float = field(init=False)

    def __post_init__(self) -> None:
        self.heartbeat = self.progress = self.clock()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Marks a slice as in flight."""
        token = object()
        self._begun[token] = self.clock()
        self._idle.clear()
        try:
            yield
        finally:
            del self._begun[token]
            if not self._begun:
                self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """True as soon as no slice is in flight, False when one still is after `seconds`."""
        if self._begun:
            try:
                await asyncio.wait_for(self._idle.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def hold(self, reason: str) -> None:
        """No slice is begun any more; the worker stays up, unready, until someone looks."""
        self.held = self.held or reason

    def fail(self, error: BaseException) -> None:
        """The worker must end."""
        self.failed = self.failed or error
        self.ended.set()

    def not_live(self) -> list[str]:
        """Why the process should be restarted; empty when it need not."""
        reasons = []
        if self.failed is not None:
            reasons.append(f"failed: {type(self.failed).__name__}")
        if self.clock() - self.heartbeat > STALLED_AFTER:
            reasons.append("the event loop does not progress")
        longest = max((self.clock() - begun for begun in list(self._begun.values())), default=0.0)
        if longest > STALLED_AFTER and self.trouble() is None:
            reasons.append(f"a batch is in flight for {longest:.0f} s")
        elif self.clock() - self.progress > HANGING_AFTER and self.trouble() is None and self.held is None:
            reasons.append(f"records wait and none was settled for {self.clock() - self.progress:.0f} s")
        return reasons

    def not_ready(self) -> list[str]:
        """Why the ERP is not being brought up to date right now; empty when it is."""
        reasons = self.not_live()
        if self.stopping:
            reasons.append("stopping")
        if self.held is not None:
            reasons.append(f"held: {self.held}")
        if not self.recovered:
            reasons.append("joining the group, or recovering the dedupe window")
        trouble = self.trouble()
        if trouble is not None:
            reasons.append(trouble)
        return reasons
