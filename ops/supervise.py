"""`tillstream run --restart`: starts the worker again where nothing else does, as at a terminal."""

import os
import signal
import sys
import threading
import time
from types import FrameType

import click

from ops.check import WRONG_USAGE
from streams.retry import BackOff

PAUSES = BackOff(1.0, 60.0)
#: A worker that ran for so long was well: the pauses begin anew.
WELL_AFTER = 300.0


def supervise() -> None:
    """Returns in a new process, which is to be the worker, and in another one whenever that ended by a fault.

    This process stays behind and never returns: it passes SIGTERM, SIGINT and SIGUSR1 on, and ends as the last worker
    did, when it was told to stop or when starting again would not help. A worker whose supervisor is gone drains.
    """
    supervisor = _Supervisor()
    attempt = 0
    while True:
        began = time.monotonic()
        if supervisor.start():
            return
        code = supervisor.wait()
        if supervisor.stopping.is_set() or code in (0, WRONG_USAGE):
            sys.exit(code if code >= 0 else 128 - code)
        attempt = 1 if time.monotonic() - began > WELL_AFTER else attempt + 1
        pause = PAUSES.wait(attempt)
        click.echo(f"tillstream: the worker ended with exit code {code}, starting it again in {pause:.0f} s", err=True)
        if supervisor.stopping.wait(pause):
            sys.exit(code if code >= 0 else 128 - code)


class _Supervisor:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._worker: int | None = None
        self._lifeline, self._my_end = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._pass_on)

    def start(self) -> bool:
        """Whether this is the new process."""
        worker = os.fork()
        if worker == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._my_end)
            threading.Thread(target=self._drain_with_the_supervisor, name="lifeline", daemon=True).start()
            return True
        self._worker = worker
        if self.stopping.is_set():
            os.kill(worker, signal.SIGTERM)
        return False

    def wait(self) -> int:
        """The worker's exit code; minus the signal's number when one ended it."""
        assert self._worker is not None
        _, status = os.waitpid(self._worker, 0)
        self._worker = None
        return os.waitstatus_to_exitcode(status)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGUSR1:
            self.stopping.set()
        if self._worker is not None:
            os.kill(self._worker, number)

    def _drain_with_the_supervisor(self) -> None:
        os.read(self._lifeline, 1)  # returns at the end of the supervisor, however that came
        os.kill(os.getpid(), signal.SIGTERM)
