"""`tillstream inspect`: its reports on files, the personal values it hides, and drafts that load."""

import codecs
import gzip
import json
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from ops.cli import program
from ops.files.layout import look
from ops.inspect import column as columns
from ops.inspect.column import ValueColumn
from ops.inspect.draft import draft_contract
from ops.inspect.survey import survey_file, survey_rows
from ops.inspect.topic import records_per_partition
from ops.inspect.value_kinds import read_value
from schemas.contract import ConversionStep
from schemas.store import Store, Stores
from streams.mapping.mapper import IdentityMapper, store_zone
from streams.privacy.detection import by_value, luhn
from streams.privacy.field_names import by_name
from streams.sources.convert import converter
from streams.sources.source import load_source

SAMPLE = Path(__file__).parents[3] / "docs" / "tutorial" / "sample.csv"
REAL = Path(__file__).parents[4] / "shared" / "data" / "online-retail" / "2010-12.csv.gz"
ZONES = partial(store_zone, IdentityMapper(Stores({}, Store())))


def tillstream(*arguments: object) -> Result:
    return CliRunner().invoke(program, list(map(str, arguments)))


def found(path: Path) -> dict[str, Any]:
    result = tillstream("inspect", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]  # it is an object, by the command's promise


def field(path: Path, name: str) -> dict[str, Any]:
    return next(each for each in found(path)["fields"] if each["path"] == name)


def column(*values: str, name: str = "value") -> ValueColumn:
    made = ValueColumn(name)
    made.add_texts(values)
    made.finish()
    return made


def test_sample_is_described() -> None:
    about = found(SAMPLE)
    assert (about["format"], about["delimiter"], about["header"], about["records"]) == ("csv", ",", True, 10)
    assert about["exact_duplicates"] == 1
    assert next(iter(about["group_by_candidates"])) == "InvoiceNo"
    assert about["personal"] == ["CustomerID"]
    price = field(SAMPLE, "UnitPrice")
    assert (price["type"], price["min"], price["max"], price["missing"]) == ("decimal", "0.0", "39.95", 0)
    assert "1 zero" in price["odd"]
    assert field(SAMPLE, "Description")["missing"] == 1
    assert field(SAMPLE, "InvoiceDate")["time"] == {
        "formats": ["iso"],
        "day_and_month_ambiguous": False,
        "time_zone": "none",
    }


@pytest.mark.parametrize(("encoding", "said"), [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("cp1252", "cp1252")])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encoding_and_delimiter_are_detected(tmp_path: Path, encoding: str, said: str, delimiter: str) -> None:
    rows = [["bon", "artikel", "preis"], ["1", "Käse", "1.50"], ["2", "Brötchen", "0.40"]]
    path = tmp_path / "sales.csv.gz"
    path.write_bytes(gzip.compress("\n".join(map(delimiter.join, rows)).encode(encoding)))
    layout = look(path)
    assert (layout.encoding, layout.delimiter, layout.compressed) == (said, delimiter, True)
    assert layout.columns == ("bon", "artikel", "preis")


def test_file_without_a_header_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("1,2.50,tea\n2,3.50,milk\n")
    assert found(path)["header"] is False


@pytest.mark.parametrize(
    ("text", "form", "records"),
    [
        ('[{"a": 1}, {"a": 2.5}]', "json_array", 2),
        ('{"a": 1}\n{"a": 2}\n', "json_lines", 2),
        ('{\n"a": [1, 2]\n}', "json", 1),
        ("<sales><sale><a>1</a></sale><sale><a>2</a></sale></sales>", "xml", 2),
        ("<sale><a>1</a></sale>", "xml", 1),
    ],
)
def test_formats_are_detected(tmp_path: Path, text: str, form: str, records: int) -> None:
    path = tmp_path / "sales"
    path.write_text(text)
    about = found(path)
    assert (about["format"], about["records"]) == (form, records)


