"""URLs and what is wrong with them."""

import sys
from importlib.metadata import EntryPoint
from inspect import signature
from pathlib import Path

import pytest

from sinks.base import SinkMisconfigured
from sinks.memory import MemorySink
from sinks.registry import _FROM_URL, open_sink
from sinks.url import shown


def test_a_sqlite_file_is_opened_where_the_url_says(tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:///{tmp_path}/sink.db")
    sink.check(apply=True)
    sink.ping()
    sink.close()
    assert (tmp_path / "sink.db").exists()


def test_sqlite_file_has_no_password(tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured, match="no password: unset TILLSTREAM_SINK_PASSWORD"):
        open_sink(f"sqlite:///{tmp_path}/sink.db", password="geheim")


def test_memory_is_a_sink_too() -> None:
    assert isinstance(open_sink("memory://"), MemorySink)


@pytest.mark.parametrize("url", ["mysql://host/shop", "postgres://host/shop", "sqlite+x:///sink.db", "shop.db", ""])
def test_an_unknown_url_is_told_the_known_ones(url: str) -> None:
    with pytest.raises(SinkMisconfigured, match=r"memory://…, .*postgresql://…, "):
        open_sink(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_needs_a_file(url: str) -> None:
    with pytest.raises(SinkMisconfigured, match="needs a file"):
        open_sink(url)


def test_sqlite_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured, match="does not exist"):
        open_sink(f"sqlite:///{tmp_path}/no/such/sink.db")


def test_without_psycopg_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sinks.postgres.sink", raising=False)
    monkeypatch.delattr(sys.modules["sinks"], "postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SinkMisconfigured, match=r"tillstream\[postgres\]"):
        open_sink("postgresql://host/shop")


def test_a_wrong_url_is_not_repeated_with_its_password() -> None:
    with pytest.raises(SinkMisconfigured) as caught:
        open_sink("mysql://till:hunter2@host/shop")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://h:abc/db", "port"),
        ("postgresql://h:65536/db", "port"),
        ("postgresql://h/db?connect_timeout=abc", "connect_timeout"),
        ("postgresql://h/db?no_such=1", "no_such"),
        ("postgresql://h/db?plugin=no_such", "plugin"),
        ("postgresql://h/db?host=a&host=b&port=1&port=2&port=3", "hosts and ports"),
        ("sqlite:///sink.db?timeout=abc", "no parameters"),
    ],
)
@pytest.mark.parametrize("password", [None, "hunter2"])
def test_a_wrong_part_is_named_and_no_password(url: str, told: str, password: str | None) -> None:
    with pytest.raises(SinkMisconfigured, match=told) as caught:
        open_sink(url, password=password)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://till:hunter2@h/db",
        "postgresql://till:hunter2@h:5432/db",
        "postgresql://h/db?sslmode=require&password=hunter2",
        "postgresql+psycopg://:hunter2@h/db",
    ],
)
@pytest.mark.parametrize("password", [None, "hunter2"])
def test_a_password_in_the_url_is_refused(url: str, password: str | None) -> None:
    with pytest.raises(SinkMisconfigured, match="contains a password") as caught:
        open_sink(url, password=password)
    assert "hunter2" not in str(caught.value)


def test_a_url_without_a_password_is_opened_with_one() -> None:
    open_sink("postgresql://till@h/db?sslmode=require&connect_timeout=3", password="hunter2").close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://till:hunter2@h:5432/db", "postgresql://till@h:5432/db"),
        ("postgresql://till:hun@ter2@h/db", "postgresql://till@h/db"),
        ("postgresql://h/db?password=hunter2&sslmode=require", "postgresql://h/db?sslmode=require"),
        ("postgresql://h/db?sslpassword=hunter2&Passwd=hunter2", "postgresql://h/db"),
        ("postgresql://h:hunter2", "(not a URL)"),
        ("hunter2", "(not a URL)"),
        ("sqlite:////var/lib/my shop.db", "sqlite:////var/lib/my shop.db"),
        ("memory://", "memory://"),
    ],
)
def test_no_password_is_shown(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("tryton+http://host/erp", "needs a user"),
        ("tryton+http://user@host", "needs a user"),
        ("tryton+http://user@host/erp?pint=Main", "not known: pint"),
        ("tryton+http://user@host/erp?ledger=mysql://h/db", "ledger is an SQLite file"),
    ],
)
def test_what_is_wrong_with_the_url_of_a_tryton_is_told(url: str, told: str) -> None:
    with pytest.raises(SinkMisconfigured, match=told):
        open_sink(url)


def test_tryton_is_not_asked_until_it_is_used(tmp_path: Path) -> None:
    sink = open_sink(f"tryton+https://user@host/erp?ledger=sqlite:///{tmp_path}/l.sqlite", password="x")
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_tryton_without_a_password_is_told_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured, match="TILLSTREAM_SINK_PASSWORD or sink_password_file"):
        open_sink(f"tryton+https://user@host/erp?ledger=sqlite:///{tmp_path}/l.sqlite")


@pytest.mark.parametrize("scheme", sorted(_FROM_URL))
def test_each_scheme_has_a_from_url(scheme: str) -> None:
    from_url = EntryPoint(scheme, _FROM_URL[scheme], "tillstream.sinks").load()
    assert list(signature(from_url).parameters) == ["url"]
