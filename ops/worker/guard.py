"""A process that watches the worker from outside and ends it when its interpreter is stuck.

A call into C that keeps the interpreter's lock stops every thread of the worker: the event loop, /healthz, the
watchdog, and Python's signal handlers. The guard is forked before the worker starts. The watchdog's thread counts up a
number in shared memory; when it does not change for too long, the guard makes C signal handlers print the stacks and
end the process, and prints the reason on the last line.
"""

import ctypes
import faulthandler
import mmap
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TICK = 0.5
_COUNT = struct.Struct("<Q")
#: Ends the worker through C's `_exit`: as process 1 of a container it would not receive SIGKILL from its own child.
END = int(getattr(signal, "SIGRTMIN", 0)) + 6 if hasattr(signal, "SIGRTMIN") else None
STACKS = signal.SIGUSR2
LAST_WORDS = 5.0


class ProcessGuard:
    """Watches this process from a child process, which calls `note` before it ends a stuck worker."""

    def __init__(self, limit: float, note: Callable[[], object]) -> None:
        self._limit = limit
        self._note = note
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._beats = 0

    def start(self) -> None:
        """Fork the guard. It ends with this process, however that ends."""
        faulthandler.register(STACKS, file=sys.__stderr__ or 2, all_threads=True, chain=False)
        if END is not None:
            with suppress(AttributeError, OSError):
                libc = ctypes.CDLL(None)
                libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
                libc.signal(END, ctypes.cast(libc._exit, ctypes.c_void_p))
        guard_end, self._worker_end = os.pipe()
        worker = os.getpid()
        if os.fork() == 0:
            try:
                os.close(self._worker_end)
                self._watch(worker, guard_end)
            finally:
                os._exit(0)
        os.close(guard_end)

    def beat(self) -> None:
        """Show that the interpreter runs."""
        self._beats += 1
        _COUNT.pack_into(self._memory, 0, self._beats)

    def _watch(self, worker: int, lifeline: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)  # these are for the worker, and the guard ends with it
        last, silent, checked_at = 0, 0.0, time.monotonic()
        while not select.select([lifeline], [], [], TICK)[0]:
            now = time.monotonic()
            (beats,) = _COUNT.unpack_from(self._memory)
            passed, checked_at = min(now - checked_at, 2 * TICK), now  # the guard may have been suspended itself
            if beats != last or not beats or _is_stopped(worker):
                last, silent = beats, 0.0
                continue
            silent += passed
            if silent >= self._limit:
                self._end(worker, silent)
                return

    def _end(self, worker: int, silent: float) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, STACKS)
            noting = threading.Thread(target=self._note, daemon=True)
            noting.start()
            noting.join(LAST_WORDS)
            reason = f"the worker is stalled, start it again: the interpreter hangs for {silent:.0f} s"
            os.write(2, f"tillstream: {reason}\n".encode())
            if END is not None:
                os.kill(worker, END)
                time.sleep(1.0)
            os.kill(worker, signal.SIGKILL)


def _is_stopped(process: int) -> bool:
    """Return whether someone has stopped the process (SIGSTOP, a debugger), so that it does not really hang."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"
