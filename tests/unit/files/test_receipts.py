"""Receipts of files: whatever the order of rows, the encoding and the faults."""

import csv
import gzip
import json
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.files import regroup
from ops.files.layout import File, NotReadable
from ops.files.receipts import FileFindings, FileReceipt, RejectedLines, check_file, header_of, receipts
from schemas.contract import Contract
from streams.sources.rows import rows_to_records


def contract(*group_by: str, form: str = "csv") -> Contract:
    made = {"contract": 1, "source": "till", "format": form, "kinds": [{"type": "sale"}]}
    return Contract.model_validate(made | ({"group_by": list(group_by)} if group_by else {}))


BY_NO = contract("no")


def read(file: File, by: Contract = BY_NO, **options: Any) -> tuple[FileFindings, list[FileReceipt], str]:
    """What the file holds, its receipts, and what went aside."""
    put: list[str] = []
    found = check_file(file, by, lambda _: None, **options)
    made = list(receipts(file, found, by, lambda _: None, RejectedLines(header_of(found.layout), put.append)))
    return found, made, "".join(put)


def rows(receipt: FileReceipt) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(receipt.value)["rows"]
    return listed


def keys(made: list[FileReceipt]) -> list[str]:
    return [(receipt.key or b"").decode() for receipt in made]


@contextmanager
def written(content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sales.csv"
        path.write_bytes(content)
        yield path


def as_csv(table: list[list[str]], header: tuple[str, ...] = ("no", "sku")) -> bytes:
    with tempfile.TemporaryFile("w+", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *table])
        file.seek(0)
        return file.read().encode()


texts = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=6)
bons = st.lists(st.lists(texts, min_size=1, max_size=4), min_size=1, max_size=6)


