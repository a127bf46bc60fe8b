"""Tables from files and queries; every fault is told with its place and what to do."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from schemas.mapping import Mapping
from sinks.base import SinkUnavailable
from streams.mapping.master_data import MasterData
from streams.mapping.tables import QueryDatabase
from streams.sources.contracts import ContractError
from tests.support.mapping import ANY_STORE, NOWHERE, loaded, mapped, mapping_file

CSV = "sku,item_code,cost\nA,4711,0.80\nB,,\n"


def fault(folder: Path, text: str | dict[str, Any], database: QueryDatabase = NOWHERE, **files: str) -> str:
    """What is said of the mapping, the folder's name left out."""
    path = mapping_file(folder, text, **files)
    with pytest.raises(ContractError) as error:
        MasterData(path, database, ANY_STORE).load()
    return str(error.value).replace(f"{folder}/", "")


def items(**table: Any) -> dict[str, Any]:
    return {"mapping": 1, "items": table}


def test_csv_file_is_read_with_empty_cells_absent(tmp_path: Path) -> None:
    table = loaded(mapping_file(tmp_path, items(file="items.csv"), items_csv="\ufeff" + CSV))
    assert table.rows == {"items": 2}
    assert mapped(table).lines[0].item_code == "4711"


def test_columns_may_have_other_names_and_others_may_stand_beside_them(tmp_path: Path) -> None:
    table = items(file="items.csv", delimiter=";", columns={"sku": "EAN", "item_code": "Artikel"})
    content = "Farbe;Artikel;EAN\nrot; 4711 ;A\n"
    assert mapped(loaded(mapping_file(tmp_path, table, items_csv=content))).lines[0].item_code == "4711"


def test_yaml_file_is_a_list_of_rows(tmp_path: Path) -> None:
    content = "- {sku: A, item_code: 4711}\n- sku: 17\n"
    table = loaded(mapping_file(tmp_path, items(file="items.yaml"), items_yaml=content))
    assert mapped(table).lines[0].item_code == "4711"
    mapped(table, lines=[{"sku": "17", "quantity": "2", "unit_price": "1.50", "tax_rate": "19"}])


def database(folder: Path, *statements: str) -> QueryDatabase:
    path = folder / "erp.db"
    with sqlite3.connect(path) as connection:
        for statement in ("CREATE TABLE items (sku, code, price, day)", *statements):
            connection.execute(statement)
    connection.close()
    return QueryDatabase(f"sqlite:///{path}", None)


QUERY = {"query": "SELECT sku, code AS item_code FROM items WHERE sku LIKE 'A%'"}


def test_sql_table_is_in_the_sinks_database_unless_it_has_a_url(tmp_path: Path) -> None:
    erp = database(tmp_path, "INSERT INTO items VALUES ('A', 4711, 0.5, '2026-01-01'), ('B', 1, 1, NULL)")
    assert loaded(mapping_file(tmp_path, items(sql=QUERY)), erp).rows == {"items": 1}
    assert loaded(mapping_file(tmp_path, items(sql={**QUERY, "url": erp.url}))).rows == {"items": 1}


def test_query_cannot_write(tmp_path: Path) -> None:
    erp = database(tmp_path)
    told = fault(tmp_path, items(sql={"query": "INSERT INTO items VALUES (1, 2, 3, 4) RETURNING sku"}), erp)
    assert told == "mapping.yaml: sql: SQLite refuses the query: attempt to write a readonly database"


def test_database_that_is_away_is_an_outage_and_no_fault_of_the_mapping(tmp_path: Path) -> None:
    away = QueryDatabase("postgresql://erp@127.0.0.1:1/erp", None)
    with pytest.raises(SinkUnavailable, match="does not answer"):
        loaded(mapping_file(tmp_path, items(sql=QUERY)), away)


FAULTS = [
    ("mapping: 1\nitems: {file: items.csv, rows: []}\n", "", "mapping.yaml:2: items: a table has its rows in one of"),
    ("mapping: 1\nitens: 3\n", "", "mapping.yaml:2: itens: Extra inputs are not permitted"),
    ("mapping: 2\n", "", "mapping.yaml:1: mapping: Input should be 1"),
    ("- 1\n", "", "mapping.yaml:1: a mapping is a list of `name: value`; begin with `mapping: 1`"),
    ("mapping: 1\nversion: '1'\nversion: '2'\n", "", "mapping.yaml:3: version: duplicate key; keep one"),
    (
        "mapping: 1\ncleaning:\n  quantity: {then: hold}\n",
        "",
        "mapping.yaml:3: cleaning.quantity: limits are at_least, at_most, or both",
    ),
    (
        "mapping: 1\nstores:\n  rows:\n  - {store: S1}\n  - {store: S2, timezone: Mars}\n",
        "",
        "mapping.yaml:5: stores.rows.1.timezone: 'Mars' is not a time zone; use a name like Europe/Berlin",
    ),
    (items(file="items.csv"), "sku,cost\nA,1\nB,1\nA,2\n", "items.csv:4: the same key as in items.csv:2; keep one"),
    (items(file="items.csv"), "sku,cost\nA,1\nB,x\n", "items.csv:3: cost: Input should be a valid decimal"),
    (items(file="items.csv"), "sku,cost\n,1\n", "items.csv:2: sku: Field required"),
    (items(file="items.csv"), "sku,cost\nA,1,5\n", "items.csv:2: not 2 columns, as the first line has; quote values"),
    (
        items(file="items.csv"),
        "sku,price\nA,1\n",
        "items.csv:1: column 'price' is not one of sku, store, item_code, unit, tax_category, cost, list_price, "
        "description; "
        "name the columns to read with `columns: {our name: its name}`",
    ),
    (items(file="items.csv"), "item_code\n1\n", "items.csv:1: column 'sku' is missing"),
    (items(file="items.csv", columns={"sku": "EAN"}), "sku\nA\n", "items.csv:1: column 'EAN' is missing"),
    (items(file="items.csv", columns={"ean": "EAN"}), "EAN\nA\n", "items.csv:1: items.columns: there is no ean; there"),
    (items(file="items.csv"), "sku,sku\nA,B\n", "items.csv:1: column 'sku' occurs twice"),
    (items(file="items.csv"), "sku\n", "items.csv: no rows; a table that is empty by mistake would reject everything"),
    (items(file="items.csv"), 'sku\n"A\n', "items.csv: not a CSV file: unexpected end of data"),
    (items(file="other.csv"), "", "other.csv: No such file or directory"),
    ('mapping: 1\nitems: {file: "a\\0.csv"}\n', "", "mapping.yaml:2: items.file: has a NUL character"),
    (items(file="items.xlsx"), "", "mapping.yaml: items.file: items.xlsx: neither .csv nor .yaml"),
    (items(sql=QUERY), "", "mapping.yaml: sql: There are no queries on memory://…"),
]


