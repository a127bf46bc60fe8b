"""Workers come, go, freeze and wake up: partitions move all the time, and every sale is one document."""

import os
import signal
import time

import pytest

from tests.faults.conftest import LONG, OpenWorld, Tell
from tests.faults.test_kafka_faults import ROUNDS
from tests.faults.test_resources import MEGABYTE, memory, produce_backlog
from tests.faults.world import World
from tests.support.wait import wait_until
from tests.support.workers import Worker


def assigned(worker: Worker) -> int:
    """How many partitions it says it has."""
    lines = worker.get("/metrics")[1].splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("tillstream_assigned_partitions "))


@pytest.mark.parametrize("database", ["postgres", pytest.param("sqlite", marks=pytest.mark.faults_long)])
def test_workers_that_come_and_go_under_load_neither_lose_nor_double(
    open_worlds: OpenWorld, tell: Tell, database: str
) -> None:
    world = open_worlds(database)
    stays = world.start()
    others: list[Worker] = []
    came = drained = killed = 0
    deadline = time.monotonic() + (60 if LONG else 6)
    while time.monotonic() < deadline or not (drained and killed):
        world.feed(world.random.randint(50, 150))
        time.sleep(world.random.uniform(0, 0.8))
        if len(others) < 3 and world.random.random() < 0.6:
            others.append(world.start())
            came += 1
        elif others:
            leaver = others.pop(world.random.randrange(len(others)))
            if world.random.random() < 0.5 and leaver.get("/healthz")[0]:
                leaver.process.send_signal(signal.SIGTERM)
                drained += 1
            else:
                leaver.kill()
                killed += 1
    world.wait_drained(120)
    assert world.skipped() == 0, "records were passed over"
    world.check()
    tell(f"{came} came, {drained} were told to go, {killed} were killed")
    assert stays.process.poll() is None


@pytest.mark.faults_long
def test_workers_that_join_one_after_the_other_lose_nothing_of_a_topic_that_nobody_has_read(
    open_worlds: OpenWorld,
) -> None:
    """Nothing is committed yet, so there is no offset to go back to when a rebalance interrupts the first polls."""
    for _ in range(8):
        world = open_worlds("sqlite")
        world.feed(1500)
        for _ in range(4):
            world.start()
            time.sleep(world.random.uniform(0, 1.2))
        world.wait_drained(120)
        world.check()
        for worker in world.workers:
            worker.kill()


def test_frozen_worker_that_wakes_up_when_its_partitions_have_moved_doubles_nothing(world: World) -> None:
    sleeper, other = world.start().wait_ready(), world.start().wait_ready()
    wait_until(lambda: assigned(sleeper) == assigned(other) == 2, 30, "two partitions each")
    for _ in range(ROUNDS):
        world.feed(world.random.randint(200, 600))
        time.sleep(world.random.uniform(0, 0.5))
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        world.feed(200)
        wait_until(lambda: assigned(other) == 4, 60, "all partitions with the other")
        world.feed(200)
        time.sleep(world.random.uniform(0, 2))
        os.kill(sleeper.process.pid, signal.SIGCONT)
        world.feed(200)
        wait_until(lambda: assigned(sleeper) == assigned(other) == 2, 60, "two partitions each again")
    world.feed(200)
    world.wait_drained(120)
    assert world.skipped() == 0, "records were passed over"
    world.check()
    assert [worker.process.poll() for worker in world.workers] == [None, None]


@pytest.mark.faults_long
@pytest.mark.parametrize("database", ["postgres", "sqlite"])
def test_two_workers_on_the_same_partitions_give_one_document(open_worlds: OpenWorld, database: str) -> None:
    """Two groups read everything, as the old and the new owner of a partition may for a moment."""
    world = open_worlds(database)
    twin = {"group": f"{world.group}-twin", "dead_letter_topic": f"{world.dead_letter_topic}-twin"}
    world.start()
    world.start(**twin)
    for _ in range(10 * ROUNDS):
        world.feed(100)
    world.wait_drained(120)
    wait_until(lambda: world.topics.lag(twin["group"], world.topic) == 0, 60, "the twin to be done as well")
    world.check()


def test_memory_does_not_grow_with_the_number_of_rebalances(open_worlds: OpenWorld, tell: Tell) -> None:
    """Each of them cuts fetches of a backlog off. Where nothing is given back it is 4 MiB more each time."""
    world = open_worlds("sqlite", slice_records=2000)
    stays = world.start().wait_ready()

    def rebalance_twice() -> None:
        produce_backlog(world, 20 * MEGABYTE)
        other = world.start().wait_ready()
        wait_until(lambda: assigned(stays) == 2, 60, "two partitions for each")
        assert other.terminate() == 0, other.words()
        wait_until(lambda: assigned(stays) == 4, 60, "all partitions with one")

    for _ in range(3):
        rebalance_twice()
    world.wait_drained(120)
    before = memory(stays, "VmRSS")
    rounds = 30 if LONG else 8
    for _ in range(rounds):
        rebalance_twice()
    world.wait_drained(120)
    most = before + 36 * MEGABYTE
    wait_until(lambda: memory(stays, "VmRSS") < most, 20, f"less than {most} bytes; it was {memory(stays, 'VmRSS')}")
    after = memory(stays, "VmRSS")
    tell(f"{2 * rounds} rebalances: {before // MEGABYTE} MiB of memory before, {after // MEGABYTE} MiB after")
