"""The sinks that the contract holds for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from schemas.document import ErpDocument
from sinks.base import Sink
from sinks.connect import open_sink


class ReadableSink(Sink, Protocol):
    """A sink of our own database, which tells what it holds."""

    def read(self, external_refs: list[str]) -> list[ErpDocument]:
        """The documents held under these references, ordered by them."""
        ...


SQL = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=["memory", *SQL])
def sink_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty sink, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture(params=SQL)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty SQL sink, its schema applied."""
    return _prepared(request, tmp_path)


@pytest.fixture
def sink(sink_url: str) -> Iterator[ReadableSink]:
    """An empty sink."""
    sink = open_sink(sink_url)
    yield sink
    sink.close()


@pytest.fixture
def sql_sink(sql_url: str) -> Iterator[ReadableSink]:
    """An empty SQL sink."""
    sink = open_sink(sql_url)
    yield sink
    sink.close()


def _prepared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = request.param
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'sink.db'}"
    sink = open_sink(url)
    assert all(finding.ok for finding in sink.check(apply=True))
    sink.close()
    return str(url)
