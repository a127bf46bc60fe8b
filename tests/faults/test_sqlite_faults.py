"""SQLite's file is locked by another program: that is waited for. (Workers on SQLite are killed in `test_kills`.)"""

import time

import pytest
from sqlalchemy import text

from sinks.sqlite.sink import BUSY_TIMEOUT
from tests.faults.conftest import OpenWorld
from tests.faults.world import World


def locked_for(world: World, seconds: float) -> None:
    """Another program has a transaction open that writes; records keep coming."""
    with world.engine.connect() as other:
        other.execute(text("BEGIN IMMEDIATE"))
        world.feed(200)
        time.sleep(seconds)
        other.rollback()
    world.finish()


@pytest.mark.faults_long
def test_file_locked_by_another_program_is_waited_for(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    for worker in (world.start(), world.start()):
        worker.wait_ready()
    for _ in range(20):
        locked_for(world, world.random.uniform(0.2, 1))


@pytest.mark.faults_long
def test_file_locked_beyond_the_busy_timeout_is_waited_for(open_worlds: OpenWorld) -> None:
    world = open_worlds("sqlite")
    world.start().wait_ready()
    locked_for(world, 2.5 * BUSY_TIMEOUT)
    assert world.sink_errors()["lock"] >= 1
