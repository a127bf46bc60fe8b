"""A record that ends a worker twice becomes a dead letter; what ends workers otherwise never makes one."""

import os
import signal

import pytest

from tests.faults.conftest import OpenWorld
from tests.faults.test_watchdog import QUICK, pid_of_worker, start_supervised
from tests.faults.world import World
from tests.support.events import value
from tests.support.wait import wait_until

POISON = value(7, cashier="poison")


def reasons(shop: World) -> list[tuple[str, str]]:
    return [
        (headers["tillstream.reason"].decode(), headers["tillstream.detail"].decode())
        for headers in (dict(letter.headers) for letter in shop.dead_letters())
    ]


def ids(*numbers: int) -> list[str]:
    return sorted(f"pos:e-{number}" for number in numbers)


def test_record_that_ends_a_worker_twice_is_a_dead_letter_and_the_others_are_delivered(world: World) -> None:
    around = [value(number) for number in range(1, 20) if number != 7]
    world.send(*around[:6], POISON, *around[6:], partition=0)
    for _ in range(2):
        worker = world.start("poison-bug")
        assert worker.process.wait(60) == 70, worker.words()
        assert world.topics.committed(world.group, world.topic) == {}
        assert world.dead_letters() == []
        world.workers.remove(worker)
    third = world.start("poison-bug")
    world.wait_drained()
    (letter,) = world.dead_letters()
    assert letter.value == POISON
    assert reasons(world) == [("ends_worker", "(the whole record): ZeroDivisionError")]
    assert world.event_ids() == ids(*[number for number in range(1, 20) if number != 7])

    world.send(value(30), partition=0)
    world.wait_drained()
    assert third.terminate() == 0
    fourth = world.start("poison-bug").wait_ready()
    world.send(value(31), partition=0)
    world.wait_drained()
    assert "one at a time" not in fourth.words()  # the note is gone
    assert len(world.dead_letters()) == 1


def test_version_by_which_every_record_ends_the_worker_makes_few_dead_letters_and_a_repaired_one_goes_on(
    world: World,
) -> None:
    world.send(*[value(number, cashier="poison") for number in range(10)], partition=0)
    for _ in range(12):
        worker = world.start("poison-bug")
        assert worker.process.wait(60) == 70, worker.words()
        world.workers.remove(worker)
    assert {dict(letter.headers)["__connect.errors.offset"] for letter in world.dead_letters()} == {b"0", b"1", b"2"}
    world.start()
    world.wait_drained()
    assert world.event_ids() == ids(*range(3, 10))


@pytest.mark.parametrize("fault", ["poison-hang", "poison-holds-the-interpreter"])
def test_record_that_hangs_the_worker_twice_is_a_dead_letter(open_worlds: OpenWorld, fault: str) -> None:
    world = open_worlds("sqlite", **QUICK)
    world.send(value(1), POISON, value(2), partition=0)
    supervisor = start_supervised(world, fault)
    wait_until(lambda: world.topics.lag(world.group, world.topic) == 0, 90, "lag 0")
    assert reasons(world) == [("ends_worker", "(the whole record): hangs")]
    assert world.event_ids() == ids(1, 2)
    assert supervisor.terminate() == 0
    words = supervisor.words().splitlines()
    last = [line for line in words if line.startswith("tillstream: the worker is stalled, start it again: ")]
    assert len(last) == 2
    hung = "the interpreter hangs for" if fault == "poison-holds-the-interpreter" else "the event loop hangs for"
    assert all(hung in line for line in last)
    assert all("restarting it" in words[words.index(line) + 1] for line in last)


def test_supervisor_that_is_told_to_stop_ends_though_its_worker_holds_the_interpreter(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite", **QUICK)
    supervisor = start_supervised(world, "poison-holds-the-interpreter")
    supervisor.wait_ready()
    world.send(POISON)
    wait_until(lambda: supervisor.get("/healthz")[0] == 0, 30, "a worker that does not answer")
    assert supervisor.terminate(30) != 0
    assert "the interpreter hangs for" in supervisor.words()


def test_stopped_worker_goes_on_when_it_is_let(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite", **QUICK)
    supervisor = start_supervised(world)
    supervisor.wait_ready()
    worker = pid_of_worker(supervisor)
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(AssertionError):
        wait_until(lambda: pid_of_worker(supervisor) != worker, 6, "another worker")
    os.kill(worker, signal.SIGCONT)
    supervisor.wait_ready()
    assert pid_of_worker(supervisor) == worker
    assert supervisor.terminate() == 0
