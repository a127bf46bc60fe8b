"""The command line of `broker.py`. Exit codes: 0 done, 2 wrong usage, 3 no broker there or to be had."""

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.kafka.broker import Broker
from deploy.kafka.distribution import kafka_version
from deploy.processes import ServerError, await_condition

_STATE = "running.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    folder = options.data.resolve() if options.data else _default_folder()
    try:
        if options.command == "start":
            return _start(folder, options.port)
        return _stop(folder, keep=options.data is not None) if options.command == "stop" else _status(folder)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker.py",
        description=f"Apache Kafka {kafka_version()} without Docker: one node, on 127.0.0.1 only.",
        epilog="Example: broker.py start --port 9092, then tillstream run --broker 127.0.0.1:9092",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="start|stop|status")
    texts = {
        "start": "start the broker, wait until it answers, print its address; it runs on",
        "stop": "stop it; data in the default folder are removed, data in DIR stay",
        "status": "print its address; exit code 3 when it does not run",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--data", type=Path, metavar="DIR", help="its data (default: a temporary folder)")
        if name == "start":
            command.add_argument("--port", type=int, metavar="N", default=9092, help="its port (%(default)s)")
    return parser


def _default_folder() -> Path:
    """One temporary folder per user, so that `stop` and `status` find what `start` started."""
    return Path(tempfile.gettempdir()) / f"tillstream-kafka-{os.getuid()}"


def _start(folder: Path, port: int) -> int:
    running = _running(folder)
    if running:
        raise ServerError(f"a broker runs on these data already, at {running['bootstrap']}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ServerError(f"{folder} belongs to another user; name a folder of your own with --data")
    broker = Broker(port=port, data=folder, guarded=False).start()
    (folder / _STATE).write_text(json.dumps({"pid": broker.pid, "bootstrap": broker.bootstrap}))
    print(broker.bootstrap)
    return 0


def _status(folder: Path) -> int:
    running = _running(folder)
    print(f"{running['bootstrap']} (pid {running['pid']}, data in {folder})" if running else "not running")
    return 0 if running else 3


def _stop(folder: Path, *, keep: bool) -> int:
    running = _running(folder)
    if running:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(running["pid"], number)
            if await_condition(lambda: not _is_held(folder), timeout=30):
                break
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    print("stopped" if running else "not running")
    return 0


def _running(folder: Path) -> dict[str, Any] | None:
    """Return the state that `start` wrote, if that broker is still running."""
    if not _is_held(folder):
        return None
    state: dict[str, Any] = json.loads((folder / _STATE).read_text())
    return state


def _is_held(folder: Path) -> bool:
    """Whether a broker holds Kafka's own lock on the data: a process id may be another process's by now."""
    try:
        with (folder / "logs" / ".lock").open("r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