@given(bons, st.randoms(use_true_random=False), st.sampled_from([1, 3, 500_000]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_rows_gives_the_same_receipts(monkeypatch: Any, bons: Any, random: Any, at_once: int) -> None:
    monkeypatch.setattr(regroup, "_AT_ONCE", at_once)  # on disk, partly, not at all
    waiting = {f"r{number}": list(skus) for number, skus in enumerate(bons)}
    mixed: list[list[str]] = []
    while waiting:  # the rows of a receipt keep their order
        no = random.choice(sorted(waiting))
        mixed.append([no, waiting[no].pop(0)])
        if not waiting[no]:
            del waiting[no]
    with written(as_csv(mixed)) as path:
        found, made, aside = read(path)
    expected = {f"r{number}": [{"no": f"r{number}", "sku": sku} for sku in skus] for number, skus in enumerate(bons)}
    assert {key: rows(receipt) for key, receipt in zip(keys(made), made, strict=True)} == expected
    assert keys(made) == list(dict.fromkeys(no for no, _ in mixed))  # as they begin
    assert (found.receipts, found.rows, aside) == (len(bons), len(mixed), "")
    changes = sum(one[0] != other[0] for one, other in pairwise(mixed))
    assert found.together is (changes == len(bons) - 1)


codes = st.text(st.sampled_from("ab/:1 |"), min_size=1, max_size=5).filter(lambda code: code == code.strip() != "")


@given(st.lists(st.tuples(codes, codes, texts), min_size=1, max_size=12))
@settings(max_examples=60)
def test_keys_of_several_columns_are_not_confused(table: list[tuple[str, str, str]]) -> None:
    with written(as_csv([list(row) for row in table], ("store", "no", "sku"))) as path:
        _, made, _ = read(path, contract("store", "no"))
    expected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for store, no, sku in table:
        expected[store, no].append(sku)
    assert [[row["sku"] for row in rows(receipt)] for receipt in made] == list(expected.values())


GERMAN = [["1", "Käse für Söhne"], ["1", "Brötchen"], ["2", "Äpfel, süß"], ["2", "5 € Gutschein"]]
CHINESE = [["1", "可口可乐"], ["1", "农夫山泉矿泉水"], ["2", "统一冰红茶"], ["2", "康师傅红烧牛肉面"]]


@pytest.mark.parametrize(
    ("table", "encoding", "said"),
    [
        (GERMAN, "utf-8", "utf-8"),
        (GERMAN, "utf-8-sig", "utf-8-sig"),
        (GERMAN, "cp1252", "cp1252"),
        (GERMAN, "utf-16", "utf-16"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (GERMAN, "utf-16-be", "utf-16-be"),
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE, "utf-16", "utf-16"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encoding_is_detected_and_every_letter_comes_through(
    tmp_path: Path, table: list[list[str]], encoding: str, said: str, delimiter: str
) -> None:
    path = tmp_path / "sales.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["no", "sku"], *table])
    found, made, _ = read(path)
    assert (found.layout.encoding, found.layout.delimiter) == (said, delimiter)
    assert [[row["no"], row["sku"]] for receipt in made for row in rows(receipt)] == table


@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
@settings(max_examples=60)
def test_given_encoding_brings_any_text_back(skus: list[str], encoding: str) -> None:
    content = as_csv([[str(number), sku] for number, sku in enumerate(skus)]).decode()
    with written(content.encode(encoding)) as path:
        _, made, _ = read(path, encoding=encoding)
    assert [rows(receipt)[0]["sku"] for receipt in made] == skus


def test_bytes_that_windows_leaves_undefined_make_it_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_bytes(b"no,sku\n1,K\xe4se\x81\n")
    found, _, _ = read(path)
    assert found.layout.encoding == "latin-1"


def test_broken_byte_in_utf_8_is_a_bad_line_and_no_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_bytes("no,sku\n1,Käse für Söhne\n2,Brötchen süß\n".encode() + b"3,\xff\n" + "4,Äpfel\n".encode() * 9)
    found, made, aside = read(path)
    assert found.layout.encoding == "utf-8"
    assert [bad.line for bad in found.bad] == [4]
    assert "byte 0xff is not utf-8" in found.bad[0].fault
    assert (keys(made), aside.encode(errors="surrogateescape").splitlines()[2]) == (["1"], b"3,\xff")


def test_receipt_is_never_sent_without_its_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n1,A\n2,B\n2,C,broken\n2,D\n3,E\n3,F\n4,G\n")
    found, made, aside = read(path)
    assert [(bad.line, bad.fault.partition(";")[0]) for bad in found.bad] == [(4, "3 values for 2 columns")]
    assert keys(made) == ["1", "3", "4"]
    assert aside == "no,sku\n2,B\n2,C,broken\n2,D\n"


def test_receipts_beside_a_row_that_names_none_are_held_back_too(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n1,A\n2,B\nC\n3,D\n4,E\n2,F\n")
    _, made, aside = read(path)
    assert keys(made) == ["1", "4"]
    assert aside == "no,sku\n2,B\nC\n3,D\n2,F\n"


def test_open_quote_is_one_bad_line_not_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text('no,sku\n1,A\n2,"B\n3,C\n4,D\n')
    found, made, aside = read(path)
    assert [bad.line for bad in found.bad] == [3]
    assert keys(made) == ["4"]
    assert aside == 'no,sku\n1,A\n2,"B\n3,C\n'


def test_side_file_repaired_gives_what_was_missing(tmp_path: Path) -> None:
    path, side = tmp_path / "sales.csv", tmp_path / "side.csv"
    good = "no;sku\n1;A\n2;B;\n2;C\n3;D\n"
    path.write_text(good)
    _, made, aside = read(path)
    side.write_text(aside.replace("2;B;\n", "2;B\n"))
    _, repaired, _ = read(side)
    path.write_text(good.replace("2;B;\n", "2;B\n"))
    _, whole, _ = read(path)
    assert sorted((one.key, one.value) for one in made + repaired) == [(one.key, one.value) for one in whole]


def test_without_group_by_a_bad_row_holds_back_no_other(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n1,A\n1\n1,B\n")
    _, made, aside = read(path, contract())
    assert (keys(made), aside) == (["2", "4"], "no,sku\n1\n")


def test_when_all_lines_are_bad_the_file_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n" + "1,A,B\n" * 10_001)
    with pytest.raises(NotReadable, match="more than 10,000 bad lines, the first: line 2: 3 values for 2 columns"):
        read(path, delimiter=",")


def test_group_by_that_names_no_receipt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no,sku\n" + "1,A\n" * 10_001)
    with pytest.raises(NotReadable, match="more than 10,000 rows"):
        read(path)
    path.write_text("no,sku\n" + "1,A\n2,A\n" * 10_001)
    with pytest.raises(NotReadable, match="more than 10,000 rows"):
        read(path)


def test_bad_json_lines_go_aside_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "sales.jsonl"
    path.write_text('{"a": 1.10}\n\n{"a": \n{"a":  2}\n')
    found, made, aside = read(path, contract(form="json"))
    assert ([one.value for one in made], aside) == ([b'{"a": 1.10}', b'{"a":  2}'], '{"a": \n')
    assert [bad.line for bad in found.bad] == [3]


@pytest.mark.parametrize("pack", ["gzip", "zip"])
def test_packed_files_are_read_as_they_are(tmp_path: Path, pack: str) -> None:
    content = b"no,sku\n1,A\n1,B\n2,C\n"
    path: File = tmp_path / "packed"
    if pack == "gzip":
        (tmp_path / "packed").write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(tmp_path / "packed", "w") as archive:
            archive.writestr("sales.csv", content)
        path = zipfile.Path(tmp_path / "packed", "sales.csv")
    found, made, _ = read(path)
    assert (keys(made), found.rows) == (["1", "2"], 3)


def test_memory_does_not_grow_with_the_file(tmp_path: Path, peak: Callable[[Callable[[], Any]], int]) -> None:
    sizes = []
    for bons in (1_000, 3_000):
        path = tmp_path / f"{bons}.csv"
        with path.open("w") as file:
            file.write("no,sku\n")
            for turn in range(3):
                file.writelines(f"{bon},{turn:>1000}\n" for bon in range(bons))

        def through(path: Path = path) -> int:
            found = check_file(path, BY_NO, lambda _: None)
            assert not found.together
            return sum(1 for _ in receipts(path, found, BY_NO, lambda _: None, RejectedLines("", lambda _: None)))

        sizes.append(peak(through))
    assert sizes[1] < sizes[0] + 2**20, sizes


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], int]:
    """The most memory that Python held while something was done, in bytes."""
    import tracemalloc

    monkeypatch.setattr(regroup, "_AT_ONCE", 100)

    def measured(work: Callable[[], Any]) -> int:
        tracemalloc.start()
        work()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    return measured


@pytest.mark.parametrize(
    ("text", "unnamed"),
    [("no;sku;\n1;tea;\n2;milk;\n", "column_3"), (";no;sku\n0;1;tea\n1;2;milk\n", "column_1")],
)
def test_first_or_last_column_may_be_without_a_name(tmp_path: Path, text: str, unnamed: str) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(text)
    found, made, _ = read(path)
    assert found.layout.header
    assert unnamed in found.layout.columns
    assert [receipt.key for receipt in made] == [b"1", b"2"]
    with path.open("rb") as lines:
        assert [(key, value) for key, value in rows_to_records(lines, ["no"])] == [
            (receipt.key, receipt.value) for receipt in made
        ]


def test_first_line_that_names_a_column_twice_is_told_to_be_no_header(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("no;price;price\n1;2,50;3,00\n")
    with pytest.raises(NotReadable, match="the first line has numbers, or a name twice or none"):
        read(path)
