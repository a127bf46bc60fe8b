"""`tillstream map …` and what `import` sends: on the tutorial's own contract and sample."""

import gzip
import json
import re
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from lxml import etree

from ops.cli import program
from ops.files.as_imported import records_of
from ops.files.layout import NotReadable
from ops.publish import FOLDER
from streams.privacy.masking import TextMask
from streams.sources.contracts import load_contract
from streams.sources.rows import RowsUnreadable, rows_to_records

SALE = {"InvoiceNo": "1", "StockCode": "A", "Quantity": "1", "InvoiceDate": "2010-12-01 12:00:00", "UnitPrice": "2.5"}
DOCS = Path(__file__).parents[3] / "docs"
SAMPLE = DOCS / "tutorial/sample.csv"


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """The contract that the tutorial shows."""
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "tutorial/first-feed.md").read_text(), re.DOTALL)
    path = tmp_path / "online-retail.yaml"
    path.write_text(next(block for block in blocks if "contract: 1" in block))
    return path


def tillstream(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(program, list(map(str, arguments)), input=given)


def changed(contract: Path, old: str, new: str) -> Path:
    path = contract.with_name("changed.yaml")
    text = contract.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def with_names(contract: Path, field: str = "cashier: {value: '7'}") -> Path:
    """The contract for customers that go by their names, and with one more field."""
    old = '{path: "rows[0].CustomerID", as: [decimal, {multiply: "1"}]}'
    return changed(contract, old, f"rows[0].CustomerID\n  {field}")


def test_examples_of_the_tutorial_pass(contract: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    result = tillstream("map", "test", contract, "--junit", report)
    assert (result.exit_code, "4 passed, 0 failed" in result.output) == (0, True), result.output
    assert ElementTree.parse(report).getroot().attrib["tests"] == "4"


def test_example_that_fails_is_shown_with_its_difference(contract: Path, tmp_path: Path) -> None:
    wrong = changed(contract, 'gross: "33.30"', 'gross: "33.31"')
    report = tmp_path / "report.xml"
    result = tillstream("map", "test", wrong, "--junit", report)
    assert result.exit_code == 1
    assert '-        "gross": "33.31"' in result.output
    assert '+        "gross": "33.30"' in result.output
    assert len(ElementTree.parse(report).findall(".//failure")) == 1
    assert json.loads(tillstream("map", "test", wrong, "--json").output)["ok"] is False


def test_contract_that_is_wrong_is_reported_with_its_line(contract: Path) -> None:
    wrong = changed(contract, "starts_with(", "starts_with((")
    result = tillstream("map", "test", wrong)
    assert (result.exit_code, f"{wrong}:" in result.output, "kinds.0.when.0" in result.output) == (2, True, True)


@pytest.mark.parametrize(
    ("value", "events", "said"),
    [
        ("{at: 2026-03-01}", "[]", "10: examples.0.value.at: not a JSON value; put a date or a time in quotes"),
        ("[1, {at: 2026-03-01 10:00:00}]", "[]", "10: examples.0.value.1.at: not a JSON value"),
        ("x", "[{occurred_at: 2026-03-01}]", "11: examples.0.events.0.occurred_at: not a JSON value"),
        ("!!set {a, b}", "[]", "10: examples.0.value: not a JSON value"),
        ('"\\ud800"', "[]", "10: half of a surrogate pair"),
    ],
)
def test_example_that_json_can_not_say_is_reported_with_its_line(
    tmp_path: Path, value: str, events: str, said: str
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(
        "contract: 1\nsource: shop\nkinds:\n  - type: sale\nfields:\n  receipt: bon\n\nexamples:\n"
        f"  - name: one\n    value: {value}\n    events: {events}\n"
    )
    result = tillstream("map", "test", path)
    assert (result.exit_code, f"{path}:{said}" in result.output) == (2, True), result.output


def test_names_in_brackets_are_shown_as_they_stand(contract: Path) -> None:
    named = changed(contract, "name: a cancellation", 'name: "[/red]"')
    assert "online-retail" in tillstream("map", "test", contract).output
    assert ": [/red]" in tillstream("map", "test", named).output
    skipped = changed(contract, "skip: stock adjustment", 'skip: "[/red]"')
    result = tillstream("map", "diff", contract, skipped, "--from-file", SAMPLE)
    assert (result.exit_code, "skipped ([/red])" in result.output) == (0, True)


def test_try_shows_every_step_and_stars_for_the_customer(contract: Path) -> None:
    result = tillstream("map", "try", contract, SAMPLE)
    assert result.exit_code == 0, result.output
    assert "10001.0" not in result.output
    assert '"id": "***"' in result.output
    for step in ("taken kinds.2 (sale)", 'trim → "PAPER LANTERN"', "checks: all amounts add up", '"kind": "invoice"'):
        assert step in result.output


def test_try_names_the_fault_of_a_dead_letter(contract: Path) -> None:
    lines = SAMPLE.read_text().splitlines(keepends=True)
    record = lines[0] + lines[1].replace("2010-12-01", "the first")
    result = tillstream("map", "try", contract, "-", "--json", given=record)
    assert result.exit_code == 1
    part = json.loads(result.output)["parts"][0]
    assert (part["rejected"]["reason"], part["rejected"]["detail"]) == (
        "unconvertible_value",
        "occurred_at: not_a_time",
    )
    steps = [step for step in part["fields"] if step["place"] == "fields.occurred_at"]
    assert [step.get("fault") for step in steps] == [None, "not_a_time", "not_a_time"]


def test_try_tells_all_faults_of_an_event_by_field(contract: Path) -> None:
    wrong = changed(contract, "register: {value", "cashier: {value")
    result = tillstream("map", "try", wrong, SAMPLE, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["parts"][0]["faults"] == [{"field": "register", "fault": "Field required"}]


def test_what_is_no_record_of_the_format_is_a_dead_letter_without_a_traceback(contract: Path) -> None:
    result = tillstream("map", "try", contract, "-", given="{")
    assert (result.exit_code, "invalid_json" in result.output) == (1, True)


def test_row_that_is_too_short_is_reported_with_its_file_and_line(contract: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("InvoiceNo,StockCode\n1\n")
    result = tillstream("map", "try", contract, path)
    assert (result.exit_code, f"{path}: line 2: 1 values for 2 columns" in result.output) == (2, True)


def test_bytes_that_are_no_text_may_be_header_and_key(contract: Path) -> None:
    result = tillstream("map", "try", contract, SAMPLE, "--header", "X-Test=\udcff", "--key", "\udcff")
    assert result.exit_code == 0, result.output


def test_personal_texts_are_stars_wherever_they_stand(contract: Path) -> None:
    """In a text that the contract makes of them, in capitals, in a note, and in what the mapping made of them."""
    joined = with_names(contract, "cashier: \"join(' ', ['by', rows[0].CustomerID])\"")
    rows = [
        {"CustomerID": "Zoë Quill", "Description": "for ZOË QUILL", "Note": "zoë quill@example.org", "Code": "X-77"}
    ]
    record = json.dumps({"rows": [row | SALE for row in rows]})
    mapping = contract.with_name("mapping.yaml")
    mapping.write_text("mapping: 1\ncustomers: {rows: [{id: Zoë Quill, customer_code: D-4711}]}\n", encoding="utf-8")
    settings = contract.with_name("settings.yaml")
    settings.write_text(f"mapping: {mapping}\n")
    for form in ([], ["--json"]):
        result = tillstream("map", "try", joined, "-", "--config", settings, *form, given=record)
        assert result.exit_code == 0, result.output
        assert not re.search("quill|4711", result.output, re.IGNORECASE)
        assert "by ***" in result.output
        assert "X-77" in result.output


def test_detail_shows_no_personal_text(contract: Path) -> None:
    mapping = contract.with_name("mapping.yaml")
    mapping.write_text("mapping: 1\nitems: {rows: [{sku: A}]}\n")
    settings = contract.with_name("settings.yaml")
    settings.write_text(f"mapping: {mapping}\n")
    record = json.dumps({"rows": [SALE | {"CustomerID": "Zoe Quill", "StockCode": "for-zoe quill"}]})
    result = tillstream("map", "try", with_names(contract), "-", "--config", settings, given=record)
    assert (result.exit_code, "unmapped 'for-***'" in result.output) == (1, True), result.output


def test_try_books_by_the_mapping_of_the_settings(contract: Path) -> None:
    mapping = contract.with_name("mapping.yaml")
    mapping.write_text(
        "mapping: 1\nitems: {rows: [{sku: 10001A, item_code: '4711'}], unmapped: pass}\n"
        "cleaning: {quantity: {at_most: 5, then: flag}}\n"
    )
    settings = contract.with_name("settings.yaml")
    settings.write_text(f"mapping: {mapping}\n")
    result = tillstream("map", "try", contract, SAMPLE, "--config", settings, "--json")
    assert result.exit_code == 0, result.output
    part = json.loads(result.output)["parts"][0]
    assert part["document"]["lines"][0]["item_code"] == "4711"
    assert (part["cleaning"], "quantity" in part["document"]["review"]) == (["quantity (flag)"], True)
    assert "cleaning: quantity (flag)" in tillstream("map", "try", contract, SAMPLE, "--config", settings).output


@pytest.mark.parametrize(
    ("shown", "stars"),
    [
        ("Ann Example", "***"),
        ("mail ANN EXAMPLE now", "mail *** now"),
        ("ann@example.org,", "***,"),
        ("Ann Example Street", "***"),  # two of them that overlap
        ("STRAUSS, Jose\u0301", "***, ***"),
        ("at 101, not at 21019", "at ***, not at 21019"),
        ("+491701234567", "+49***"),
        ("fy", "***"),
        ("defy", "defy"),
        (10001, "***"),
        (100012, 100012),
        (True, True),
        ({"ann example": ["a", None]}, {"***": ["a", None]}),
    ],
)
def test_personal_text_is_hidden_inside_of_others_and_a_short_one_alone(shown: object, stars: object) -> None:
    hiding = TextMask()
    hiding.hide({"names": ["Ann Example", "Example Street", "Strauß", "José"], "mail": "Ann@Example.org"})
    hiding.hide(["101", 10001, "1701234567", "FY", True, None])
    assert hiding.show(shown) == stars


def test_text_beside_a_personal_element_is_hidden_too() -> None:
    hiding = TextMask()
    hiding.hide("Ann Example")
    element = etree.fromstring("<a b='to ann example'><c>ANN EXAMPLE</c> and Ann Example</a>")
    assert etree.tostring(hiding.show(element)) == b'<a b="to ***"><c>***</c> and ***</a>'


def test_many_personal_texts_cost_no_more_than_one() -> None:
    hiding = TextMask()
    hiding.hide([f"CUSTOMER-{number:06}" for number in range(20_000)])
    text = " ".join(f"customer-{number:06}" for number in range(20_000))
    assert hiding.show(text) == " ".join(["***"] * 20_000)


@pytest.mark.parametrize("depth", [400, 5_000])
def test_record_that_is_nested_deeply_is_cut_off_or_a_dead_letter(contract: Path, depth: int) -> None:
    deep = '{"rows": [{"Deep": ' + "[" * depth + "]" * depth + "}]}"
    result = tillstream("map", "try", contract, "-", given=deep)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert ("…" if depth < 1_000 else "too_deeply_nested") in result.output


def test_value_that_a_path_makes_too_deep_is_a_dead_letter(contract: Path) -> None:
    deeper = "[" * 100 + "rows[0].Deep" + "]" * 100
    other = changed(contract, '{path: "total(rows[].UnitPrice)", is: "0"}', f'{{path: "{deeper}", is: "0"}}')
    record = json.dumps({"rows": [SALE | {"Deep": "here"}]}).replace('"here"', "[" * 850 + "]" * 850)
    result = tillstream("map", "try", other, "-", given=record)
    assert (result.exit_code, "(a value): too_deeply_nested" in result.output) == (1, True)


def test_personal_path_that_is_none_is_reported_with_its_line(contract: Path) -> None:
    wrong = changed(contract, 'personal: ["rows[].CustomerID"]', 'personal: ["rows[[.CustomerID"]')
    result = tillstream("map", "try", wrong, SAMPLE)
    assert (result.exit_code, f"{wrong}:" in result.output, "personal.0" in result.output) == (2, True, True)


def test_try_refuses_what_no_database_takes_as_the_worker_does(contract: Path) -> None:
    record = json.dumps({"rows": [SALE | {"Description": "tea\0"}]})
    result = tillstream("map", "try", contract, "-", given=record)
    assert (result.exit_code, "(a text): nul_character" in result.output) == (1, True)


def test_half_of_a_character_is_shown_as_its_escape(contract: Path) -> None:
    record = json.dumps({"rows": [{"InvoiceNo": "1", "Description": "\ud800"}]})
    assert r'"Description": "\ud800"' in tillstream("map", "try", contract, "-", given=record).output
    assert json.loads(tillstream("map", "try", contract, "-", "--json", given=record).output)["parts"]


def test_name_that_no_file_can_have_is_reported() -> None:
    result = tillstream("inspect", "a" * 5_000)
    assert (result.exit_code, "File name too long" in result.output) == (2, True)


def test_diff_counts_what_changes_and_the_money(contract: Path) -> None:
    other = changed(contract, '{path: "total(rows[].UnitPrice)", is: "0"}', '{path: "rows[0].Country", is: France}')
    result = tillstream("map", "diff", contract, other, "--from-file", SAMPLE, "--json")
    assert result.exit_code == 1, result.output
    found = json.loads(result.output)
    assert (found["records"], found["same"], found["worse"]) == (5, 3, 1)
    assert {(end["before"], end["after"]) for end in found["ends"]} == {
        ("document (invoice)", "skipped (stock adjustment)"),
        ("skipped (stock adjustment)", "document (invoice)"),
    }
    before, after = Decimal(found["gross"]["GBP"]["before"]), Decimal(found["gross"]["GBP"]["after"])
    assert (before, before - after) == (Decimal("134.64"), Decimal("30.00"))


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [
        ("sku: {path: StockCode", "sku: {path: Stock", 4),  # dead letters
        ('register: {value: "1"}', 'register: {value: "2"}', 4),  # receipts that would be booked once more
        ("description: {path: Description", "description: {path: Country", 0),
        ('is: "0"}', 'is: "1"}', 0),  # a receipt of nothing is booked
    ],
)
def test_diff_fails_when_a_record_comes_to_a_worse_end(contract: Path, old: str, new: str, worse: int) -> None:
    other = changed(contract, old, new)
    result = tillstream("map", "diff", contract, other, "--from-file", SAMPLE)
    assert (result.exit_code, f"{worse} a worse one" in result.output) == (bool(worse), bool(worse)), result.output
    back = tillstream("map", "diff", other, contract, "--from-file", SAMPLE)
    assert back.exit_code == (1 if worse and "register" in old else 0)  # what was a dead letter may be booked


def test_diff_of_a_contract_with_itself_is_nothing(contract: Path) -> None:
    result = tillstream("map", "diff", contract, contract, "--from-file", SAMPLE)
    assert (result.exit_code, "5 records, 0 have another outcome" in result.output) == (0, True)


def test_diff_needs_one_place_of_records(contract: Path) -> None:
    assert tillstream("map", "diff", contract, contract).exit_code == 2


def test_schema_is_the_published_one() -> None:
    assert tillstream("map", "schema").output == (FOLDER / "contract.schema.json").read_text()


def test_rows_of_a_receipt_become_one_record(contract: Path) -> None:
    records = list(records_of(SAMPLE, load_contract(contract), lambda _: None))
    assert [key for key, _ in records] == [b"900001", b"900002", b"C900003", b"900004", b"900005"]
    assert sum(len(json.loads(value)["rows"]) for _, value in records) == 10
    assert json.loads(records[4][1])["rows"][1]["Description"] == "CUSHION, STRIPED"


@pytest.mark.parametrize("name", ["sales.csv.gz", "sales.json"])
def test_file_that_breaks_off_is_reported_with_its_name(contract: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-9] if name.endswith(".gz") else b'[{"a": 1}, {"a"')
    form = load_contract(contract) if name.endswith(".gz") else None
    with pytest.raises(NotReadable, match=f"{name}: (the gzip file is damaged|item 2 of the JSON array breaks off)"):
        list(records_of(path, form, lambda _: None))


def test_rows_without_groups_are_records_of_their_own() -> None:
    assert len(list(rows_to_records([b"a,b\n", b"1,2\n", b"1,2\n"], ()))) == 2


def test_column_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(RowsUnreadable, match="no column c; the columns are a, b"):
        list(rows_to_records([b"a,b\n", b"1,2\n"], ("c",)))


def test_csv_for_another_format_is_refused() -> None:
    with pytest.raises(NotReadable, match="needs `format: csv`"):
        list(records_of(SAMPLE, None, lambda _: None))


@pytest.mark.parametrize(
    "command", [["inspect"], ["import"], ["map", "test"], ["map", "try"], ["map", "diff"], ["map", "schema"]]
)
def test_every_command_has_help_with_examples(command: list[str]) -> None:
    result = tillstream(*command, "--help")
    assert (result.exit_code, "Example" in result.output) == (0, True)
