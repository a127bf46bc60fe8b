"""What a worker does with the dead letters beside the line: it counts open ones, and says what is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from streams.dead_letters import backlog
from streams.dead_letters.audit import AuditWriter, group_outcomes
from streams.dead_letters.backlog import BacklogMonitor
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import RequeueOrPark
from streams.dead_letters.retry import DeadLetterRetrier
from streams.metrics import WorkerMetrics
from streams.settings import Settings
from streams.worker.app import utc_now
from tests.support.dead_letters import dead, head
from tests.support.events import NOON
from tests.support.kafka import Kafka
from tests.support.line import Line
from tests.support.wait import wait_until


class World:
    """A watch at work on topics of its own, in its turn at first."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.kafka = kafka
        self.settings = Settings(broker=kafka.bootstrap, topic=topic, dead_letter_topic=f"{topic}.dlq")
        self.metrics = WorkerMetrics()
        self.turn = True
        self.warning: str | None = None
        self.watch = BacklogMonitor(
            self.settings, self.metrics, lambda: NOON + timedelta(hours=2), lambda: self.turn, self.warn
        )

    def warn(self, reason: str | None) -> None:
        self.warning = reason

    def has(self, number: float, age: float) -> bool:
        names = ("tillstream_dead_letters_open", "tillstream_dead_letters_oldest_age_seconds")
        return [self.metrics.registry.get_sample_value(name) for name in names] == [number, age]

    def send(self, *numbers: int) -> None:
        letters = [(made.key, made.value, list(made.headers)) for made in map(dead, numbers)]
        self.kafka.produce(self.settings.dead_letter_topic, letters, partition=0)


async def until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, 30, what)


@pytest.fixture
async def world(kafka: Kafka, topic_name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(backlog, "EVERY", 0.05)
    made = World(kafka, topic_name)
    running = asyncio.create_task(made.watch.run())
    yield made
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_open_letters_are_counted_until_they_are_dealt_with(world: World) -> None:
    world.kafka.create_topic(world.settings.audit_topic)
    world.kafka.create_topic(world.settings.dead_letter_topic)
    world.send(1, 2)
    await until(lambda: world.has(2, 7200), "two open letters, two hours old")
    assert world.warning is None
    trail = AuditWriter(world.settings)
    trail.write_outcomes(group_outcomes("me", [(head(1), "resolved", "", ""), (head(2), "delivered", "", "")]))
    await asyncio.to_thread(trail.confirm)
    await until(lambda: world.has(0, 0), "no open letters")
    world.send(3)
    await until(lambda: world.has(1, 7200), "a new one")
    world.turn = False
    await until(lambda: world.has(0, 0), "another worker's turn")


async def test_missing_topic_is_a_warning_until_it_is_there(world: World) -> None:
    if world.kafka.kind == "embedded":
        pytest.skip("the mock broker makes every topic that is asked for")
    await until(lambda: world.warning, "a warning")
    assert world.warning is not None
    assert world.warning.startswith("open dead letters are not counted: the topic ")
    world.kafka.create_topic(world.settings.dead_letter_topic)
    await until(lambda: world.warning is None, "no warning any more")


async def test_retrier_warns_while_a_topic_is_missing(kafka: Kafka, topic_name: str) -> None:
    if kafka.kind == "embedded":
        pytest.skip("the mock broker makes every topic that is asked for")
    settings = Settings(broker=kafka.bootstrap, topic=topic_name, dead_letter_topic=f"{topic_name}.dlq")
    warnings: list[str | None] = []
    back = RequeueOrPark(nowhere, settings.dead_letter_topic, settings.parked_topic, 3, utc_now)
    retrier = DeadLetterRetrier(
        settings, Line().services, back, lambda _: None, WorkerMetrics(), utc_now, warn=warnings.append
    )
    running = asyncio.create_task(retrier.run())
    try:
        await until(lambda: warnings, "a warning")
        assert warnings[0] is not None
        assert warnings[0].startswith("dead letters are not tried again: the topic ")
        await asyncio.to_thread(kafka.create_topic, settings.dead_letter_topic)
        await until(lambda: warnings[-1] is None, "no warning any more")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def nowhere(topic: str, letters: Sequence[DeadLetterRecord]) -> None:
    raise AssertionError("there is nothing to publish")