@given(st.lists(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
def test_array_is_read_item_by_item_as_a_whole_is(items: list[dict[str, float]]) -> None:
    from io import StringIO

    from ops.files import records

    text = StringIO(json.dumps(items, indent=1))
    read_again = [json.loads(each) for each in records._items(Path("x"), text, lambda: None)]
    assert read_again == items


PACKED = gzip.compress(b"a,b\n1,2\n", mtime=0)
DEEP = 5_000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe", "the file is empty"),
        (b"[1, 2", "item 3 of the JSON array breaks off"),
        (b"<a><b></a>", "not well-formed"),
        (b"a\0b", "neither text"),
        (b"PK\x03\x04 and so on", "a workbook or an archive, which `tillstream import` alone reads"),
        (b"\xff\xfe\0", "not utf-16-le, as its first bytes say: truncated data"),
        (b"\xef\xbb\xbfa,b\n1,\xff\n", "not utf-8, as its first bytes say"),
        (PACKED[:-9], "the gzip file is damaged"),
        (PACKED[:12] + b"\xff" + PACKED[13:], "the gzip file is damaged"),
        (PACKED + b"junk", "the gzip file is damaged"),
        (b"a" * 200_000 + b",b\n1,2\n", "no CSV: field larger than field limit"),
        (b"[1, " + b"[" * DEEP + b"]" * DEEP + b"]", "item 2 of the JSON array is nested too deeply"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "no record could be read as json"),
    ],
)
def test_unreadable_input_is_reported_without_a_traceback(tmp_path: Path, value: bytes, said: str) -> None:
    path = tmp_path / "sales"
    path.write_bytes(value)
    result = tillstream("inspect", path)
    assert (result.exit_code, said in result.output, isinstance(result.exception, SystemExit)) == (2, True, True)


def test_file_in_another_format_than_requested_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "sales"
    path.write_text("a,b [\n1,2\n")
    result = tillstream("inspect", path, "--format", "json_array")
    assert (result.exit_code, "no JSON array" in result.output) == (2, True)


def test_record_that_is_nested_too_deeply_is_unreadable_among_others(tmp_path: Path) -> None:
    path = tmp_path / "sales"
    path.write_text('{"a":' * DEEP + "1" + "}" * DEEP + '\n{"a": 1}\n')
    about = found(path)
    assert (about["format"], about["records"], about["unreadable"]) == ("json_lines", 1, 1)


def test_blank_lines_before_the_header_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "sales"
    path.write_text("\n\nbon;artikel\n1;tea\n")
    about = found(path)
    assert (about["delimiter"], [each["path"] for each in about["fields"]]) == (";", ["bon", "artikel"])


@pytest.mark.parametrize("number", ["1e999999999", "1e-999999999", "1e99999999999999999999", "9" * 4_000, "9" * 5_000])
def test_number_beyond_all_bounds_costs_nothing_and_ends_nothing(tmp_path: Path, number: str) -> None:
    path = tmp_path / "sales"
    path.write_text(f'{{"a": {number}}}\n{{"a": 1}}\n')
    assert found(path)["records"] in (1, 2)
    path.write_text(f"a,b\n{number},1\n")
    assert found(path)["records"] == 1


def test_half_of_a_character_is_shown_as_its_escape(tmp_path: Path) -> None:
    path = tmp_path / "sales"
    path.write_text('{"a": "\\ud800"}')
    assert field(path, "a")["examples"] == ["\ud800"]
    assert r"\ud800" in tillstream("inspect", path).output


PIECES = [b"{", b"}", b"[", b"]", b'"', b"a", b":", b",", b";", b"\n", b"\r", b"<a>", b"</a>", b"<b c='1'/>", b"&x;",
          b"<!DOCTYPE a>", b'"\\ud800"', b"null", b"1.5", b"\0", b"\xff", b"\xc3\xa9", b"[/]", b" "]  # fmt: skip
BOMS = [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE]


