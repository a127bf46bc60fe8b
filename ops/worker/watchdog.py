"""Ends a worker that hangs: an event loop that is stuck can't end itself, nor can a call that never returns."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable

from streams.worker.state import WorkerState

#: The exit code of a worker that wants to be started again: sysexits calls it a temporary failure.
EXIT_RESTART = 75
TICK = 0.5
LAST_WORDS = 5


def end_process(reason: str) -> None:
    """Ends this process at once, with the stacks of all threads and, on the last line, the reason on standard error."""
    signal.alarm(LAST_WORDS)  # the kernel's own: standard error may be what hangs, and then nothing here runs any more
    faulthandler.dump_traceback(all_threads=True)
    os.write(2, f"tillstream: {reason}\n".encode())
    os._exit(EXIT_RESTART)


class HangWatchdog:
    """A thread that looks at `state` and calls `end` when the worker stays stalled for `grace` seconds.

    `on_tick` is called at each look; `on_hang` before the end of a worker whose event loop hangs.
    """

    def __init__(
        self,
        state: WorkerState,
        grace: float,
        end: Callable[[str], None] = end_process,
        on_tick: Callable[[], None] = lambda: None,
        on_hang: Callable[[], object] = lambda: None,
    ) -> None:
        self._state = state
        self._grace = grace
        self._end = end
        self._on_tick = on_tick
        self._on_hang = on_hang
        self._stalled_since: float | None = None
        self._deadline: float | None = None

    def start(self) -> None:
        """Watches until the process ends."""
        self._on_tick()  # now: the worker may hang before the thread looks for the first time
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect_end(self, seconds: float) -> None:
        """From now on a worker is stalled that has not ended after so long."""
        self._deadline = self._deadline or self._state.clock() + seconds

    def look(self) -> None:
        """One look."""
        now = self._state.clock()
        if self._deadline is not None:
            if now > self._deadline:
                self._end(f"{self._why_it_ends()}, and does not end by itself")
            return
        reasons = self._state.stalled()
        if not reasons:
            self._stalled_since = None
            return
        if self._stalled_since is None:
            self._stalled_since = now
        if now - self._stalled_since >= self._grace:
            if self._state.loop_hangs():
                self._on_hang()
            self._end(f"the worker is stalled, start it again: {'; '.join(reasons)}")

    def _watch(self) -> None:
        while True:
            time.sleep(TICK)
            self._on_tick()
            self.look()

    def _why_it_ends(self) -> str:
        failed = self._state.failed
        return f"the worker failed ({type(failed).__name__}: {failed})" if failed else "the worker was told to stop"
