"""`tillstream` in a third of the time: forked from a process that has everything imported already.

What runs is the program, in a process of its own that can be killed like any other.
"""

import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

_CONTEXT = get_context("forkserver")
_SINKS = [
    *("sinks.postgres.sink", "sinks.sqlite.url", "sinks.kafka.url", "sinks.migrations", "sinks.webhook"),
    *("sinks.erpnext.url", "sinks.odoo.url", "sinks.tryton.url"),
]
_CONTEXT.set_forkserver_preload(["tests.support.faulty_worker", *_SINKS])

#: To start a process is to poll all others. Two polls at a time read one exit code, and the second finds nothing: 255.
_ONE_AT_A_TIME = threading.Lock()


class Completed(NamedTuple):
    """A program that has ended: the part of `subprocess.CompletedProcess` that tests look at."""

    returncode: int
    stdout: str
    stderr: str


class Forked:
    """A forked program, with the part of `subprocess.Popen`'s methods that tests use."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs; -9 after SIGKILL."""
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutError."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            time.sleep(0.02)
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, sig: int) -> None:
        """Any signal; to a process that has ended, nothing."""
        if self.poll() is None:  # else its id may be another process's by now
            os.kill(self.pid, sig)


def fork(patch: str | None, config: Path, log: Path, options: Sequence[str] = ()) -> Forked:
    """A `tests.support.workers.Launch`."""
    return _start(patch, ["run", "--config", str(config), *options], Path.cwd(), {}, log, log)


def run(*arguments: str, folder: Path, environment: Mapping[str, str], seconds: float = 120) -> Completed:
    """Runs the program to its end, without a terminal; of TILLSTREAM_… it sees what is in `environment`."""
    with tempfile.TemporaryDirectory() as kept:
        out, err = Path(kept, "out"), Path(kept, "err")
        process = _start(None, arguments, folder, environment, out, err)
        try:
            return Completed(process.wait(seconds), out.read_text(), err.read_text())
        finally:
            process.kill()


def _start(
    patch: str | None, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> Forked:
    process = _CONTEXT.Process(target=_run, args=(patch, arguments, folder, environment, out, err))
    with _ONE_AT_A_TIME:
        process.start()
    return Forked(process)


def _run(
    patch: str | None, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> None:
    for number, path in ((1, out), (2, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (for the life of the process)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 (likewise)
    for name in [name for name in os.environ if name.startswith("TILLSTREAM_")]:
        del os.environ[name]
    os.environ |= environment
    os.chdir(folder)
    from ops import cli
    from tests.support import faulty_worker  # where the faults are put in

    if patch is not None:
        faulty_worker.put_in(patch)
    sys.argv = ["tillstream", *arguments]
    cli.main()