@given(
    st.sampled_from(BOMS),
    st.binary(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join),
    st.none() | st.integers(2, 60),
)
def test_no_bytes_end_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, bom: bytes, body: bytes, cut: int | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "sales"
    path.write_bytes(bom + body if cut is None else gzip.compress(bom + body, mtime=0)[:cut])
    result = tillstream("inspect", path)
    assert result.exit_code in (0, 2), result.output


def test_file_that_is_not_there_is_wrong_usage() -> None:
    result = tillstream("inspect", "nothing.csv")
    assert (result.exit_code, "no such file" in result.output) == (2, True)


def test_times_settle_each_others_order_of_day_and_month() -> None:
    times = column("03/04/2026 10:00", "25/04/2026 11:30")
    assert (times.formats, times.ambiguous_time) == (["%d/%m/%Y %H:%M"], False)
    times = column("03/04/2026", "05/04/2026")
    assert times.ambiguous_time
    assert column("2026-04-03", "05/04/2026").ambiguous_time
    assert not column("2026-04-03", "05/04/2026", "25/04/2026").ambiguous_time


@pytest.mark.parametrize(
    "header",
    [
        "Bon;Datum;Artikelname;Artikelnummer;Anzahl;Preis",
        "recibo;fecha;descripción;artículo;cantidad;precio",
        "facture;date;désignation;article;quantité;prix",
        "小票号;日期;品名;货号;数量;单价",
        "فاتورة;تاريخ;وصف;رمز;كمية;سعر",
    ],
)
def test_draft_knows_fields_by_their_names_in_other_languages(header: str, tmp_path: Path) -> None:
    path, target = tmp_path / "sales.csv", tmp_path / "draft.yaml"
    path.write_text(
        f"{header}\n1;2026-03-01T10:00:00Z;Tee;A-1;1;1.25\n1;2026-03-01T10:00:00Z;Milk;B-2;2;1.25\n"
        "2;2026-03-02T10:00:00Z;Milk;B-2;2;1.25\n",
        encoding="utf-8",
    )
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    receipt, when, description, sku, quantity, price = header.split(";")
    drafted = yaml.safe_load(target.read_text(encoding="utf-8"))
    said = json.dumps(drafted["fields"], ensure_ascii=False)
    assert drafted["group_by"] == [receipt]
    assert when in said
    (lines,) = drafted["lines"]
    for role, name in (("description", description), ("sku", sku), ("quantity", quantity), ("unit_price", price)):
        assert name in json.dumps(lines["fields"][role], ensure_ascii=False), role


def test_draft_says_that_some_times_are_not_read(tmp_path: Path) -> None:
    path, target = tmp_path / "sales.csv", tmp_path / "draft.yaml"
    times = ["2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z", "2026-03-03T10:00:00Z", "last Monday"]
    path.write_text("receipt;date;sku;qty;price\n" + "".join(f"{n};{at};A;1;1.25\n" for n, at in enumerate(times)))
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    (when,) = [line for line in target.read_text().splitlines() if "occurred_at" in line]
    assert when.endswith("# check: 25.0% of the values don't match these formats")


