"""Server processes on this machine: started, awaited, and never left behind.

POSIX only. Run as a program, this file is the watcher that `Guard` starts.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"

#: Below the ports that systems hand out to clients. A client that asks again and again for a dead server's
#: port in that range is some day given this very port as its own, and the server can't come back to it.
PORTS = range(20_000, 32_000)


class ServerError(Exception):
    """A server can't be had or does not start; the message says why, and what to do."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now."""
    for port in random.sample(PORTS, 200):
        if is_free(port):
            return port
    raise ServerError(f"no free port between {PORTS.start} and {PORTS.stop} on {HOST}")


def is_free(port: int) -> bool:
    """Whether a server could bind `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: connections that are still closing don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something on `port` of 127.0.0.1 takes connections."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def await_condition(holds: Callable[[], bool], timeout: float) -> bool:
    """Returns True as soon as `holds()`, False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of `log`, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


class Guard:
    """Ends a process, and removes a folder, when this process is gone without having dismissed the guard.

    A watcher process waits for the end of a pipe that only this process holds, so it notices even a SIGKILL.
    Linux's PDEATHSIG would not do: it follows the thread that started the child, and some threads end early.
    """

    def __init__(self, pid: int, *, with_signal: int = signal.SIGKILL, remove: Path | None = None) -> None:
        command = [sys.executable, "-I", "-S", __file__, str(pid), str(int(with_signal)), str(remove or "")]
        self._watcher = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the one it watches
        )

    def dismiss(self) -> None:
        """The process has ended properly: the watcher goes, and touches nothing."""
        with suppress(BrokenPipeError):
            self._watcher.communicate(b"dismissed")


class Process:
    """A running server. Its output goes to the end of `log`.

    With `guarded` it never outlives this process, and the folder `remove` goes with it; otherwise it runs on.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        guarded: bool,
        guard_signal: int = signal.SIGKILL,
        remove: Path | None = None,
        user: str | None = None,
        group: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
                env=None if environment is None else {**os.environ, **environment},
            )
        self._guard = Guard(self.pid, with_signal=guard_signal, remove=remove) if guarded else None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def await_start(self, ready: Callable[[], bool], timeout: float) -> None:
        """Returns when `ready()`. Ends the process and raises ServerError, with its log, if that never is."""
        try:
            came = await_condition(lambda: not self.alive or ready(), timeout)
        except BaseException:
            self.kill()
            raise
        if came and self.alive:
            return
        code = self._child.returncode
        what = f"is not ready after {timeout:.0f} s" if code is None else f"ended with exit code {code}"
        self.kill()
        raise ServerError(f"{self.name} {what}. The end of {self.log}:\n{tail(self.log)}")

    def signal(self, number: int) -> None:
        """Sends a signal; to a process that has ended, nothing."""
        self._child.send_signal(number)

    def end(self, number: int, timeout: float = 30) -> None:
        """Sends `number` and waits for the end, which SIGKILL brings about after `timeout` seconds."""
        self.signal(signal.SIGCONT)  # a stopped process takes no signal
        self.signal(number)
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._guard:
            self._guard.dismiss()
            self._guard = None

    def kill(self) -> None:
        """Ends the process at once (SIGKILL) and waits until it is gone."""
        self._child.kill()
        self.end(signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _watch(pid: int, number: int, folder: str) -> None:
    if sys.stdin.buffer.read():
        return  # dismissed
    for last in (number, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, last)
        if await_condition(lambda: not _exists(pid), timeout=10):
            break
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
