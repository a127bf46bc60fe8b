"""Contract files: every fault is reported with file, line and path."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from schemas.contract import Contract
from streams.sources.contracts import BUILT_IN, ContractError, built_in_contracts, find_contract, load_contract
from streams.sources.source import load_source

GOOD = """\
contract: 1
source: shop
kinds:
  - when: {path: kind, is: sale}
    type: sale
  - skip: no sale
fields:
  receipt: number
  totals.gross: {path: total, as: {decimal: {point: ","}}}
lines:
  - each: items
    fields:
      sku: code
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.yaml"


def faults(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ContractError) as error:
        load_source(path, lambda _: None)
    return [line.replace(str(path), "shop.yaml") for line in str(error.value).splitlines()]


def test_good_contract_is_ready(path: Path) -> None:
    path.write_text(GOOD)
    assert load_source(path, lambda _: None).contract.label == "shop@1"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "receipt: number",
            "receit: number",
            "shop.yaml:8: fields.receit: there is no such field; did you mean receipt?",
        ),
        ("sku: code", "colour: code", "shop.yaml:13: lines.0.fields.colour: there is no such field"),
        ("type: sale", "type: sail", "shop.yaml:5: kinds.0.type: Input should be 'sale', 'return'"),
        ("type: sale", "typ: sale", "shop.yaml:5: kinds.0.typ: Extra inputs are not permitted"),
        ('point: ","', 'point: ";"', "shop.yaml:9: fields.totals.gross.as.decimal.point: Input should be '.' or ','"),
        ("number", "nu[mber", "shop.yaml:8: fields.receipt.path: 'nu[mber' is not valid JMESPath"),
        ("number", "{path: number, header: x}", "shop.yaml:8: fields.receipt: a rule takes its value from one of"),
        ("number", "{path: number, as: {time: dd.mm.yyyy}}", "shop.yaml:8: fields.receipt.as"),
        ("number", "{path: number, as: {time: {zone: Berlin}}}", "shop.yaml:8: fields.receipt.as.0: time: 'Berlin'"),
        ("number", "{path: number, as: date}", "shop.yaml:8: fields.receipt.as"),
        ("{path: kind, is: sale}", "{path: 'a['}", "shop.yaml:4: kinds.0.when.0.path: 'a[' is not valid JMESPath"),
        ("each: items", "each: 'items['", "shop.yaml:11: lines.0.each: 'items[' is not valid JMESPath"),
        ("source: shop\n", "", "shop.yaml:1: source: Field required"),
        ("contract: 1", "contract: 2", "shop.yaml:1: contract: Input should be 1"),
        ("contract: 1", "contract: true", "shop.yaml:1: contract: write it as a number, without quotes"),
        ("  - skip: no sale", "  - skip: no sale\n    type: void", "shop.yaml:6: kinds.1: a kind has a `type`"),
        ("source: shop", "source: shop\nsource: shop", "shop.yaml:3: source: duplicate key"),
        ("source: shop", "source: 'shop", "shop.yaml:"),
        ("source: shop", "source: shop\ngroup_by: [a]", "shop.yaml:1: contract: group_by is for format csv"),
    ],
)
def test_fault_is_reported_with_its_line_and_path(path: Path, old: str, new: str, fault: str) -> None:
    found = faults(path, GOOD.replace(old, new, 1))
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_all_faults_are_reported_at_once(path: Path) -> None:
    found = faults(path, GOOD.replace("number", "'a['").replace("code", "'b['"))
    assert [line.split(": ")[0] for line in found] == ["shop.yaml:8", "shop.yaml:13"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "just text",
        "\x00",
        "a: &x [*x]",
        "!!python/object:os.system {}",
        "{",
        "[" * 2000,
        "? [a]\n: 1",
        "<<: 3",
    ],
)
def test_file_that_is_not_a_contract_is_refused_with_a_message(path: Path, text: str) -> None:
    assert faults(path, text)[0].startswith("shop.yaml")


@pytest.mark.parametrize("value", ["2026-02-30", "0x_", "!!int x", "!!bool x", "!!timestamp x", "!!binary ü"])
def test_value_that_yaml_misreads_is_reported_with_its_line(path: Path, value: str) -> None:
    text = GOOD.replace("\n", f"\ndescription: {value}\n", 1)
    assert faults(path, text)[0].startswith("shop.yaml:2: ")


def test_file_that_is_not_utf_8_is_refused(path: Path) -> None:
    path.write_bytes(b"source: \xff")
    with pytest.raises(ContractError, match="not UTF-8"):
        load_contract(path)


def test_unknown_name_lists_the_built_in_contracts() -> None:
    with pytest.raises(
        ContractError, match=r"shoppify: neither a file nor a built-in contract; the built-in ones are .*square"
    ):
        find_contract("shoppify")


@pytest.mark.parametrize("name", built_in_contracts())
def test_built_in_contract_is_ready_and_fits_the_published_schema(name: str) -> None:
    load_source(find_contract(name), lambda _: None)
    schema = json.loads((Path(__file__).parents[3] / "schemas/published/contract.schema.json").read_text())
    jsonschema.validate(yaml.safe_load((BUILT_IN / f"{name}.yaml").read_text()), schema)


def test_schema_knows_the_short_forms() -> None:
    schema = Contract.model_json_schema()
    jsonschema.validate(yaml.safe_load(GOOD), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(GOOD.replace("receipt", "receit")), schema)
