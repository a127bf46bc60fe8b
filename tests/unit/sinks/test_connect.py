"""URLs and what is wrong with them."""

import sys
from pathlib import Path

import pytest

from sinks.base import SinkMisconfigured
from sinks.connect import open_sink
from sinks.memory import MemorySink


def test_a_sqlite_file_is_opened_where_the_url_says(tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:///{tmp_path}/sink.db")
    sink.check(apply=True)
    sink.ping()
    sink.close()
    assert (tmp_path / "sink.db").exists()


def test_memory_is_a_sink_too() -> None:
    assert isinstance(open_sink("memory://"), MemorySink)


@pytest.mark.parametrize("url", ["mysql://host/shop", "postgres://host/shop", "sqlite+x:///sink.db", "shop.db", ""])
def test_an_unknown_url_is_told_the_known_ones(url: str) -> None:
    with pytest.raises(SinkMisconfigured, match="memory://…, postgresql://…, "):
        open_sink(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_needs_a_file(url: str) -> None:
    with pytest.raises(SinkMisconfigured, match="needs a file"):
        open_sink(url)


def test_sqlite_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured, match="does not exist"):
        open_sink(f"sqlite:///{tmp_path}/no/such/sink.db")


def test_without_psycopg_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sinks.postgres", raising=False)
    monkeypatch.delattr(sys.modules["sinks"], "postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SinkMisconfigured, match=r"tillstream\[postgres\]"):
        open_sink("postgresql://host/shop")


def test_a_wrong_url_is_not_repeated_with_its_password() -> None:
    with pytest.raises(SinkMisconfigured) as caught:
        open_sink("mysql://till:hunter2@host/shop")
    assert "hunter2" not in str(caught.value)