def test_decimal_marks_that_fit_every_value_are_taken() -> None:
    assert column("1.234,50", "7,25").marks[0] == (",", ".")
    assert column("1,234.50", "7.25").marks[0] == (".", ",")
    assert {point for point, _ in column("1,234", "5,678").marks} == {".", ","}


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (("$1,234.50", "$7.25"), 'decimal: {point: ".", thousands: ",", signs: ["$"]}'),
        (("€ 1.234,50", "7,25"), 'decimal: {point: ",", thousands: ".", signs: ["€"]}'),
        (("1\u00a0234,50\u00a0€", "-7,25 €"), 'decimal: {point: ",", thousands: " ", signs: ["€"]}'),
        (("EUR 12.50", "US$ 3.10"), 'decimal: {signs: ["EUR", "US$"]}'),
        (("12.50", "(3.10)"), "decimal: {brackets: negative}"),
        (("($12.50)", "3.10"), 'decimal: {signs: ["$"], brackets: negative}'),
    ],
)
def test_signs_of_currencies_and_brackets_go_into_the_draft_which_reads_them(
    values: tuple[str, ...], steps: str, tmp_path: Path
) -> None:
    assert column(*values).kind == "decimal"
    path, target = tmp_path / "sales.csv", tmp_path / "draft.yaml"
    rows = "".join(f"{n};2026-03-0{n}T10:00:00Z;A;1;{value}\n" for n, value in enumerate(values, 1))
    path.write_text(f"receipt;date;sku;qty;price\n{rows}")
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    (price,) = [line for line in target.read_text().splitlines() if "unit_price" in line]
    assert yaml.safe_load(price)["unit_price"]["as"] == yaml.safe_load("{" + steps + "}")
    convert = converter(ConversionStep.model_validate(yaml.safe_load("{" + steps + "}")))
    numbers = [Decimal(convert(value, None)) for value in values]  # type: ignore[arg-type]  # a number asks for nothing
    assert (column(*values).range.low, column(*values).range.high) == (min(numbers), max(numbers))


@pytest.mark.parametrize("text", ["TOP 10", "ABC 1.5", "5 XYZ", "A$5B", "$", "(x)", "(089)", "12.50 €€", "() 5"])
def test_text_that_only_looks_like_money_stays_text(text: str) -> None:
    assert read_value(text).kind == "text"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6))
def test_every_plain_decimal_is_a_number(value: Decimal) -> None:
    assert read_value(str(value)).kind == "decimal"


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    read_value(text.strip())
    by_value(text)
    by_name(text)


def test_distinct_values_are_bounded_and_reported_as_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MAX_DISTINCT", 10)
    many = column(*map(str, range(100)))
    assert (len(many.counts), many.overflowed, many.filled, many.unique) == (10, True, 100, None)
    assert (many.range.low, many.range.high) == (0, 99)
    assert column(*"aab").unique is False
    assert column(*"abc").unique is True


@pytest.mark.parametrize(
    "name", ["email", "CustomerID", "customer.name", "billing.phone", "first_name", "OperatorName", "note", "address1"]
)
def test_personal_fields_are_known_by_name(name: str) -> None:
    assert by_name(name)


@pytest.mark.parametrize("name", ["product.name", "Description", "quantity", "store_id", "Country", "price"])
def test_other_fields_are_not_personal(name: str) -> None:
    assert by_name(name) is None


def test_card_numbers_are_known_by_their_check_digit() -> None:
    assert luhn("4242 4242 4242 4242")
    assert not luhn("4242 4242 4242 4241")
    for card in ("4242 4242 4242 4242", "3782-822463-10005", "2223000048400011", "676770901004"):
        assert by_value(card) == "bank or card number"


def test_personal_values_are_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    secrets = ["ann@example.org", "+49 30 1234567", "4242424242424242", "Ann Example"]
    order = {"number": 1, "a": secrets[0], "b": secrets[1], "c": secrets[2], "customer": {"name": secrets[3]}}
    path.write_text("\n".join(json.dumps(order | {"number": n}) for n in range(3)))
    target = tmp_path / "draft.yaml"
    for arguments in ([], ["--json"], ["--draft", target]):
        output = tillstream("inspect", path, *arguments).output
        assert not [secret for secret in secrets if secret in output]
    assert not [secret for secret in secrets if secret in target.read_text()]
    assert found(path)["personal"] == ["a", "b", "c", "customer.name"]


def test_draft_says_where_an_amount_may_be_a_thousand_times_as_large(tmp_path: Path) -> None:
    path, target = tmp_path / "sales.csv", tmp_path / "draft.yaml"
    path.write_text("receipt;date;sku;qty;price\n1;2026-03-01;A;1;1,250\n2;2026-03-02;A;1;2,500\n")
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    (price,) = [line for line in target.read_text().splitlines() if "unit_price" in line]
    assert price.endswith("# check: the decimal mark is ambiguous: 1,234 may be a thousand")


