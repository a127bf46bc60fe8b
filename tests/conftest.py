"""Fixtures for every test. Whichever Kafka and PostgreSQL there are, tests see the same objects."""

import os
import re
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from deploy.components import postgres_folder
from deploy.kafka import distribution
from deploy.tryton.server import DATABASE, Tryton
from tests.support.kafka import Kafka, kafka_in_words, local_kafka, open_kafka
from tests.support.postgres import open_postgres, postgres_in_words
from tests.support.postgres_server import LocalPostgres, Postgres
from tests.support.tryton import Running, empty, open_tryton, tryton_in_words, why_no_tryton

#: Set where tests must not make do with less: in CI.
STRICT = bool(os.environ.get("TILLSTREAM_TEST_STRICT"))
#: Whether what takes too long for every change runs too (`make faults`).
LONG = os.environ.get("TILLSTREAM_FAULTS") == "long"

_SERVICES = {
    "kafka": {"kafka", "own_kafka"},
    "postgres": {"postgres", "own_postgres"},
    "tryton": {"tryton", "own_tryton"},
}


# Tests never judge by speed: a busy machine is no failure.
settings.register_profile("tillstream", deadline=None)
settings.load_profile("tillstream")


def pytest_configure(config: pytest.Config) -> None:
    """The mock broker is a warning to be seen, not a failure."""
    config.addinivalue_line("filterwarnings", "default::tests.support.kafka.EmbeddedBrokerWarning")


def pytest_report_header() -> list[str]:
    """Says what the tests run on."""
    return [kafka_in_words(), postgres_in_words(), tryton_in_words()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks every test by the services it uses, so that `make unit` can leave those out; leaves out the long ones.

    Those that use any come first: they are the long ones, and short ones at the end leave no process idle. Those that
    use Tryton, which may still have to be installed, come last of them.
    """
    for item in items:
        for service, fixtures in _SERVICES.items():
            if fixtures & set(getattr(item, "fixturenames", ())):
                item.add_marker(service)
    left_out = [] if LONG else [item for item in items if item.get_closest_marker("faults_long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]

    def turn(item: pytest.Item) -> int:
        uses = [mark.name for mark in item.iter_markers() if mark.name in _SERVICES]
        return 1 if "tryton" in uses else 0 if uses else 2

    items.sort(key=turn)


class OneByOne(LoadScopeScheduling):
    """Each process takes the next test when it is done with one, but all of a file that shares something."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares(self.config.rootpath / file) else nodeid


@cache
def _shares(file: Path) -> bool:
    return 'scope="module"' in file.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneByOne:
    """How tests are dealt out to processes."""
    return OneByOne(config, log)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One Kafka for all tests, which use topics of their own."""
    with open_kafka() as found:
        assert not STRICT or found.kind != "embedded", "a real Kafka is wanted (TILLSTREAM_TEST_STRICT)"
        yield found


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A real broker for this test alone, to kill, pause and restart: `own_kafka.broker`."""
    if not distribution.is_available():
        pytest.skip("needs a broker of its own: install Java and Maven")
    with local_kafka() as found:
        yield found


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    """A name that no other topic has, and that tells the test. The topic itself is not created."""
    test = re.sub(r"[^a-zA-Z0-9_.-]", "-", request.node.name)[:100]
    return f"{test}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests, which use databases of their own."""
    with open_postgres() as found:
        if found is None:
            assert not STRICT, f"PostgreSQL is wanted (TILLSTREAM_TEST_STRICT): {postgres_in_words()}"
            pytest.skip(postgres_in_words())
        yield found


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database for this test alone: `postgresql+psycopg://…`, with the password."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop(name)


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A server for this test alone, to stop and restart."""
    if postgres_folder() is None:
        pytest.skip("needs a server of its own: install PostgreSQL")
    with LocalPostgres() as found:
        yield found


@pytest.fixture(scope="session")
def tryton_server() -> Iterator[Running]:
    """One Tryton for all tests."""
    _require_tryton()
    with open_tryton() as found:
        yield found


@pytest.fixture(scope="session")
def tryton_server_on_postgres(postgres: Postgres) -> Iterator[Tryton]:
    """One Tryton on PostgreSQL for all tests. Making its tables takes Tryton a minute, so this is for the long ones."""
    _require_tryton()
    server = make_url(postgres.create_database(DATABASE)).set(drivername="postgresql", database="")
    try:
        with Tryton(postgres=server.render_as_string(hide_password=False)) as found:
            yield found
    finally:
        postgres.drop(DATABASE)


#: As a parameter of `tryton`.
ON_POSTGRES = pytest.param("tryton_server_on_postgres", marks=[pytest.mark.postgres, pytest.mark.faults_long])


@pytest.fixture
def tryton(request: pytest.FixtureRequest) -> Running:
    """A Tryton in which nothing has been sold yet: on SQLite, unless a test says otherwise."""
    server: Running = request.getfixturevalue(getattr(request, "param", "tryton_server"))
    empty(server)
    return server


@pytest.fixture
def own_tryton() -> Iterator[Tryton]:
    """A server for this test alone, to kill and restart."""
    _require_tryton()
    with Tryton() as found:
        yield found


def _require_tryton() -> None:
    missing = why_no_tryton()
    if missing is not None:
        assert not STRICT, f"Tryton is wanted (TILLSTREAM_TEST_STRICT): {missing}"
        pytest.skip(f"needs Tryton: {missing}")
