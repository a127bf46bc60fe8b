"""What the documentation shows works, and what starts a worker sees a mapping."""

import re
from pathlib import Path

import jsonschema
import yaml

from ops.check import check_mapping
from ops.json_schema import json_schema
from schemas.mapping import Mapping
from streams.assembly import find_master_data, find_source
from streams.mapping.master_data import MasterData
from streams.settings import Settings
from streams.sources.source import Source
from tests.support.mapping import mapping_file

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "map-codes.md"


def example() -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


def test_example_is_a_mapping_and_its_schema_says_so() -> None:
    shown = yaml.safe_load(example())
    mapping = Mapping.model_validate(shown)
    assert list(mapping.tables()) == ["items", "stores", "tenders", "taxes", "customers"]
    jsonschema.validate(shown, json_schema(Mapping))


def test_preflight_reports_the_number_of_rows_and_the_faults(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, "mapping: 1\nitems: {file: items.csv}\n", items_csv="sku\nA\nB\n")
    findings, code = check_mapping(Settings(mapping=path))
    assert ([finding.detail for finding in findings], code) == (["mapping@1: 2 items"], 0)
    (tmp_path / "items.csv").write_text("sku,\n")
    findings, code = check_mapping(Settings(mapping=path))
    assert ([finding.ok for finding in findings], code) == ([False], 2)
    assert check_mapping(Settings()) == ([], 0)


def test_preflight_names_the_row_whose_opening_hours_are_none(tmp_path: Path) -> None:
    table = "store,opening_hours\nS1,Mo-Fr 08:00-20:00\nS2,Montag 8-20\n"
    path = mapping_file(tmp_path, "mapping: 1\nstores: {file: stores.csv}\n", stores_csv=table)
    (finding,), code = check_mapping(Settings(mapping=path))
    assert (finding.ok, code) == (False, 2)
    assert "stores.csv:3: opening_hours: 'Montag 8-20' are no opening hours; write them like" in finding.advice


def test_contract_reads_local_times_in_the_zone_of_the_table_of_stores(tmp_path: Path) -> None:
    rows = [{"store": "S1", "timezone": "Asia/Tokyo"}]
    settings = Settings(mapping=mapping_file(tmp_path, {"mapping": 1, "stores": {"rows": rows}}), contract="square")
    master_data = find_master_data(settings)
    assert isinstance(master_data, MasterData)
    source = find_source(settings, master_data)
    assert isinstance(source, Source)
    assert str(source._zone_of("S1")) == "UTC"
    master_data.load()
    assert str(source._zone_of("S1")) == "Asia/Tokyo"
