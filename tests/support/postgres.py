"""A PostgreSQL for tests, from wherever one can be had, in this order:

1. the one whose URL is in TILLSTREAM_TEST_POSTGRES (its user may create databases),
2. a container, when a Docker engine answers,
3. a server of this machine's binaries, in a temporary folder, on 127.0.0.1 only.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from deploy.components import postgres_folder
from tests.support.docker_engine import docker_answers
from tests.support.postgres_server import Kind, LocalPostgres, Postgres

_ADDRESS = "TILLSTREAM_TEST_POSTGRES"
_EXPLAINED: dict[Kind | None, str] = {
    "given": f"the one in {_ADDRESS}",
    "container": "a container",
    "local": "this machine's binaries",
    None: f"none (set {_ADDRESS}, install PostgreSQL, or start Docker): tests that need it are skipped",
}


@cache
def postgres_kind() -> Kind | None:
    """Which PostgreSQL the tests of this run get; None when there is none to be had."""
    if os.environ.get(_ADDRESS):
        return "given"
    if docker_answers():
        return "container"
    return "local" if postgres_folder() else None


def postgres_in_words() -> str:
    """One line for pytest's header."""
    return f"postgres: {_EXPLAINED[postgres_kind()]}"


@contextmanager
def open_postgres() -> Iterator[Postgres | None]:
    """The PostgreSQL of this run, started if need be, gone afterwards. None when there is none to be had."""
    kind = postgres_kind()
    if kind == "given":
        yield Postgres(os.environ[_ADDRESS], kind)
    elif kind == "container":
        with _container() as postgres:
            yield postgres
    elif kind == "local":
        with LocalPostgres() as postgres:
            yield postgres
    else:
        yield None


@contextmanager
def _container() -> Iterator[Postgres]:
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer("postgres:17.6", driver="psycopg") as container:
        yield Postgres(container.get_connection_url(), "container")
