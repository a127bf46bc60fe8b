"""The watchdog: when it ends a worker, and when it lets it wait."""

import signal
import subprocess
import sys

import pytest

from ops.worker.watchdog import EXIT_RESTART, HangWatchdog
from streams.settings import WatchdogSettings as Limits
from streams.worker.state import WorkerState


class World:
    """A clock by hand, a broker that answers or not, and what the watchdog did."""

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
def world() -> World:
    return World()


def test_worker_that_is_well_is_left_alone(world: World) -> None:
    world.pass_seconds(299)
    world.state.progress = world.now
    world.pass_seconds(299)
    assert world.ended == []


def test_loop_that_hangs_is_ended_after_the_grace(world: World) -> None:
    world.pass_seconds(45, loop_runs=False)
    assert world.ended == []
    world.pass_seconds(1, loop_runs=False)
    assert world.ended == ["the worker is stalled, start it again: the event loop hangs for 46 s"]


def test_worker_that_was_suspended_is_not_ended_when_it_wakes_up(world: World) -> None:
    world.now += 200
    world.watchdog.check()
    world.pass_seconds(60)
    assert world.ended == []


def test_worker_that_recovers_within_the_grace_gets_a_new_one_next_time(world: World) -> None:
    world.pass_seconds(40, loop_runs=False)
    world.pass_seconds(1)
    world.pass_seconds(40, loop_runs=False)
    assert world.ended == []


def test_broker_that_is_away_is_waited_for_and_the_worker_has_time_again_afterwards(world: World) -> None:
    world.state.broker_down("no Kafka broker answers")
    world.pass_seconds(1000)
    assert world.ended == []
    assert "no Kafka broker answers" in world.state.not_ready()
    world.state.broker_up()
    world.pass_seconds(299)
    assert world.ended == []
    assert world.state.stalled() == []
    world.pass_seconds(20)
    assert len(world.ended) == 1


def test_held_worker_waits_for_people_without_end(world: World) -> None:
    world.state.pause("too many dead letters")
    world.pass_seconds(1000)
    assert world.ended == []


def test_worker_that_does_not_end_is_ended_with_why_it_should_have(world: World) -> None:
    world.state.fail(ZeroDivisionError("a bug"))
    world.watchdog.expect_end(10)
    world.pass_seconds(10)
    assert world.ended == []
    world.pass_seconds(1)
    assert world.ended == ["the worker failed (ZeroDivisionError: a bug), and does not end by itself"]


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


def test_process_ends_even_if_nobody_reads_its_last_words() -> None:
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
