"""The watchdog: when it ends a worker, and when it lets it wait."""

import signal
import subprocess
import sys

import pytest

from ops.worker.watchdog import EXIT_RESTART, HangWatchdog
from streams.settings import WatchdogSettings as Limits
from streams.worker.state import WorkerState


class Machine:
    """A clock by hand, a broker that answers or not, and the actions of the watchdog."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ended: list[str] = []
        self.state = WorkerState(lambda: self.now, Limits(loop_seconds=30, progress_seconds=300, grace_seconds=15))
        self.watchdog = HangWatchdog(self.state, 15, self.ended.append)

    def pass_seconds(self, seconds: int, *, loop_runs: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1
            if loop_runs:
                self.state.heartbeat = self.now
            self.watchdog.check()
            if self.ended:
                return


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_worker_that_is_well_is_left_alone(machine: Machine) -> None:
    machine.pass_seconds(299)
    machine.state.progress = machine.now
    machine.pass_seconds(299)
    assert machine.ended == []


def test_loop_that_hangs_is_ended_after_the_grace(machine: Machine) -> None:
    machine.pass_seconds(45, loop_runs=False)
    assert machine.ended == []
    machine.pass_seconds(1, loop_runs=False)
    assert machine.ended == ["the worker is stalled, start it again: the event loop hangs for 46 s"]


def test_worker_that_was_suspended_is_not_ended_when_it_wakes_up(machine: Machine) -> None:
    machine.now += 200
    machine.watchdog.check()
    machine.pass_seconds(60)
    assert machine.ended == []


def test_worker_that_recovers_within_the_grace_gets_a_new_one_next_time(machine: Machine) -> None:
    machine.pass_seconds(40, loop_runs=False)
    machine.pass_seconds(1)
    machine.pass_seconds(40, loop_runs=False)
    assert machine.ended == []


def test_broker_that_is_away_is_waited_for_and_the_worker_has_time_again_afterwards(machine: Machine) -> None:
    machine.state.broker_down("no Kafka broker answers")
    machine.pass_seconds(1000)
    assert machine.ended == []
    assert "no Kafka broker answers" in machine.state.not_ready()
    machine.state.broker_up()
    machine.pass_seconds(299)
    assert machine.ended == []
    assert machine.state.stalled() == []
    machine.pass_seconds(20)
    assert len(machine.ended) == 1


def test_held_worker_waits_for_people_without_end(machine: Machine) -> None:
    machine.state.pause("too many dead letters")
    machine.pass_seconds(1000)
    assert machine.ended == []


def test_worker_that_does_not_end_is_ended_with_the_reason(machine: Machine) -> None:
    machine.state.fail(ZeroDivisionError("a bug"))
    machine.watchdog.expect_end(10)
    machine.pass_seconds(10)
    assert machine.ended == []
    machine.pass_seconds(1)
    assert machine.ended == ["the worker failed (ZeroDivisionError: a bug), and does not end by itself"]


def test_process_ends_with_stacks_and_the_reason_on_the_last_line() -> None:
    """Also while its main thread hangs and holds every lock of the logging."""
    program = (
        "import logging, threading, time\n"
        "from ops.worker.watchdog import end_process\n"
        "logging._acquireLock() if hasattr(logging, '_acquireLock') else logging._lock.acquire()\n"
        "threading.Thread(target=end_process, args=('the reason',)).start()\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == EXIT_RESTART
    assert done.stderr.splitlines()[-1] == "tillstream: the reason"
    assert "Current thread" in done.stderr


def test_process_ends_even_if_its_output_is_not_read() -> None:
    program = (
        "import os\n"
        "from ops.worker.watchdog import end_process\n"
        "os.set_blocking(2, False)\n"
        "try:\n"
        "    while os.write(2, b'x' * 65536): pass\n"
        "except BlockingIOError: pass\n"
        "os.set_blocking(2, True)\n"
        "end_process('the reason')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert process.wait(30) == -signal.SIGALRM
    assert process.stderr is not None
    process.stderr.close()