@pytest.mark.parametrize(("text", "content", "told"), FAULTS, ids=[told for _, _, told in FAULTS])
def test_fault_is_reported_with_its_place(tmp_path: Path, text: str | dict[str, Any], content: str, told: str) -> None:
    assert fault(tmp_path, text, items_csv=content).startswith(told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sku: A\n", "items.yaml:1: a table is a list of rows: `- {name: value, …}`"),
        ("- sku: A\n- B\n", "items.yaml:2: a row is `{name: value, …}`"),
        ("- sku: A\n- {sku: B, cosst: 1}\n", "items.yaml:2: cosst: Extra inputs are not permitted"),
        ("- sku: [\n", "items.yaml:2: not valid YAML"),
        ("- sku: A\n- {sku: B, description: 2026-02-30}\n", "items.yaml:2: not a valid date or number"),
        ('- {sku: "A\\0"}\n', "items.yaml:1: sku: has a NUL character"),
        ('- {sku: "A\\uD800"}\n', "items.yaml:1: half of a surrogate pair"),
    ],
)
def test_fault_in_a_yaml_table_is_reported_with_its_line(tmp_path: Path, content: str, told: str) -> None:
    assert fault(tmp_path, items(file="items.yaml"), items_yaml=content).startswith(told)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT sku FROM articles", "mapping.yaml: sql: SQLite refuses the query: no such table: articles"),
        ("SELECT sku FROM items; SELECT 1", "mapping.yaml: sql: SQLite refuses the query: You can only execute one"),
        ("SELECT ? AS sku", "mapping.yaml: sql: SQLite refuses the query: Incorrect number of bindings supplied"),
        ("SELECT CAST(x'ff' AS text) AS sku", "mapping.yaml: sql: SQLite refuses the query: Could not decode"),
        ("SELECT sku, day FROM items", "mapping.yaml: items: column 'day' is not one of sku, store"),
        ("SELECT sku, 'x' AS cost FROM items", "mapping.yaml: items: row 1: cost: Input should be a valid decimal"),
        ("SELECT sku FROM items WHERE sku = 'Z'", "mapping.yaml: items: no rows"),
    ],
)
def test_fault_of_a_query_is_reported(tmp_path: Path, query: str, told: str) -> None:
    erp = database(tmp_path, "INSERT INTO items VALUES ('A', 1, 1, '2026-01-01')")
    assert fault(tmp_path, items(sql={"query": query}), erp).startswith(told)


def test_faults_of_a_table_are_reported_together_and_their_number_is_bounded(tmp_path: Path) -> None:
    told = fault(tmp_path, items(file="items.csv"), items_csv="sku,cost\n" + "A,x\n" * 25).splitlines()
    assert len(told) == 21
    assert told[-1] == "… and 5 more"


def test_customers_ids_are_not_reported(tmp_path: Path) -> None:
    text = {"mapping": 1, "customers": {"file": "customers.csv"}}
    content = "id,customer_code\nADA@EXAMPLE.ORG,1\nADA@EXAMPLE.ORG,2\n" + "x" * 65 + ",3\n"
    told = fault(tmp_path, text, customers_csv=content)
    assert len(told.splitlines()) == 2
    assert "EXAMPLE" not in told
    assert "xx" not in told


def test_plainest_mapping_is_one() -> None:
    assert Mapping.model_validate({"mapping": 1}).tables() == {}


@pytest.mark.parametrize("code", ['"4,00638E+12"', "4.00638E+12", "3-Mar"])
def test_code_that_a_spreadsheet_has_damaged_is_reported_with_its_line(tmp_path: Path, code: str) -> None:
    said = fault(tmp_path, items(file="items.csv"), items_csv=f"sku,item_code\nA,1\n{code},2\n")
    assert said.startswith("items.csv:3: sku: a spreadsheet has turned this code into a number or a date")
    said = fault(tmp_path, items(file="items.csv"), items_csv=f"sku,item_code\nA,{code}\n")
    assert said.startswith("items.csv:2: item_code: a spreadsheet")


def test_quoting_of_a_spreadsheet_is_no_part_of_a_code(tmp_path: Path) -> None:
    table = loaded(mapping_file(tmp_path, items(file="items.csv"), items_csv='sku,item_code\n"=""A""",\'0047\n'))
    assert mapped(table).lines[0].item_code == "0047"
