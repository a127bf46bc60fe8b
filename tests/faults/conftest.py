"""One seed per run, from which every test draws its stream and its faults.

TILLSTREAM_FAULTS=long     the long version (`make faults`); else the short one
TILLSTREAM_FAULTS_SEED=N   the seed; else a new one each time
TILLSTREAM_FAULTS_KILLS=N  how many workers are killed
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from tests.conftest import LONG as LONG
from tests.faults.world import World, open_world
from tests.support.kafka import Kafka
from tests.support.postgres_server import Postgres

SEED = int(os.environ.get("TILLSTREAM_FAULTS_SEED") or SystemRandom().randrange(10**6))

_TOLD = pytest.StashKey[list[str]]()

#: Opens a world on "postgres", "sqlite" or a database's URL, with settings of its own.
OpenWorld = Callable[..., World]
#: Says a line at the end of the run: what was done, what was measured.
Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """What is said here is shown at the end of the run."""
    return lambda line: request.config.stash.setdefault(_TOLD, []).append(f"{request.node.name}: {line}")


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """This test's own source of chance: from the run's seed and the test's name alone."""
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture
def world(open_worlds: OpenWorld) -> World:
    """One world, on PostgreSQL."""
    return open_worlds()


@pytest.fixture
def open_worlds(
    tmp_path: Path, kafka: Kafka, postgres: Postgres, topic_name: str, random: Random
) -> Iterator[OpenWorld]:
    """Opens worlds, as many as the test wants; all are closed at its end."""
    with ExitStack() as stack:
        opened: list[World] = []

        def open_one(database: str = "postgres", partitions: int = 4, **settings: Any) -> World:
            topic = f"{topic_name}-{len(opened)}"
            if "://" in database:
                url = database
            elif database == "postgres":
                name = f"faults_{topic_name[-8:]}_{len(opened)}"
                url = postgres.create_database(name)
                stack.callback(postgres.drop, name)
            else:
                url = f"sqlite:///{tmp_path}/{topic[-10:]}.sqlite"
            chance = Random(random.random())
            world = stack.enter_context(open_world(tmp_path, kafka, topic, url, chance, partitions, **settings))
            opened.append(world)
            return world

        yield open_one


def pytest_report_header() -> str:
    """The seed, before anything happens."""
    return f"faults: {'long' if LONG else 'short'}, seed {SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the tests have to tell."""
    if lines := config.stash.get(_TOLD, []):
        terminalreporter.section(f"faults, seed {SEED}")
        terminalreporter.write_line("\n".join(lines))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says how to have it again."""
    report = yield
    if report.failed:
        names = ["TILLSTREAM_FAULTS", "TILLSTREAM_FAULTS_KILLS"]
        given = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
        command = " ".join([*given, f"TILLSTREAM_FAULTS_SEED={SEED}", ".venv/bin/python -m pytest", repr(item.nodeid)])
        report.sections.append(("the same again", command))
    return report
