"""A receipt is sent whole or not at all: empty cells, damaged codes, and rows in several files of one import."""

import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from ops.files import regroup
from ops.files.as_imported import records_of
from ops.files.inputs import inputs
from ops.files.layout import NotReadable
from ops.files.receipts import RejectedLines, header_of
from ops.importing import split_receipts
from ops.importing.job import CheckedInput, ImportObserver, ReadOptions, checked_inputs
from ops.maps.outcome import FileRecord
from schemas.contract import Contract
from streams.sources.rows import RowsUnreadable, rows_to_records
from streams.sources.source import Source
from tests.unit.files.test_receipts import keys, read, rows

BASE: dict[str, Any] = {
    "contract": 1,
    "source": "till",
    "format": "csv",
    "group_by": ["no"],
    "kinds": [{"type": "sale"}],
    "fields": {
        "receipt": "rows[0].no",
        "occurred_at": {"value": "2026-03-02T10:00:00Z"},
        "store": {"value": "S1"},
        "register": {"value": "1"},
        "currency": {"value": "EUR"},
        "totals.gross": {"derive": "total"},
    },
    "lines": [
        {
            "each": "rows",
            "fields": {"sku": "sku", "quantity": {"value": "1"}, "unit_price": "price", "tax_rate": {"value": "0"}},
        }
    ],
}


def contract(**more: Any) -> Contract:
    return Contract.model_validate(BASE | more)


def fields(**more: Any) -> Contract:
    return contract(fields=BASE["fields"] | more)


