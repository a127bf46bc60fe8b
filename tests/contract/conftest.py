"""The sinks that the contract holds for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from sinks.base import Sink
from sinks.connect import open_sink, shown


def open_full_url(url: str) -> Sink:
    """The sink at a URL that has its password in it, as the tests' servers give them."""
    password = make_url(url).password
    return open_sink(shown(url), password=None if password is None else str(password))


SQL = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
#: Those that are no tables of ours.
OTHERS = ["memory", pytest.param("kafka", marks=pytest.mark.kafka)]


@pytest.fixture(params=[*OTHERS, *SQL])
def sink_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty sink, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture(params=SQL)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty SQL sink, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture
def sink(sink_url: str) -> Iterator[Sink]:
    """An empty sink."""
    sink = open_full_url(sink_url)
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
    elif kind == "kafka":
        topic = request.getfixturevalue("topic_name")
        url = f"kafka://{request.getfixturevalue('kafka').bootstrap}/{topic}?index={tmp_path / 'index.db'}"
    else:
        url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'sink.db'}"
    sink = open_full_url(url)
    assert all(finding.ok for finding in sink.check(apply=True))
    sink.close()
    return str(url)
