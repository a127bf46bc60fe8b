"""The sinks that the contract holds for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from sinks.base import Sink
from sinks.connect import open_sink, shown
from tests.support.tryton import sink_of


def open_full_url(url: str) -> Sink:
    """The sink at a URL that has its password in it, as the tests' servers give them."""
    password = make_url(url).password
    return open_sink(shown(url), password=None if password is None else str(password))


SQL = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=["memory", *SQL, pytest.param("tryton", marks=pytest.mark.tryton)])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """An empty sink."""
    if request.param == "tryton":
        sink: Sink = sink_of(request.getfixturevalue("tryton"), tmp_path)
    else:
        sink = open_full_url(_prepared(request, tmp_path))
    yield sink
    sink.close()


@pytest.fixture(params=["memory", *SQL])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty sink that holds any document whatever, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture(params=SQL)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty SQL sink, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture
def store(store_url: str) -> Iterator[Sink]:
    """An empty sink that books nothing: it holds any document whatever, as an ERP would not."""
    sink = open_full_url(store_url)
    yield sink
    sink.close()


@pytest.fixture
def sql_sink(sql_url: str) -> Iterator[Sink]:
    """An empty SQL sink."""
    sink = open_full_url(sql_url)
    yield sink
    sink.close()


def _prepared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = request.param
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'sink.db'}"
    sink = open_full_url(url)
    assert all(finding.ok for finding in sink.check(apply=True))
    sink.close()
    return str(url)