def test_draft_of_the_sample_loads_and_guesses_returns(tmp_path: Path) -> None:
    target = tmp_path / "draft.yaml"
    assert tillstream("inspect", SAMPLE, "--draft", target).exit_code == 0
    contract = load_source(target, ZONES).contract
    assert contract.group_by == ("InvoiceNo",)
    assert [kind.type for kind in contract.kinds] == ["return", "sale"]
    assert contract.personal == ("rows[].CustomerID",)
    again = tillstream("inspect", SAMPLE, "--draft", target)
    assert (again.exit_code, "already exists" in again.output) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 7, "created_at": "2026-03-01T10:00:00Z", "total_price": "3.00", "currency": "EUR", '
        '"line_items": [{"sku": "A", "quantity": 2, "price": "1.50"}], "type": "refund"}',
        '{"receipt": 1}',
        '{"receipt": 1, "type": "refund\\ud800", "\\ud800": 1}',
        "<Sale><ReceiptNumber>1</ReceiptNumber><Item><SKU>A</SKU><Quantity>1</Quantity></Item>"
        "<Item><SKU>B</SKU><Quantity>1</Quantity></Item></Sale>",
    ],
)
def test_drafts_of_other_formats_load(tmp_path: Path, text: str) -> None:
    path, target = tmp_path / "in", tmp_path / "out.yaml"
    path.write_text(text)
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    load_source(target, ZONES)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=6, unique=True
    ),
    st.data(),
)
def test_every_draft_loads(tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject) -> None:
    value = st.sampled_from(["1", "-2", "C7", "2.50", "2026-01-02", "x", "", "refund"])
    rows = data.draw(st.lists(st.lists(value, min_size=len(names), max_size=len(names)), min_size=1, max_size=5))
    target = tmp_path_factory.mktemp("draft") / "draft.yaml"
    target.write_text(draft_contract(survey_rows(tuple(names), rows), None, Path("sales.csv")), encoding="utf-8")
    load_source(target, ZONES)


def test_shares_of_partitions_are_even_and_add_up() -> None:
    assert records_per_partition({0: 100, 1: 2, 2: 100}, 12) == {0: 5, 1: 2, 2: 5}
    assert records_per_partition({0: 0, 1: 3}, 12) == {0: 0, 1: 3}
    assert records_per_partition({0: 9, 1: 9}, 1) == {0: 1, 1: 0}


@pytest.mark.skipif(not REAL.exists(), reason=f"the real data are not at {REAL}")
def test_real_month_is_described() -> None:
    survey = survey_file(REAL, look(REAL), None, lambda _: None)
    assert (survey.records, survey.duplicates, survey.group_by_candidates()[0]) == (42_481, 500, "InvoiceNo")
    invoices = survey.columns["InvoiceNo"]
    assert (len(invoices.counts), invoices.prefixes["C"]) == (2_025, 728)


@pytest.mark.parametrize(
    ("day", "says"),
    [("2026-03-10", True), ("10.03.2026", True), ("2026-03-10 17:04", False), ("3/10/26 5:04 PM", False)],
)
def test_draft_says_that_dates_have_no_time_of_day(day: str, says: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "sales.csv", tmp_path / "draft.yaml"
    rows = (f"{number},{day},A1,1,2.50" for number in range(1, 4))
    path.write_text("\n".join(("Receipt,Date,SKU,Qty,Price", *rows)), encoding="utf-8")
    assert tillstream("inspect", path, "--draft", target).exit_code == 0
    assert ("no time of day" in target.read_text(encoding="utf-8")) is says


def test_group_of_thousands_does_not_begin_with_zero() -> None:
    assert {point for point, _ in read_value("0,755").marks} == {","}
    assert {point for point, _ in read_value("0.755").marks} == {"."}
    assert {point for point, _ in read_value("1,755").marks} == {",", "."}