def imported(
    names: Sequence[Path], by: Contract | None = None, **options: Any
) -> tuple[dict[str, list[list[str]]], list[str], list[str]]:
    """The skus of each record by its key, in a list for each record; faults; and what went aside."""
    by = by or contract()
    given = ReadOptions(by, source=Source(by, lambda _: ZoneInfo("UTC")), **options)
    sent: dict[str, list[list[str]]] = {}
    faults: list[str] = []
    put: list[str] = []
    with checked_inputs(inputs(map(str, names)), given, ImportObserver()) as checking:
        for each in checking:
            if not isinstance(each, CheckedInput):
                faults.append(each)
                continue
            faults += [f"{Path(each.one.name).name}:{bad.line}: {bad.fault}" for bad in each.found.bad]
            aside = RejectedLines(header_of(each.found.layout), put.append)
            for receipt in each.receipts(given, lambda _: None, aside):
                skus = [row["sku"] for row in rows(receipt)]
                sent.setdefault((receipt.key or b"").decode(), []).append(skus)
    return sent, faults, put


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes tables with the columns no, sku, price, one for each text."""

    def write(*tables: str, header: str = "no,sku,price") -> list[Path]:
        paths = []
        for number, table in enumerate(tables):
            path = tmp_path / f"{number}.csv"
            path.write_text("\n".join([header, *table.split()]) + "\n")
            paths.append(path)
        return paths

    return write


Files = Callable[..., list[Path]]

# Empty and damaged cells


def test_row_that_names_no_receipt_holds_back_those_around_it(files: Files) -> None:
    sent, faults, put = imported(files("1,A,1 2,B,1 ,C,1 ,D,1 3,E,1 4,F,1"))
    assert sent == {"1": [["A"]], "4": [["F"]]}
    assert [fault.partition(";")[0] for fault in faults] == [
        "0.csv:4: no value in no, which names the receipt (group_by)",
        "0.csv:5: no value in no, which names the receipt (group_by)",
    ]
    assert "".join(put) == "no,sku,price\n2,B,1\n,C,1\n,D,1\n3,E,1\n"


def test_fill_down_takes_the_receipt_of_the_row_above(files: Files) -> None:
    sent, faults, _ = imported(files("1,A,1 ,B,1 ,C,1 2,D,1 ,E,1"), contract(fill_down=["no"]))
    assert (sent, faults) == ({"1": [["A", "B", "C"]], "2": [["D", "E"]]}, [])


def test_nothing_is_filled_from_beyond_a_bad_line_or_the_beginning(files: Files) -> None:
    sent, faults, _ = imported(files(",A,1 1,B,1 2,C,1 bad ,D,1 3,E,1 4,F,1"), contract(fill_down=["no"]))
    assert sent == {"4": [["F"]]}
    assert [fault.partition(" ")[0] for fault in faults] == ["0.csv:2:", "0.csv:5:", "0.csv:6:"]


def test_other_columns_are_filled_within_their_receipt_alone(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("store,no,day,sku\nS1,1,Mon,A\n,,,B\n,2,,C\nS2,,Tue,D\n")
    by = contract(group_by=["store", "no"], fill_down=["store", "no", "day"])
    _, made, aside = read(path, by)
    assert [rows(receipt) for receipt in made] == [
        [
            {"store": "S1", "no": "1", "day": "Mon", "sku": "A"},
            {"store": "S1", "no": "1", "day": "Mon", "sku": "B"},
        ],
    ]
    # S2 has no number of its own, and that of S1 is none of its; the day of the receipt before is not that of 2.
    assert aside == "store,no,day,sku\nS1,2,,C\nS2,,Tue,D\n"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
@settings(max_examples=40)
def test_merged_cells_give_the_receipts_of_filled_ones(sizes: list[int], data: st.DataObject) -> None:
    full = [[f"r{no}", f"{no}-{row}", "1"] for no, size in enumerate(sizes) for row in range(size)]
    merged = [list(cells) for cells in full]
    for above, cells in zip(full, merged[1:], strict=False):
        if above[0] == cells[0] and data.draw(st.booleans()):
            cells[0] = data.draw(st.sampled_from(["", " "]))
    made = []
    for table, by in ((full, contract()), (merged, contract(fill_down=["no"]))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sales.csv"
            path.write_text("no,sku,price\n" + "".join(",".join(cells) + "\n" for cells in table))
            made.append(imported([path], by))
    assert made[0] == made[1]


def test_row_without_any_value_is_no_row(files: Files) -> None:
    sent, faults, _ = imported(files("1,A,1 ,, 2,B,1 ,,"))
    assert (sent, faults) == ({"1": [["A"]], "2": [["B"]]}, [])


@pytest.mark.parametrize("code", ['"1,23457E+15"', "1.23457E+15", "3-Mar", "#####"])
def test_damaged_number_never_names_a_receipt(files: Files, code: str) -> None:
    sent, faults, _ = imported(files(f"1,A,1 2,B,1 {code},C,1 {code},D,1 3,E,1 4,F,1"))
    assert sent == {"1": [["A"]], "4": [["F"]]}
    assert "0.csv:4: a spreadsheet has turned the code in no" in faults[0]


def test_quoting_and_white_space_make_no_other_receipt(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text('no,sku,price\n007,A,1\n007\t ,B,1\n\'007,C,1\n1,D,1\n="007",E,1\n')
    sent, faults, _ = imported([path])
    assert (sent, faults) == ({"007": [["A", "B", "C", "E"]], "1": [["D"]]}, [])


def test_numbers_of_a_sheet_beyond_15_digits_are_no_receipts(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    for row in (
        ["no", "sku", "price"],
        [2026031022001401, "A", 1],
        [2.026031022001402e15, "B", 1],
        [7, "C", 1],
        [8, "D", 1],
    ):
        book.worksheets[0].append(row)
    book.save(path)
    sent, faults, _ = imported([path])
    assert sent == {"8": [["D"]]}
    assert [fault.partition(" ")[0] for fault in faults] == ["sales.xlsx:2:", "sales.xlsx:3:"]


def test_line_of_a_fault_is_the_row_of_the_sheet(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    for row in (["no", "sku", "price"], ["1", "A", "1"], [], [None, "B", "1"]):
        book.worksheets[0].append(row)
    book.save(path)
    assert [fault.partition(" ")[0] for fault in imported([path])[1]] == ["sales.xlsx:4:"]


def test_records_of_a_sample_are_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n1,A\n,B\n")
    with pytest.raises(NotReadable, match=r"sales\.csv: line 3: no value in no"):
        list(records_of(path, contract(), lambda _: None))
    with path.open("rb") as lines, pytest.raises(RowsUnreadable, match="line 3: no value in no"):
        list(rows_to_records(lines, ["no"]))
    with path.open("rb") as lines:
        ((_, value),) = rows_to_records(lines, ["no"], fill_down=["no"])
    assert [row["sku"] for row in json.loads(value)["rows"]] == ["A", "B"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_statement_with_lines_above_and_below_its_table_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "statement.csv"
    text = (
        "------------------------------\n商户：某某商店\n起始时间：[2026-03-10 00:00:00]\n收入：2笔 3.00元\n\n"
        '订单号    \t,商品编码 ,金额 ,备注,\n2026031022001400000000000001\t,="0069012345",1.00 ,,\n'
        '2026031022001400000000000001\t,="0069098765",1.00 ,,\n2026031022001400000000000002\t,="0069012345",1.00 ,,\n'
        "------------------------------\n#已收入：3.00元\n"
    )
    path.write_text(text, encoding=encoding)
    lines = [{"each": "rows", "fields": BASE["lines"][0]["fields"] | {"sku": '"商品编码"', "unit_price": '"金额"'}}]
    by = contract(group_by=["订单号"], skip_lines=["---", "#"], lines=lines)
    found, made, aside = read(path, by)
    assert (found.bad, aside) == ([], "")
    assert keys(made) == ["2026031022001400000000000001", "2026031022001400000000000002"]
    assert [receipt.line for receipt in made] == [7, 9]
    source = Source(by, lambda _: ZoneInfo("UTC"))
    skus = [
        line["sku"] for receipt in made for event in source.events(FileRecord(receipt.value)) for line in event["lines"]
    ]  # type: ignore[index]  # an event, as nothing is refused
    assert skus == ["0069012345", "0069098765", "0069012345"]
    found, made, _ = read(path, contract(group_by=["订单号"], lines=lines))
    assert [bad.line for bad in found.bad] == [10, 11]  # and what stands before them is held back
    assert keys(made) == ["2026031022001400000000000001"]


def test_fill_down_without_group_by_or_of_no_column_is_refused(files: Files) -> None:
    with pytest.raises(ValueError, match="fill_down takes group_by"):
        contract(group_by=[], fill_down=["no"])
    _, faults, _ = imported(files("1,A,1"), contract(fill_down=["nr"]))
    assert "fill_down: there is no column nr" in faults[0]


# Several files


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 50_000]),
)
@settings(max_examples=40, deadline=None)
def test_receipts_are_whole_however_their_rows_are_spread_over_files(
    bons: list[list[int]], random: Any, at_once: int
) -> None:
    table = [(file, f"r{no}", f"{no}-{row}") for no, files in enumerate(bons) for row, file in enumerate(files)]
    random.shuffle(table)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(split_receipts, "_AT_ONCE", at_once)
        patch.setattr(regroup, "_AT_ONCE", at_once)
        for file in range(4):
            listed = "".join(f"{no},{sku},1\n" for where, no, sku in table if where == file)
            (Path(folder) / f"{file}.csv").write_text(f"no,sku,price\n{listed}")
        sent, faults, put = imported([Path(folder)])
    ordered = sorted(table, key=lambda row: row[0])
    assert sent == {f"r{no}": [[sku for _, name, sku in ordered if name == f"r{no}"]] for no in range(len(bons))}
    assert (faults, put) == ([], [])


def test_members_of_an_archive_are_one_import(tmp_path: Path, files: Files) -> None:
    with zipfile.ZipFile(tmp_path / "sales.zip", "w") as archive:
        for path in files("1,A,1 2,B,1", "2,C,1 3,D,1"):
            archive.write(path, path.name)
    sent, faults, _ = imported([tmp_path / "sales.zip"])
    assert (sent, faults) == ({"1": [["A"]], "2": [["B", "C"]], "3": [["D"]]}, [])


def test_exports_that_overlap_give_each_receipt_once(files: Files) -> None:
    sent, faults, _ = imported(files("1,A,1 2,B,1 2,C,1", "2,C,1 2,B,1 3,D,1"))
    assert (sent, faults) == ({"1": [["A"]], "2": [["B", "C"]], "3": [["D"]]}, [])


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("2,B,1 2,X,1", "some of its rows are the same there, others not"),
        ("2,B,2 2,C,1", "some of its rows are the same there, others not"),
        ("2,C,3", "the same article is in both"),
    ],
)
def test_what_may_be_another_version_is_not_sent_at_all(files: Files, other: str, why: str) -> None:
    sent, faults, put = imported(files("1,A,1 2,B,1 2,C,1", f"3,D,1 {other}"))
    assert sent == {"1": [["A"]], "3": [["D"]]}
    assert [why in fault for fault in faults] == [True, True]
    assert faults[0].startswith("0.csv:3: its receipt has rows in ")
    assert "1.csv, line 3 too" in faults[0]
    assert faults[1].startswith("1.csv:3: ")
    assert len(put) == 2 * 1 + 2 + len(other.split())  # a header and the rows of each


def test_another_time_is_another_receipt_or_none(files: Files) -> None:
    paths = files("1,A,1,2026-03-01T10:00:00Z", "1,B,1,2026-03-02T10:00:00Z", header="no,sku,price,at")
    sent, faults, _ = imported(paths, fields(occurred_at="rows[0].at"))
    assert (sent, ["its time is another there" in fault for fault in faults]) == ({}, [True, True])
    sent, faults, _ = imported(paths, fields(occurred_at="rows[0].at", receipt="join('-', [rows[0].at, rows[0].no])"))
    assert (sent, faults) == ({"1": [["A"], ["B"]]}, [])


@pytest.mark.parametrize("field", ["store", "register", "revision"])
def test_receipts_that_the_contract_tells_apart_stay_apart(files: Files, field: str) -> None:
    paths = files("17,A,1,1 18,B,1,1", "17,A,1,2 17,C,1,2", header="no,sku,price,what")
    sent, faults, _ = imported(paths, fields(**{field: "rows[0].what"}))
    assert (sent, faults) == ({"17": [["A"], ["A", "C"]], "18": [["B"]]}, [])


def test_rows_that_only_in_part_say_their_store_are_not_sent(files: Files) -> None:
    paths = files("17,A,1,S1", "17,B,1,", "17,C,1,S2", header="no,sku,price,store")
    assert imported(paths, fields(store="rows[0].store"))[0] == {}
    assert imported(paths[:2], fields(store="rows[0].store"))[0] == {"17": [["A", "B"]]}


def test_bad_line_holds_back_its_receipt_in_all_files(files: Files) -> None:
    sent, faults, put = imported(files("1,A,1 2,B,1 3,C,1", "4,D,1 5,E,1 2,F 6,G,1 7,H,1", "2,I,1 8,J,1"))
    assert sent == {"1": [["A"]], "3": [["C"]], "4": [["D"]], "7": [["H"]], "8": [["J"]]}
    assert len(faults) == 1
    assert [line for line in put if line.startswith("2")] == ["2,B,1\n", "2,F\n", "2,I,1\n"]


def test_row_without_a_receipt_at_the_end_of_a_file_holds_back_what_is_beyond_it(files: Files) -> None:
    sent, _, _ = imported(files("1,A,1 2,B,1", ",C,1 3,D,1 4,E,1 ,F,1", "5,G,1 6,H,1"), contract(fill_down=[]))
    assert sent == {"1": [["A"]], "6": [["H"]]}


def test_part_of_a_receipt_is_not_sent_when_a_file_cannot_be_read(tmp_path: Path, files: Files) -> None:
    paths = [*files("1,A,1 2,B,1", "2,C,1 3,D,1"), tmp_path / "2.csv"]
    paths[2].write_text("")
    sent, faults, _ = imported(paths)
    assert sent == {}
    assert "receipts of this import reach over its files" in faults[0]
    sent, faults, _ = imported([paths[0], paths[2]])
    assert (sent, len(faults)) == ({"1": [["A"]], "2": [["B"]]}, 1)


def test_receipt_with_rows_in_a_sheet_that_is_left_out_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    book = Workbook()
    del book["Sheet"]
    for name, header, *table in (
        ("March", "no,sku,price", "1,A,1", "2,B,1"),
        ("April", "no,sku,price", "2,C,1", "3,D,1"),
        ("All", "no,sku,price", "1,A,1"),
        ("Payments", "no,by", "1,cash", "2,card"),
    ):
        sheet = book.create_sheet(name)
        for row in (header, *table):
            sheet.append(row.split(","))
    book.save(path)
    sent, faults, _ = imported([path])
    assert sent == {"1": [["A"]]}
    assert len(faults) == 1
    assert "sheet 'April', line 2 too" in faults[0]
    assert imported([path], sheet="April")[0] == {"3": [["D"]]}


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(split_receipts, "_AT_ONCE", 100)
    monkeypatch.setattr(regroup, "_AT_ONCE", 100)
    sizes = []
    for number in (10, 40):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file in range(number):
            made = "".join(f"{file // 2}-{bon},{file}-{bon}-{'x' * 200},1\n" for bon in range(500))
            (folder / f"{file:02}.csv").write_text(f"no,sku,price\n{made}")
        by = contract()
        options = ReadOptions(by, source=Source(by, lambda _: ZoneInfo("UTC")))
        tracemalloc.start()
        with checked_inputs(inputs([str(folder)]), options, ImportObserver()) as checking:
            receipts = sum(
                1
                for each in checking
                if isinstance(each, CheckedInput)
                for _ in each.receipts(options, lambda _: None, RejectedLines("", lambda _: None))
            )
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert receipts == 250 * number
    assert sizes[1] < sizes[0] + 2**20, sizes
