"""Ends a worker that hangs: a stuck event loop, or a call that never returns, can't end itself."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable

from streams.worker.state import WorkerState

#: The exit code of a worker that should be restarted; sysexits.h calls it a temporary failure.
EXIT_RESTART = 75
TICK = 0.5
REPORT_SECONDS = 5


def end_process(reason: str) -> None:
    """End this process at once, printing the stacks of all threads and, on the last line, the reason to stderr."""
    signal.alarm(REPORT_SECONDS)  # in case writing to standard error hangs: then only the kernel can end this process
    faulthandler.dump_traceback(all_threads=True)
    os.write(2, f"tillstream: {reason}\n".encode())
    os._exit(EXIT_RESTART)


class HangWatchdog:
    """A thread that checks `state` and calls `end` when the worker stays stalled for `grace` seconds.

    `on_tick` is called at each check; `on_hang` before ending a worker whose event loop hangs.
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
        """Start watching; it goes on until the process ends."""
        self._on_tick()  # now, as the worker may hang before the thread's first check
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def expect_end(self, seconds: float) -> None:
        """Treat the worker as stalled if it has not ended within `seconds` from now."""
        self._deadline = self._deadline or self._state.clock() + seconds

    def check(self) -> None:
        """Check the worker once."""
        now = self._state.clock()
        if self._deadline is not None:
            if now > self._deadline:
                self._end(f"{self._end_reason()}, and does not end by itself")
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
            self.check()

    def _end_reason(self) -> str:
        failed = self._state.failed
        return f"the worker failed ({type(failed).__name__}: {failed})" if failed else "the worker was stopped"
