"""Real workers from a real Kafka into a real Tryton, somebody who posts, and kill -9 of any of them.

The topic says what the tills have sent, and so what must be in Tryton, sale by sale; its books must say so too.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from deploy.tryton.server import Tryton
from tests.faults.conftest import LONG, OpenWorld, Tell
from tests.faults.stream import Sending, Stream, due
from tests.faults.tryton_world import TrytonWorld, mapping_of_assortment
from tests.faults.world import World
from tests.support.kafka import Kafka

#: Of three records, two are receipts that are new: the others send one again, revise it, contradict it, or are broken.
RECORDS, KILLS = (600, 30) if LONG else (45, 4)
MANY_RECORDS, MANY_KILLS = 3300, 60


def sent(random: Random, count: int) -> list[Sending]:
    """So many records of three days."""
    return Stream(random, pace=250_000 / count).take(count)


@contextmanager
def open_tryton_world(folder: Path, topics: Kafka, topic: str, server: Tryton, random: Random) -> Iterator[TrytonWorld]:
    """A world whose topic exists and is empty."""
    topics.create_topic(topic)
    world = TrytonWorld(folder, topics, topic, server, random, slice_records=50 if LONG else 10)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def tryton_world(
    own_tryton: Tryton, tmp_path: Path, kafka: Kafka, topic_name: str, random: Random
) -> Iterator[TrytonWorld]:
    """A world that sells into a Tryton of its own."""
    with open_tryton_world(tmp_path, kafka, f"{topic_name}-tryton", own_tryton, random) as world:
        yield world


def send_under_fire(world: World, records: Sequence[Sending], kills: int) -> list[str]:
    """The records come bit by bit; who works for the world is killed in between. Who was, when all has come to its end.

    All are killed as often, by chance when. Workers also die at steps of their own.
    """
    killed = [world.mortals[number % len(world.mortals)] for number in range(kills)]
    world.random.shuffle(killed)
    size = len(records) // kills + 1
    world.muster()
    for number, who in enumerate(killed):
        world.topics.produce(world.topic, records[number * size : (number + 1) * size])
        time.sleep(world.random.uniform(0, 2))
        world.strike(who)
    world.forget_turned_away()
    world.start()
    world.finish(3000)
    return killed


def takings_of(world: World) -> list[tuple[str, date, int, Decimal]]:
    """By store and day, as the ERP has it: documents and gross."""
    with world.sink() as sink:
        return sorted((day.store, day.business_date, day.documents, day.gross) for day in sink.totals())


def test_killed_workers_posters_and_trytons_leave_the_books_that_the_tills_have_sent(
    tryton_world: TrytonWorld, random: Random, tell: Tell
) -> None:
    world = tryton_world
    killed = send_under_fire(world, sent(random, RECORDS), KILLS)
    expected = due(world.topics.records(world.topic))
    takings = expected.takings()
    assert takings_of(world) == takings
    assert len({store for store, *_ in takings}) > 1
    assert len({day for _, day, *_ in takings}) > 1
    tell(f"{len(expected.documents)} receipts; killed: {', '.join(killed)}; {len(world.workers)} workers in all")


@pytest.mark.faults_long
def test_the_same_receipts_come_to_the_same_totals_in_three_systems_whoever_is_killed(
    tryton_world: TrytonWorld, open_worlds: OpenWorld, tmp_path: Path, random: Random, tell: Tell
) -> None:
    records = sent(random, MANY_RECORDS)
    mapping = str(mapping_of_assortment(tmp_path))
    worlds = [tryton_world, *(open_worlds(database, mapping=mapping) for database in ("postgres", "sqlite"))]
    for world in worlds:
        send_under_fire(world, records, MANY_KILLS)
        for worker in world.alive():
            worker.kill()
    expected = due(tryton_world.topics.records(tryton_world.topic))
    assert len(expected.documents) > 2000
    takings = expected.takings()
    assert [takings_of(world) for world in worlds] == [takings] * 3
    totals = []
    for world in worlds:
        with world.sink() as sink:
            totals.append(sorted(sink.totals(deep=True), key=lambda day: (day.store, day.business_date)))
    assert totals[0] == totals[1] == totals[2]
    tell(f"{len(records)} records, {len(expected.documents)} receipts, {MANY_KILLS} kills in each of three systems")
