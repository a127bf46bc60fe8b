"""`tillstream run --restart` and `--workers`: starts workers again where nothing else does, as at a terminal."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import click

from ops.check import WRONG_USAGE
from ops.worker.lifeline import drain_at_end_of
from ops.worker.signals import leave_on_signals
from streams.sink_retry import BackOff

PAUSES = BackOff(1.0, 60.0)
#: A worker that ran for so long was well: the pauses begin anew.
WELL_AFTER = 300.0
POLL = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def supervise(workers: int = 1) -> int:
    """Returns in each of so many new processes, which are to be workers, and in another one when one ended by a fault.

    What it returns is the worker's number, from 0. This process stays behind and never returns: it passes SIGTERM,
    SIGINT and SIGUSR1 on, and ends when all workers have: told to stop, or one for a reason that starting again would
    not help against, which stops the others. Its exit code is then that reason's. Workers whose supervisor is gone
    drain.
    """
    supervisor = _Supervisor(workers)
    while True:
        for seat in supervisor.vacant():
            if supervisor.start(seat):
                return seat.number
        supervisor.see_who_ended()
        if supervisor.done():
            sys.exit(supervisor.code)
        time.sleep(POLL)


@dataclass
class _WorkerSlot:
    """A worker's place: the process that has it, if one has, and when the next one may take it."""

    number: int
    process: int | None = None
    began: float = 0.0
    attempt: int = 0
    due: float = 0.0
    left: bool = False


class _Supervisor:
    def __init__(self, workers: int) -> None:
        self.code = 0
        self._stopping = False
        self._seats = [_WorkerSlot(number) for number in range(workers)]
        self._lifeline, self._my_end = os.pipe()
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)

    def vacant(self) -> list[_WorkerSlot]:
        """The seats that are to be taken now."""
        now = time.monotonic()
        waiting = [seat for seat in self._seats if seat.process is None and not seat.left]
        return [] if self._stopping else [seat for seat in waiting if now >= seat.due]

    def start(self, seat: _WorkerSlot) -> bool:
        """Whether this is the new process."""
        signal.pthread_sigmask(
            signal.SIG_BLOCK, _SIGNALS
        )  # what comes between the two is for the new process's handler
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            leave_on_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(self._my_end)
            drain_at_end_of(self._lifeline)
            return True
        seat.process, seat.began = process, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._stopping:  # the signal came before there was anyone to pass it on to
            os.kill(process, signal.SIGTERM)
        return False

    def see_who_ended(self) -> None:
        """Clears the seats of the processes that have ended, and says when they are taken again."""
        for seat in self._seats:
            if seat.process is None:
                continue
            ended, status = os.waitpid(seat.process, os.WNOHANG)
            if not ended:
                continue
            seat.process = None
            code = os.waitstatus_to_exitcode(status)
            if self._stopping or code in (0, WRONG_USAGE):
                seat.left = True
                self.code = self.code or (code if code >= 0 else 128 - code)
                if code == WRONG_USAGE:
                    self._tell_all(signal.SIGTERM)
            else:
                self._plan_restart(seat, code)

    def done(self) -> bool:
        """Whether no worker runs and none is to be started."""
        return all(seat.process is None and (seat.left or self._stopping) for seat in self._seats)

    def _plan_restart(self, seat: _WorkerSlot, code: int) -> None:
        now = time.monotonic()
        seat.attempt = 1 if now - seat.began > WELL_AFTER else seat.attempt + 1
        pause = PAUSES.wait(seat.attempt)
        seat.due = now + pause
        which = f"worker {seat.number}" if len(self._seats) > 1 else "the worker"
        click.echo(f"tillstream: {which} ended with exit code {code}, starting it again in {pause:.0f} s", err=True)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._tell_all(number)

    def _tell_all(self, number: int) -> None:
        if number != signal.SIGUSR1:
            self._stopping = True
        for seat in self._seats:
            if seat.process is not None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(seat.process, number)
