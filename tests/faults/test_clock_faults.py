"""The worker's clock is two hours ahead, and Kafka refuses records from more than an hour in its future."""

import json

import pytest

from streams.settings import load_settings
from tests.faults.world import World
from tests.support.wait import wait_until
from tests.support.workers import Worker


def warned_of_its_clock(worker: Worker) -> bool:
    status, body = worker.get("/readyz")
    return status == 200 and any("this machine's clock is" in warning for warning in json.loads(body)["warnings"])


def lines(worker: Worker, logger: str) -> list[str]:
    """What this logger said."""
    said = [json.loads(line) for line in worker.words().splitlines() if line.startswith("{")]
    return [line["event"] for line in said if line.get("logger") == logger]


def test_clock_that_is_ahead_keeps_no_dead_letter_back_and_is_reported_once(world: World) -> None:
    worker = world.start("clock-two-hours-ahead:1").wait_ready()
    for _ in range(4):
        world.feed(100)
        world.wait_drained(60)
    assert world.dead_letters() != []
    wait_until(lambda: warned_of_its_clock(worker), 20, "a warning of the clock")
    (line,) = lines(worker, "tillstream.clock")
    assert "ahead of the Kafka broker's" in line
    assert "InvalidTimestamp" not in worker.words()
    world.finish()


def test_topics_that_take_the_clocks_time_are_waited_for_with_the_clock_as_the_reason(world: World) -> None:
    """As topics are that somebody else has created."""
    world.topics.create_topic(world.dead_letter_topic, 4)
    worker = world.start("clock-two-hours-ahead:1").wait_ready()
    world.feed(300)

    def reasons() -> list[str]:
        said: list[str] = json.loads(worker.get("/readyz")[1])["reasons"]
        return said

    wait_until(
        lambda: any("this machine's clock is wrong" in reason for reason in reasons()), 40, "the clock as a reason"
    )
    assert all(world.dead_letter_topic in reason for reason in reasons())
    assert worker.get("/healthz")[0] == 200
    assert world.dead_letters() == []
    world.topics.set_config(world.dead_letter_topic, message_timestamp_type="LogAppendTime")
    world.finish()
    wait_until(lambda: reasons() == [], 20, "a ready worker")


@pytest.mark.faults_long
def test_changelog_that_takes_the_clocks_time_costs_the_window_and_no_sale(world: World) -> None:
    changelog = load_settings(group=world.group).topic_plan.names.changelog
    world.topics.create_topic(changelog, 4, {"cleanup.policy": "compact"})
    worker = world.start("clock-two-hours-ahead:1").wait_ready()
    world.feed(300)
    world.wait_drained(60)
    wait_until(lambda: warned_of_its_clock(worker), 20, "a warning of the clock")
    world.finish()
