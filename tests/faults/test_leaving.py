"""A worker that is told to stop before it has begun ends at once, and nothing is wrong."""

import signal
import time

import pytest

from tests.faults.conftest import OpenWorld
from tests.faults.test_watchdog import start_supervised, supervised
from tests.support.workers import Worker, launch


@pytest.mark.parametrize("supervisor", [False, True], ids=["alone", "supervised"])
@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 3.0])
def test_worker_that_is_told_to_stop_while_it_starts_ends_with_0(
    open_worlds: OpenWorld, seconds: float, supervisor: bool
) -> None:
    world = open_worlds("sqlite")
    worker = start_supervised(world) if supervisor else world.start(launch=launch)
    time.sleep(seconds)  # any moment of the start is as good as another
    assert worker.terminate(40) == 0, worker.words()
    assert "Traceback" not in worker.words()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_waits_for_a_broker_ends_with_0(open_worlds: OpenWorld, number: signal.Signals) -> None:
    world = open_worlds("sqlite")
    worker = Worker(world.folder, world.settings | {"broker": "192.0.2.1:9092"}, None, launch)
    world.workers.append(worker)
    time.sleep(2.5)
    worker.process.send_signal(number)
    assert worker.process.wait(40) == 0, worker.words()


def test_supervisor_whose_worker_waits_for_a_broker_ends_with_0(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    worker = Worker(world.folder, world.settings | {"broker": "192.0.2.1:9092"}, None, supervised)
    world.workers.append(worker)
    time.sleep(2.5)
    assert worker.terminate(40) == 0, worker.words()
