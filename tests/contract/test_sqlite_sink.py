"""SQLite's own ways to fail: another process's lock, a full disk, a broken file, `kill -9`."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from sinks.base import Accepted, SinkMisconfigured, SinkUnavailable
from sinks.sqlite.sink import SqliteSink
from tests.support.documents import document, documents, line

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the sink is."""
    return tmp_path / "sink.db"


@pytest.fixture
def sink(file: Path) -> Iterator[SqliteSink]:
    """A sink that does not wait long for others."""
    sink = SqliteSink(make_url(f"sqlite:///{file}"), busy_timeout=0.2)
    sink.check(apply=True)
    yield sink
    sink.close()


HOLD_THE_LOCK = """
import sqlite3, sys

connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
input()
"""


def test_a_file_locked_by_another_process_is_sink_unavailable(sink: SqliteSink, file: Path) -> None:
    command = [sys.executable, "-c", HOLD_THE_LOCK, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        for call in (lambda: sink.write([document()]), sink.ping):
            with pytest.raises(SinkUnavailable) as caught:
                call()
            assert caught.value.kind == "lock"
        assert sink.totals() == []  # reading goes on
        other.communicate(b"\n", timeout=10)
    assert sink.write([document()]) == [Accepted("pos:e-1-0", "written")]


def test_a_full_disk_is_sink_unavailable_and_leaves_nothing(sink: SqliteSink) -> None:
    with sink._engine.connect() as connection:  # this connection is the one the pool hands out next
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(SinkUnavailable) as caught:
        sink.write(documents(500))
    assert caught.value.kind == "disk"
    assert sink.totals() == []


def test_a_file_that_is_no_database_is_sink_unavailable(file: Path) -> None:
    file.write_bytes(b"not a database " * 1000)
    sink = SqliteSink(make_url(f"sqlite:///{file}"))
    with pytest.raises(SinkUnavailable) as caught:
        sink.ping()
    sink.close()
    assert caught.value.kind == "corrupt"


def test_missing_tables_are_sink_unavailable_with_the_way_out(file: Path) -> None:
    sink = SqliteSink(make_url(f"sqlite:///{file}"))
    with pytest.raises(SinkUnavailable, match="tillstream check --apply") as caught:
        sink.write([document()])
    sink.close()
    assert caught.value.kind == "schema"


def test_sums_in_sql_are_exact(sink: SqliteSink, file: Path) -> None:
    sink.write([document(number, lines=[line(1, "0.1", "0.2")]) for number in range(1, 1001)])
    with closing(sqlite3.connect(file)) as connection:
        sums = connection.execute("SELECT sum(gross), typeof(sum(gross)) FROM document_lines").fetchone()
    assert sums == (3_000_000, "integer")


WRITE_FOR_EVER = """
import sys
from sinks.registry import open_sink
from tests.support.documents import documents

sink = open_sink("sqlite:///" + sys.argv[1])
for first in range(1, 1_000_000, 50):
    sink.write(documents(50, first=first))
    print(first + 49, flush=True)
"""


def test_kill_9_takes_back_nothing_that_was_acknowledged(sink: SqliteSink, file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, file], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout
        for _ in range(20):
            acknowledged = int(other.stdout.readline())
        other.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, other.stdout.read().split())])
    (day,) = sink.totals()
    assert day.documents >= acknowledged
    assert day.lines == day.documents
    again = sink.write(documents(acknowledged))
    assert again == [Accepted(d.event_id, "duplicate") for d in documents(acknowledged)]


@pytest.mark.parametrize(
    ("table", "column", "written"),
    [
        ("documents", "gross", "eight"),
        ("documents", "business_date", "28.11.2026"),
        ("documents", "occurred_at", "yesterday"),
        ("document_lines", "quantity", "x"),
        ("document_payments", "amount", ""),
    ],
)
def test_value_of_another_type_that_somebody_wrote_is_named(
    sink: SqliteSink, file: Path, table: str, column: str, written: str
) -> None:
    kept = document()
    sink.write([kept])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"UPDATE {table} SET {column} = ?", (written,))
        connection.commit()
    place = f"the value in {table}.{column} of {kept.external_ref} is no number, or no date: "
    with pytest.raises(SinkMisconfigured, match=place):
        sink.read([kept.external_ref])
