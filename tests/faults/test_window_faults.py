"""The dedupe window is lost, foreign, old, half recovered or misled by the clock: the sink is right without it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streams.settings import load_settings
from tests.faults.stream import OPENING, Stream
from tests.faults.world import World
from tests.support.wait import wait_until
from tests.support.workers import Worker

LONG_CHANGELOG = 30_000


def replay(world: World, patch: str | None = None, **settings: Any) -> Worker:
    """Ends the workers, sets the group back to the beginning, and has one worker read everything again."""
    for worker in world.workers:
        if worker.process.poll() is None:
            assert worker.terminate() == 0, worker.words()
    world.topics.reset(world.group, world.topic)
    again = world.start(patch, **settings)
    world.finish()
    return again


def delete_changelog(world: World) -> None:
    """The topic that the window is recovered from is gone."""
    name = load_settings(group=world.group).topic_plan.names.changelog
    world.topics.admin.delete_topics([name])[name].result(30)
    wait_until(lambda: name not in world.topics.admin.list_topics(timeout=10).topics, 30, "no changelog")


@pytest.mark.faults_long
def test_everything_read_again_is_recognised_by_the_window(world: World) -> None:
    world.feed(1000)
    world.start()
    world.wait_drained()
    (events,) = world.query("SELECT count(*) FROM deliveries")[0]
    again = replay(world).readings()
    assert again.delivered == 0
    assert again.duplicates["window"] >= events


@pytest.mark.faults_long
def test_everything_read_again_with_another_window_is_recognised_by_the_sink(world: World) -> None:
    world.feed(1000)
    world.start()
    world.wait_drained()
    (events,) = world.query("SELECT count(*) FROM deliveries")[0]
    again = replay(world, window="another").readings()
    assert again.delivered == 0
    assert again.duplicates["sink"] >= events


def test_everything_read_again_without_the_changelog_is_recognised_by_the_sink(world: World) -> None:
    world.feed(1000)
    first = world.start()
    world.wait_drained()
    (events,) = world.query("SELECT count(*) FROM deliveries")[0]
    assert first.terminate() == 0
    delete_changelog(world)
    again = replay(world).readings()
    assert again.delivered == 0
    assert again.duplicates["sink"] >= events


@pytest.mark.faults_long
def test_worker_whose_changelog_is_deleted_ends_and_the_next_one_goes_on(world: World) -> None:
    world.feed(400)
    bereft = world.start()
    world.wait_drained()
    delete_changelog(world)
    world.feed(400)
    assert bereft.process.wait(120) == 70, bereft.words()
    world.workers.remove(bereft)
    world.start()
    world.finish()


def test_events_that_the_window_has_forgotten_are_recognised_by_the_sink(world: World) -> None:
    old = world.feed(400)
    world.start()
    world.wait_drained()
    world.stream = Stream(world.random, OPENING + timedelta(days=4), first=10_000)
    world.feed(400)
    world.wait_drained()
    world.topics.produce(world.topic, old)
    world.finish()
    assert world.workers[0].readings().duplicates["sink"] > 100


@pytest.mark.faults_long
def test_workers_killed_while_they_recover_a_long_changelog_lose_nothing(world: World) -> None:
    world.settings["slice_records"] = 10
    world.feed(LONG_CHANGELOG)
    world.start()
    world.wait_drained(600)
    for _ in range(20):
        world.workers[-1].kill()
        world.feed(200)
        world.start()
        time.sleep(world.random.uniform(0, 3))
    world.wait_drained()
    replay(world)


def test_clock_that_jumps_by_a_day_and_back_neither_loses_nor_doubles(world: World) -> None:
    world.stream = Stream(world.random, datetime.now(UTC) - timedelta(hours=2), pace=1)
    world.feed(600)
    world.start("clock-a-day-ahead:5")
    world.wait_drained()
    world.feed(600)
    world.finish()
    replay(world, "clock-a-day-behind:5")
