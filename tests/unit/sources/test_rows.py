"""CSV files to records, one a receipt: as spreadsheets and tills write them, and where they are wrong."""

import csv
import gzip
import io
import json
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract
from streams.sources.formats import read_rows as read_record
from streams.sources.formats import reader
from streams.sources.rows import RowsUnreadable, rows_to_records
from tests.support.events import FakeRecord

RETAIL = Path(__file__).parents[4] / "shared" / "data" / "online-retail" / "2010-12.csv.gz"


def records(text: str | bytes, *group_by: str, **how: Any) -> list[tuple[str, list[dict[str, str]]]]:
    raw = text.encode() if isinstance(text, str) else text
    made = rows_to_records(io.BytesIO(raw), group_by, **how)
    return [(key.decode(), json.loads(value)["rows"]) for key, value in made]


def refused(text: str | bytes, *group_by: str, **how: Any) -> str:
    with pytest.raises(RowsUnreadable) as fault:
        records(text, *group_by, **how)
    return str(fault.value)


def test_adjacent_rows_of_a_receipt_are_one_record() -> None:
    assert records("no,sku\n1,A\n1,B\n2,A\n", "no") == [
        ("1", [{"no": "1", "sku": "A"}, {"no": "1", "sku": "B"}]),
        ("2", [{"no": "2", "sku": "A"}]),
    ]


def test_several_columns_name_a_receipt() -> None:
    assert [key for key, _ in records("store,no\nS1,1\nS2,1\n", "store", "no")] == ["S1/1", "S2/1"]


def test_values_with_slashes_name_different_receipts() -> None:
    rows = "store,no\nS1/A,2026/1\nS1,A/2026/1\nS1%2FA,2026/1\n"
    keys = [key for key, _ in records(rows, "store", "no")]
    assert keys == ["S1%2FA/2026/1", "S1/A/2026/1", "S1%252FA/2026/1"]


def test_without_group_by_each_row_is_a_record() -> None:
    assert [key for key, _ in records("no\n1\n1\n")] == ["2", "3"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_that_of_the_header(delimiter: str) -> None:
    text = "no,sku,text\n1,A,x\n".replace(",", delimiter)
    assert records(text, "no") == [("1", [{"no": "1", "sku": "A", "text": "x"}])]


def test_delimiter_inside_quotes_does_not_count() -> None:
    assert records('"a;b;c",no\nx,1\n', "no") == [("1", [{"a;b;c": "x", "no": "1"}])]


def test_delimiter_may_be_given() -> None:
    assert records("a,b;no\nx;1\n", "no", delimiter=";") == [("1", [{"a,b": "x", "no": "1"}])]


def test_byte_order_mark_is_not_part_of_a_name() -> None:
    assert records(b"\xef\xbb\xbfno,sku\r\n1,A\r\n", "no") == [("1", [{"no": "1", "sku": "A"}])]


def test_line_breaks_in_quotes_belong_to_the_value() -> None:
    assert records('no,text\n1,"two\nlines"\n', "no") == [("1", [{"no": "1", "text": "two\nlines"}])]


def test_empty_lines_are_left_out() -> None:
    assert len(records("no\n\n1\n\n2\n", "no")) == 2


def test_file_of_a_header_alone_has_no_records() -> None:
    assert records("no,sku\n", "no") == []


def test_encoding_may_be_given() -> None:
    assert records("no,text\n1,5 £\n".encode("cp1252"), "no", encoding="cp1252")[0][1][0]["text"] == "5 £"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file is empty; the first line names the columns"),
        ("no,sku\n1,A\n1\n", "line 3: 1 values for 2 columns; is the delimiter ','"),
        ("no,sku\n1,A,B\n", "line 2: 3 values for 2 columns"),
        ('no,sku\n1,"A\n', "line 2: not valid CSV: unexpected end of data"),
        ('no,sku\n1,"A"x\n', "line 2: not valid CSV"),
        ("no,no\n1,2\n", "line 1: column 'no' is named twice; rename it"),
        ("no,,\n1,2,3\n", "line 1: column '' is without a name; rename it"),
        ("a,b\n1,2\n", "group_by: there is no column no; the columns are a, b"),
        ("no,text\n1,x\n2,5 £\n".encode("cp1252"), "line 3, byte 5: not utf-8; give the file's encoding, often cp1252"),
    ],
)
def test_fault_is_reported_with_its_line(text: str | bytes, message: str) -> None:
    assert refused(text, "no").startswith(message)


def test_unknown_encoding_is_reported() -> None:
    assert refused("no\n1\n", "no", encoding="utf-9").startswith("encoding: 'utf-9' is unknown")


def test_file_is_read_row_by_row() -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        yield b"no,sku\n"
        while True:
            read += 1
            yield b"%d,A\n" % read

    assert len(list(islice(rows_to_records(endless(), ["no"]), 5))) == 5
    assert read == 6


texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(texts, min_size=3, max_size=3), max_size=20))
def test_every_table_comes_back_row_by_row(table: list[list[str]]) -> None:
    table = [[f"r{number}", *rest] for number, (_, *rest) in enumerate(table)]
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["no", "a", "b"])
    writer.writerows(table)
    rows = [row for _, group in records(file.getvalue(), "no") for row in group]
    assert [list(row.values()) for row in rows] == table


@given(st.binary(max_size=60))
def test_any_bytes_are_records_or_a_message(raw: bytes) -> None:
    try:
        made = records(b"no,sku\n" + raw, "no")
    except RowsUnreadable:
        return
    for _, rows in made:
        assert all(set(row) == {"no", "sku"} for row in rows)


def test_record_is_readable_by_the_format_csv() -> None:
    ((key, value),) = rows_to_records(io.BytesIO(b"no,sku\n1,A\n"), ["no"])
    read = reader(Contract.model_validate({"contract": 1, "source": "s", "format": "csv", "kinds": [{"type": "sale"}]}))
    assert read is read_record
    assert read(FakeRecord(0, value, key=key)) == {"rows": [{"no": "1", "sku": "A"}]}


@pytest.mark.skipif(not RETAIL.exists(), reason="needs ../shared/data/online-retail")
def test_real_file_keeps_every_row_and_the_sum() -> None:
    with gzip.open(RETAIL) as file:
        columns = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    with gzip.open(RETAIL) as file:
        rows = [row for _, value in rows_to_records(file, ["InvoiceNo"]) for row in json.loads(value)["rows"]]
    assert rows == columns
    total = sum(Decimal(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in rows)
    assert total == sum(Decimal(row["Quantity"]) * Decimal(row["UnitPrice"]) for row in columns)
