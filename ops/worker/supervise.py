"""`tillstream run --restart` and `--workers`: restarts workers where nothing else does, as at a terminal."""

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
#: Seconds after which a worker counts as healthy, and the pauses before restarts start over.
HEALTHY_AFTER = 300.0
POLL = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def supervise(workers: int = 1) -> int:
    """Fork this many worker processes, and fork a new one whenever one crashes. Returns in the new processes only.

    The result is the worker's number, from 0. The calling process never returns: it passes SIGTERM, SIGINT and SIGUSR1
    on to the workers, and exits when all of them have ended: after a signal, or because one failed for a reason that a
    restart can't fix, which stops the others and sets the exit code. Workers whose supervisor is gone drain.
    """
    supervisor = _Supervisor(workers)
    while True:
        for slot in supervisor.vacant():
            if supervisor.start(slot):
                return slot.number
        supervisor.reap()
        if supervisor.done():
            sys.exit(supervisor.code)
        time.sleep(POLL)


@dataclass
class _WorkerSlot:
    """A worker's slot: its process, if it has one, and when the next one may start."""

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
        self._slots = [_WorkerSlot(number) for number in range(workers)]
        self._lifeline, self._supervisor_end = os.pipe()
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)

    def vacant(self) -> list[_WorkerSlot]:
        """Return the slots whose worker should start now."""
        now = time.monotonic()
        waiting = [slot for slot in self._slots if slot.process is None and not slot.left]
        return [] if self._stopping else [slot for slot in waiting if now >= slot.due]

    def start(self, slot: _WorkerSlot) -> bool:
        """Fork a worker for the slot. Return True in the new process."""
        # Signals are held back until the new process has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            leave_on_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(self._supervisor_end)
            drain_at_end_of(self._lifeline)
            return True
        slot.process, slot.began = process, time.monotonic()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._stopping:  # the signal came before this worker existed
            os.kill(process, signal.SIGTERM)
        return False

    def reap(self) -> None:
        """Clear the slots of processes that have ended, and plan their restarts."""
        for slot in self._slots:
            if slot.process is None:
                continue
            ended, status = os.waitpid(slot.process, os.WNOHANG)
            if not ended:
                continue
            slot.process = None
            code = os.waitstatus_to_exitcode(status)
            if self._stopping or code in (0, WRONG_USAGE):
                slot.left = True
                self.code = self.code or (code if code >= 0 else 128 - code)
                if code == WRONG_USAGE:
                    self._signal_all(signal.SIGTERM)
            else:
                self._plan_restart(slot, code)

    def done(self) -> bool:
        """Return whether no worker runs and none will be started."""
        return all(slot.process is None and (slot.left or self._stopping) for slot in self._slots)

    def _plan_restart(self, slot: _WorkerSlot, code: int) -> None:
        now = time.monotonic()
        slot.attempt = 1 if now - slot.began > HEALTHY_AFTER else slot.attempt + 1
        pause = PAUSES.wait(slot.attempt)
        slot.due = now + pause
        name = f"worker {slot.number}" if len(self._slots) > 1 else "the worker"
        click.echo(f"tillstream: {name} ended with exit code {code}, restarting it in {pause:.0f} s", err=True)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        if number != signal.SIGUSR1:
            self._stopping = True
        for slot in self._slots:
            if slot.process is not None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(slot.process, number)
