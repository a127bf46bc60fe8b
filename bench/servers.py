"""The servers of a benchmark: the given ones, or real ones of this machine that are gone afterwards."""

import argparse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.kafka.broker import Broker
from deploy.processes import ServerError
from tests.support.postgres_server import LocalPostgres, Postgres

POSTGRES_HELP = "a server (default: a temporary one of this machine)"


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """`--kafka` and `--postgres`, for `open_kafka` and `open_postgres`."""
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker (default: a temporary one: Java, Maven)")
    parser.add_argument("--postgres", metavar="URL", help=POSTGRES_HELP)


@contextmanager
def open_postgres(url: str | None) -> Iterator[Postgres]:
    """The server at `url`, whose user is a superuser, or a temporary one with fsync on; it keeps commit times.

    Raises ServerError.
    """
    if url is not None:
        given = Postgres(url, "given")
        if _setting(given, "track_commit_timestamp") != "on":
            raise ServerError("the clock of the benchmark needs a PostgreSQL with track_commit_timestamp = on")
        yield given
    else:
        with LocalPostgres(fsync=True) as postgres:
            with postgres.connect() as connection:
                connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            postgres.restart()
            yield postgres


def _setting(postgres: Postgres, name: str) -> object:
    with postgres.connect() as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return row[0] if row else None


@contextmanager
def open_kafka(bootstrap: str | None) -> Iterator[str]:
    """The broker at `bootstrap`, or a temporary one. Yields its address. Raises ServerError."""
    if bootstrap is not None:
        yield bootstrap
    else:
        with Broker() as broker:
            yield broker.bootstrap


@contextmanager
def fresh_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards; the server has flushed earlier writes."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    url = postgres.create_database(name)
    try:
        with postgres.connect() as connection:
            connection.execute("CHECKPOINT")
        yield url
    finally:
        postgres.drop(name)
