"""A worker that hangs is noticed, unready, and started again; one that must end says why on its last line."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import OpenWorld
from tests.faults.world import World, place
from tests.support.events import value
from tests.support.wait import wait_until
from tests.support.workers import ChildProcess, Launch, Worker, get

QUICK = {"watchdog": {"loop_seconds": 2, "batch_seconds": 3, "progress_seconds": 5, "grace_seconds": 1.5}}


BUDGET_EXCEEDED = "dead-letter budget exceeded"


def supervised(patch: str | None, config: Path, log: Path, options: Sequence[str] = ()) -> ChildProcess:
    """`tillstream run --restart`, as users do."""
    program = ["ops.cli"] if patch is None else ["tests.support.faulty_worker", patch]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TILLSTREAM_")}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *program, "run", *(options or ["--restart"]), "--config", str(config)],
            stdout=out,
            stderr=out,
            env=environment,
        )


def two_workers(patch: str | None, config: Path, log: Path, options: Sequence[str] = ()) -> ChildProcess:
    """`tillstream run --workers 2`."""
    return supervised(patch, config, log, ["--workers", "2", *options])


def start_supervised(world: World, patch: str | None = None, launch: Launch = supervised) -> Worker:
    worker = Worker(world.folder, world.settings, patch, launch)
    world.workers.append(worker)
    return worker


def pids_of_workers(supervisor: Worker) -> set[int]:
    pid = supervisor.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def pid_of_worker(supervisor: Worker) -> int | None:
    return min(pids_of_workers(supervisor), default=None)


def unready_because(worker: Worker, reason: str) -> Callable[[], bool]:
    def unready() -> bool:
        status, body = worker.get("/readyz")
        return status == 503 and any(reason in stated for stated in json.loads(body)["reasons"])

    return unready


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("loop-hangs", "the event loop hangs for"),
        pytest.param("fetching-stops", "records wait and none was settled for", marks=pytest.mark.faults_long),
        pytest.param("write-hangs", "a batch is in flight for", marks=pytest.mark.faults_long),
    ],
)
def test_worker_that_hangs_is_unready_and_then_started_again(open_worlds: OpenWorld, fault: str, reason: str) -> None:
    world = open_worlds("sqlite", **QUICK)
    worker = start_supervised(world, f"{fault}:{world.random.randint(1, 3)}")
    worker.wait_ready()
    first_life = pid_of_worker(worker)
    world.feed(300)
    unready = unready_because(worker, reason)
    wait_until(lambda: world.feed(5) and unready(), 40, f"a worker that is unready because {reason}")
    assert worker.get("/healthz")[0] == 503
    wait_until(lambda: pid_of_worker(worker) not in (first_life, None), 40, "another life")
    world.wait_drained(60)
    world.check()
    worker.wait_ready()
    assert worker.terminate() == 0, worker.words()
    words = worker.words().splitlines()
    (last,) = [line for line in words if line.startswith("tillstream: the worker is stalled, start it again: ")]
    assert reason in last
    assert words[words.index(last) + 1].startswith("tillstream: the worker ended with exit code 75, restarting it")


@pytest.mark.faults_long
def test_worker_without_a_supervisor_ends_itself_with_the_reason_on_the_last_line(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite", **QUICK)
    worker = world.start("loop-hangs:1")
    world.feed(300)
    assert worker.process.wait(60) == 75
    assert (
        worker.words()
        .splitlines()[-1]
        .startswith("tillstream: the worker is stalled, start it again: the event loop hangs for ")
    )
    world.workers.remove(worker)
    world.start()
    world.wait_drained()
    world.check()


@pytest.mark.faults_long
def test_killed_worker_is_started_again_and_its_supervisor_drains_it_when_told(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    supervisor = start_supervised(world)
    supervisor.wait_ready()
    world.feed(200)
    killed = pid_of_worker(supervisor)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    world.feed(200)
    wait_until(lambda: pid_of_worker(supervisor) not in (killed, None), 30, "another worker")
    world.wait_drained()
    world.check()
    assert supervisor.terminate() == 0
    assert "exit code -9, restarting it" in supervisor.words()


def test_two_workers_of_one_command_share_the_topic_and_each_is_started_again(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    supervisor = start_supervised(world, launch=two_workers)

    def has_partitions(port: int) -> bool:
        _, metrics = get(port, "/metrics")
        return re.search(r"^tillstream_assigned_partitions [1-9]", metrics, re.MULTILINE) is not None

    def shared() -> bool:
        return has_partitions(supervisor.port) and has_partitions(supervisor.port + 1)

    wait_until(shared, 60, "two workers with partitions")
    world.feed(200)
    first_life = pids_of_workers(supervisor)
    os.kill(max(first_life), signal.SIGKILL)
    wait_until(lambda: len(pids_of_workers(supervisor) - first_life) == 1, 30, "another second worker")
    world.feed(200)
    wait_until(shared, 60, "two workers with partitions again")
    world.wait_drained()
    world.check()
    assert supervisor.terminate() == 0
    assert supervisor.words().count("restarting it") == 1


@pytest.mark.faults_long
def test_worker_drains_when_its_supervisor_is_killed(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    supervisor = start_supervised(world)
    supervisor.wait_ready()
    world.feed(100)
    supervisor.kill()
    wait_until(lambda: '"event": "worker stopping"' in supervisor.words(), 30, "a worker that drains")
    wait_until(lambda: supervisor.get("/readyz")[0] == 0, 30, "a worker that has ended")
    world.workers.remove(supervisor)
    world.start()
    world.wait_drained()
    world.check()


def test_supervisor_does_not_start_again_what_can_not_run(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    world.settings["topic"] = "no-such-topic"
    supervisor = start_supervised(world)
    assert supervisor.process.wait(40) == 2
    assert supervisor.words().splitlines()[-1].startswith("tillstream: the topic no-such-topic does not exist")


def test_topic_that_is_deleted_ends_the_worker_with_that_on_the_last_line(world: World) -> None:
    worker = world.start().wait_ready()
    world.feed(100)
    world.wait_drained()
    world.topics.delete_topic(world.topic)
    assert worker.process.wait(60) == 2, worker.words()
    assert worker.words().splitlines()[-1] == f"tillstream: the topic {world.topic} does not exist any more"


def test_rejecting_everything_stops_within_the_budget_and_goes_on_when_told(world: World) -> None:
    budget, at_hand = 100, 4 * world.settings["slice_records"]
    bad_deploy = {"dead_letter_budget": {"ratio": 0.5, "sample": 200}, "default_store": None}
    worker = world.start(**bad_deploy).wait_ready()
    world.send(*[value(number) for number in range(2000)])
    wait_until(unready_because(worker, "held: "), 30, "a worker that holds")
    assert worker.get("/healthz")[0] == 200
    settled = settled_of(world)
    assert len(settled) <= budget

    world.send(*[value(number) for number in range(2000, 2100)])
    assert settled_of(world) == settled  # nothing is acknowledged meanwhile
    worker.process.send_signal(signal.SIGUSR1)
    told = "resumed by SIGUSR1: the held records become dead letters"
    wait_until(lambda: BUDGET_EXCEEDED in worker.words().partition(told)[2], 30, "a worker that holds again")
    assert unready_because(worker, "held: ")()
    assert len(settled) + budget < len(settled_of(world)) <= len(settled) + at_hand + budget
    assert worker.terminate() == 0

    world.start()
    world.wait_drained()
    dead = settled_of(world)
    sent = {(record.partition, record.offset): record.value for record in world.topics.records(world.topic)}
    good = [json.loads(sent[place] or b"")["event_id"] for place in sent.keys() - dead]
    assert world.event_ids() == sorted(f"pos:{event_id}" for event_id in good)
    assert len(sent) == 2100


def settled_of(world: World) -> set[tuple[int, int]]:
    """The places of the records that are dead letters; whatever is acknowledged is among them."""
    places = {place(letter) for letter in world.dead_letters()}
    committed = world.topics.committed(world.group, world.topic)
    if len(world.workers) == 1:
        assert all((number, offset) in places for number, end in committed.items() for offset in range(end))
    return places
