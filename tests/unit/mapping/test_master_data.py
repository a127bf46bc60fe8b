"""Master data are read again without a restart, once they stand still; what is wrong is refused loudly, once."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.mapping.master_data import MasterData
from streams.mapping.tables import QueryDatabase
from streams.metrics import WorkerMetrics
from tests.support.mapping import ANY_STORE, NOWHERE, mapped, mapping_file
from tests.unit.mapping.test_tables import database

ITEMS = {"mapping": 1, "items": {"file": "items.csv"}}


class Watched:
    """Master data in a folder, and the looks at them."""

    def __init__(
        self, folder: Path, text: Any = ITEMS, items: str = "sku,item_code\nA,1\n", at: QueryDatabase = NOWHERE
    ):
        self.folder = folder
        self.data = MasterData(mapping_file(folder, text, items_csv=items), at, ANY_STORE)
        self.data.load()
        self.metrics = WorkerMetrics()
        self.metrics.mapping_current.set(1)
        self.clock = 1_000_000_000

    def write(self, name: str, content: str) -> None:
        """Another version of a file, at another time."""
        (self.folder / name).write_text(content)
        self.clock += 1
        os.utime(self.folder / name, (self.clock, self.clock))

    def look(self, times: int = 2) -> list[str]:
        """What is logged."""
        with capture_logs() as logs:
            for _ in range(times):
                self.data.reload_if_changed(self.metrics)
        return [f"{log['log_level']}: {log['event']}" for log in logs]

    def code(self) -> str | None:
        """The ERP's code of an apple."""
        return mapped(self.data.current()).lines[0].item_code

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


READ = ["info: master data read again"]
REFUSED = ["error: new master data refused, the version before stays"]


def test_changed_table_is_read_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.write("items.csv", "sku,item_code\nA,2\n")
    assert watched.look() == READ
    assert watched.code() == "2"


def test_nothing_is_read_again_while_nothing_changes(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    before = watched.data.current()
    assert watched.look(5) == []
    assert watched.data.current() is before


def test_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for number in range(5):
        watched.write("items.csv", f"sku,item_code\nA,{number}\n")
        assert watched.look(1) == []
    assert watched.code() == "1"
    assert watched.look(1) == READ
    assert watched.code() == "4"


def test_changed_mapping_is_read_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.write("mapping.yaml", "mapping: 1\nversion: two\nitems: {rows: [{sku: A, item_code: 3}]}\n")
    assert watched.look() == READ
    assert watched.code() == "3"
    assert watched.data.mapping.version == "two"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", "sku,item_code\n"),
        ("items.csv", "sku;item_code\nA;2\n"),
        ("mapping.yaml", "mapping: 1\nitens: {}\n"),
        ("mapping.yaml", "mapping: ["),
    ],
)
def test_broken_version_is_refused_once_and_the_one_before_stays(tmp_path: Path, name: str, content: str) -> None:
    watched = Watched(tmp_path)
    right = (tmp_path / name).read_text()
    watched.write(name, content)
    assert watched.look(6) == REFUSED
    assert watched.code() == "1"
    assert watched.metric("tillstream_mapping_errors_total", kind="refused") == 1
    assert watched.metric("tillstream_mapping_current") == 0
    watched.write(name, right)
    assert watched.look() == READ
    assert watched.metric("tillstream_mapping_current") == 1


def test_missing_table_of_a_new_mapping_is_read_when_it_comes(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.write("mapping.yaml", "mapping: 1\nitems: {file: new.csv}\n")
    assert watched.look(4) == REFUSED
    watched.write("new.csv", "sku,item_code\nA,9\n")
    assert watched.look() == READ
    assert watched.code() == "9"


def test_what_was_put_back_as_it_was_is_current_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    file = tmp_path / "items.csv"
    file.rename(tmp_path / "aside.csv")
    assert watched.look(3) == REFUSED
    (tmp_path / "aside.csv").rename(file)
    watched.look(2)
    assert watched.metric("tillstream_mapping_current") == 1
    assert watched.code() == "1"


@pytest.mark.parametrize("changed", [None, "SELECT max(day) FROM items"])
def test_changed_sql_table_is_read_again(tmp_path: Path, changed: str | None) -> None:
    erp = database(tmp_path, "INSERT INTO items VALUES ('A', 1, 1, '2026-01-01')")
    query = {"query": "SELECT sku, code AS item_code FROM items"} | ({"changed": changed} if changed else {})
    watched = Watched(tmp_path, {"mapping": 1, "items": {"sql": query}}, at=erp)
    with sqlite3.connect(tmp_path / "erp.db") as connection:
        connection.execute("UPDATE items SET code = 2, day = '2026-01-02'")
    connection.close()
    assert watched.look() == READ
    assert watched.code() == "2"


def test_database_that_went_away_leaves_what_there_was(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.write("mapping.yaml", "mapping: 1\nitems: {sql: {query: SELECT 1, url: 'postgresql://x@127.0.0.1:1/x'}}\n")
    assert watched.look(2) == ["warning: master data can't be read, the version before stays"]
    assert watched.code() == "1"
    assert watched.metric("tillstream_mapping_errors_total", kind="unreachable") == 1
