"""A worker that is told to stop before it has begun ends at once, and nothing is wrong."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import OpenWorld
from tests.faults.test_watchdog import start_supervised, supervised
from tests.support.workers import Worker, launch


@pytest.fixture
def silent_broker() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def await_handler(worker: Worker) -> None:
    """Return when the worker's interpreter is up, so far that Tillstream's own code decides what SIGTERM means."""
    status = Path(f"/proc/{worker.process.pid}/status")
    deadline = time.monotonic() + 60
    while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
        assert time.monotonic() < deadline, worker.words()
        time.sleep(0.01)


@pytest.mark.parametrize("supervisor", [False, True], ids=["alone", "supervised"])
@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 3.0])
def test_worker_that_is_told_to_stop_while_it_starts_ends_with_0(
    open_worlds: OpenWorld, seconds: float, supervisor: bool
) -> None:
    world = open_worlds("sqlite")
    worker = start_supervised(world) if supervisor else world.start(launch=launch)
    await_handler(worker)
    time.sleep(seconds)  # any moment of the start is as good as another
    assert worker.terminate(40) == 0, worker.words()
    assert "Traceback" not in worker.words()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_waits_for_a_broker_ends_with_0(
    open_worlds: OpenWorld, number: signal.Signals, silent_broker: str
) -> None:
    world = open_worlds("sqlite")
    worker = Worker(world.folder, world.settings | {"broker": silent_broker}, None, launch)
    world.workers.append(worker)
    time.sleep(2.5)
    worker.process.send_signal(number)
    assert worker.process.wait(40) == 0, worker.words()


def test_supervisor_whose_worker_waits_for_a_broker_ends_with_0(open_worlds: OpenWorld, silent_broker: str) -> None:
    world = open_worlds("sqlite")
    worker = Worker(world.folder, world.settings | {"broker": silent_broker}, None, supervised)
    world.workers.append(worker)
    time.sleep(2.5)
    assert worker.terminate(40) == 0, worker.words()
