"""What the names on the command line stand for, and tables that are no CSV."""

import gzip
import json
import sqlite3
import zipfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook

from ops.files.inputs import ImportInput, QueryInput, as_file, inputs
from ops.files.layout import NotReadable
from sinks.base import SinkMisconfigured
from tests.unit.files.test_receipts import BY_NO, contract, keys, read, rows


def names(found: list[ImportInput]) -> list[str]:
    return [Path(each.name).name for each in found]


def test_folder_gives_its_files_but_not_what_is_ours_or_unfinished(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden", "c.csv.part", "d.tmp", "a.csv.bad.csv", "~$e.xlsx"):
        (tmp_path / name).write_text("no\n1\n")
    (tmp_path / "folder").mkdir()
    assert names(inputs([str(tmp_path)])) == ["a.csv", "b.csv"]


def test_archive_gives_its_members(tmp_path: Path) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("2/b.csv", "1/a.csv", "__MACOSX/._a.csv"):
            archive.writestr(name, f"no,sku\n{name[0]},A\n")
    found = inputs([str(path)])
    assert names(found) == ["a.csv", "b.csv"]
    assert found[0].bad_rows_prefix == tmp_path / "sales.zip.a.csv"
    with as_file(found[1], BY_NO) as (file, *_):
        assert keys(read(file)[1]) == ["2"]


@pytest.mark.parametrize(("name", "message"), [("none.csv", "no such file"), ("empty", "no file in that folder")])
def test_what_is_not_there_is_told(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotReadable, match=message):
        inputs([str(tmp_path / name)])


def test_workbook_is_read_as_it_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["no", "ean", "price", "at", "paid", None],
        [1, 4006381333931, 2.55, datetime(2026, 3, 2, 10, 5), True],  # noqa: DTZ001 (Excel has no zones)
        [None] * 5,
        [1, 5, 0.1 + 0.2, None, False],
        [2, "00012", -1, None, None],
    ):
        sheet.append(row)
    book.save(path)
    with as_file(inputs([str(path)])[0], BY_NO) as (file, *_):
        _, made, _ = read(file)
    first = {"no": "1", "ean": "4006381333931", "price": "2.55", "at": "2026-03-02 10:05:00", "paid": "true"}
    second = {"no": "1", "ean": "5", "price": "0.3", "at": "", "paid": "false"}
    assert [rows(receipt) for receipt in made] == [
        [first, second],
        [{"no": "2", "ean": "00012", "price": "-1", "at": "", "paid": ""}],
    ]


def test_one_sheet_of_a_workbook_is_read_and_the_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    for name, number in (("March", 1), ("April", 2), ("Notes", 3)):
        sheet = book.create_sheet(name)
        sheet.append(["no"])
        sheet.append([number])
    del book["Sheet"]
    book.save(path)
    (one,) = inputs([str(path)])
    for wanted, chosen, left_out in ((None, "March", ("April", "Notes")), ("April", "April", ("March", "Notes"))):
        with as_file(one, BY_NO, sheet=wanted) as opened:
            assert (opened.sheet, opened.left_out) == (chosen, left_out)
            _, made, _ = read(opened.file)
        assert [rows(receipt) for receipt in made] == [[{"no": str(("March", "April").index(chosen) + 1)}]]
    with (
        pytest.raises(NotReadable, match="no sheet 'May'; there are: 'March', 'April', 'Notes'"),
        as_file(one, BY_NO, sheet="May"),
    ):
        pass


def test_what_is_no_workbook_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    path.write_text("no,sku\n")
    with pytest.raises(NotReadable, match="not a workbook"), as_file(inputs([str(path)])[0], BY_NO):
        pass


@pytest.mark.parametrize("form", ["lines", "array", "packed"])
def test_json_rows_are_grouped_like_those_of_csv(tmp_path: Path, form: str) -> None:
    path = tmp_path / "sales.json"
    listed = ['{"no": 1, "price": 1.10}', '{"no": 2, "price": null}', '{"no": 1, "sku": "B"}']
    content = f"[{', '.join(listed)}]" if form == "array" else "\n".join(listed)
    path.write_bytes(gzip.compress(content.encode()) if form == "packed" else content.encode())
    with as_file(inputs([str(path)])[0], BY_NO) as (file, *_):
        found, made, _ = read(file)
    assert [rows(receipt) for receipt in made] == [
        [{"no": "1", "price": "1.10", "sku": ""}, {"no": "1", "price": "", "sku": "B"}],
        [{"no": "2", "price": "", "sku": ""}],
    ]
    assert not found.together


def test_json_records_of_a_json_contract_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "sales.json"
    path.write_text(json.dumps([{"a": {"b": 1}}]))
    with as_file(inputs([str(path)])[0], contract(form="json")) as (file, *_):
        assert file == path


def test_rows_of_a_query_are_a_table(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "pos.sqlite", isolation_level=None)) as database:
        database.execute("CREATE TABLE sales (no INTEGER, sku TEXT, price REAL)")
        database.executemany("INSERT INTO sales VALUES (?, ?, ?)", [(1, "A", 2.5), (2, None, 3), (1, "B%", 0.4)])
    query = QueryInput(f"sqlite:///{tmp_path}/pos.sqlite", "SELECT * FROM sales WHERE coalesce(sku, '') NOT LIKE 'C%'")
    (one,) = inputs([], query)
    with as_file(one, BY_NO) as (file, *_):
        _, made, _ = read(file)
    assert [rows(receipt) for receipt in made] == [
        [{"no": "1", "sku": "A", "price": "2.5"}, {"no": "1", "sku": "B%", "price": "0.4"}],
        [{"no": "2", "sku": "", "price": "3"}],
    ]


@pytest.mark.parametrize(
    ("url", "text", "message"),
    [
        ("sqlite:///none.sqlite", "SELECT 1", "There is no SQLite file"),
        ("postgresql://reader:secret@127.0.0.1/pos", "SELECT 1", "contains a password"),
        ("nosuch://host/pos", "SELECT 1", "can't be used.*is its driver for SQLAlchemy installed"),
    ],
)
def test_wrong_query_is_told(url: str, text: str, message: str) -> None:
    (one,) = inputs([], QueryInput(url, text))
    with pytest.raises(SinkMisconfigured, match=message) as fault, as_file(one, BY_NO):
        pass
    assert "secret" not in str(fault.value)


def test_query_writes_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "pos.sqlite", isolation_level=None)) as database:
        database.execute("CREATE TABLE sales (no INTEGER)")
    (one,) = inputs([], QueryInput(f"sqlite:///{tmp_path}/pos.sqlite", "INSERT INTO sales VALUES (1) RETURNING no"))
    with pytest.raises(SinkMisconfigured, match="refuses the query"), as_file(one, BY_NO):
        pass


def test_archive_that_needs_a_password_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "no,sku\n1,A\n")
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(raw)
    with pytest.raises(NotReadable, match="needs a password"):
        inputs([str(path)])


def test_damaged_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sales.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "no,sku\n1,A\n")
    path.write_bytes(path.read_bytes().replace(b"1,A", b"1,B"))
    with pytest.raises(NotReadable, match="damaged"), as_file(inputs([str(path)])[0], BY_NO) as (file, *_):
        read(file)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NotReadable, match="damaged"):
        inputs([str(path)])


def test_sheet_that_does_not_fit_is_told_by_its_name_and_with_the_others(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    book.worksheets[0].append(["Report of March"])
    book.create_sheet("Sales").append(["no"])
    book.save(path)
    with (
        pytest.raises(NotReadable) as caught,
        as_file(inputs([str(path)])[0], BY_NO) as opened,
    ):
        read(opened.file)
    assert str(caught.value) == (
        f"{path}, sheet 'Sheet' (--sheet takes another one: 'Sales'): group_by: there is no column no; "
        "the columns are Report of March"
    )


def test_numbers_of_a_workbook_have_no_exponent(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    for row in (["no", "quantity"], [1, 0.00001], [2, 2.5]):
        book.worksheets[0].append(row)
    book.save(path)
    with as_file(inputs([str(path)])[0], BY_NO) as (file, *_):
        _, made, _ = read(file)
    assert [row["quantity"] for receipt in made for row in rows(receipt)] == ["0.00001", "2.5"]
