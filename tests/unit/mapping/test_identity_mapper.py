"""Without a mapping file receipts are mapped by the identity, and evaluated by the same function."""

from pathlib import Path

import pytest

from schemas.dead_letter import Reason
from schemas.store import Store, Stores
from streams.assembly import find_master_data
from streams.batch import Arrival
from streams.checks import CheckFailed, check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.mapping.mapper import IdentityMapper, Mapper, store_zone
from streams.pipeline import evaluate
from streams.settings import Settings
from tests.support.events import NOON, batch, value
from tests.support.mapping import ANY_STORE, mapping_file, table_mapper

APPLE = {"sku": "A", "item_code": "4711"}
WRONG_TOTAL = {"totals": {"gross": "3.01"}, "tenders": []}


def arrived(*values: bytes) -> list[Arrival]:
    return decode(batch(*values))[0]


def test_identity_maps_as_the_plain_function_does() -> None:
    arrivals = arrived(value(1), value(2, type="return"), value(3, store="S2"))
    listed = Stores({"S1": Store()}, None)
    evaluation = evaluate(arrivals, IdentityMapper(listed), NOON)
    documents, rejections = to_documents(check(arrivals, NOON)[0], listed)
    assert evaluation.documents == documents
    assert [(rejection.record, rejection.reason) for rejection in evaluation.rejections] == [
        (rejection.record, rejection.reason) for rejection in rejections
    ]
    assert [rejection.detail for rejection in rejections] == ["store: not_in_settings"]


def test_identity_has_no_label_no_rules_and_no_findings() -> None:
    mapper = IdentityMapper(ANY_STORE)
    evaluation = evaluate(arrived(value(1), value(2, **WRONG_TOTAL)), mapper, NOON)
    assert (mapper.label, mapper.refunds, evaluation.findings) == ("", None, [])
    assert [rejection.reason.value for rejection in evaluation.rejections] == ["totals_mismatch"]
    assert evaluation.documents[0].mapping is None


def test_evaluation_has_every_arrival_as_a_document_or_a_rejection() -> None:
    arrivals = arrived(value(1), value(2, **WRONG_TOTAL), value(3, lines=[]), value(4))
    evaluation = evaluate(arrivals, table_mapper(items=[{"sku": "B"}]), NOON)
    assert not evaluation.documents
    assert sorted(rejection.record.offset for rejection in evaluation.rejections) == [0, 1, 2, 3]
    assert [receipt.arrival.record.offset for receipt in evaluation.checked] == [0, 3]


def test_evaluating_twice_gives_the_same_findings() -> None:
    mapper = table_mapper(cleaning={"quantity": {"at_most": 1, "then": "flag"}})
    first, second = (evaluate(arrived(value(1)), mapper, NOON).findings for _ in range(2))
    assert [(found.rule, found.policy) for found in first] == [("quantity", "flag")]
    assert first == second


def test_mapper_without_codes_keeps_stores_and_repairs_only() -> None:
    cleaning = {"totals": {"amount": "0.05", "then": "fix"}, "quantity": {"at_most": 1, "then": "reject"}}
    mapper = table_mapper(items=[APPLE], stores=[{"store": "S1", "timezone": "Asia/Tokyo"}], cleaning=cleaning)
    plain = mapper.without_codes()
    (document,) = evaluate(arrived(value(1, **WRONG_TOTAL)), plain, NOON).documents
    assert (document.lines[0].item_code, document.review, document.mapping) == (None, None, None)
    assert str(store_zone(plain, "S1")) == "Asia/Tokyo"
    assert plain.without_codes() is plain


@pytest.mark.parametrize("mapping", [False, True])
def test_master_data_without_or_before_loading_are_the_settings_stores(mapping: bool, tmp_path: Path) -> None:
    path = mapping_file(tmp_path, {"mapping": 1, "stores": {"rows": [{"store": "S1", "timezone": "Asia/Tokyo"}]}})
    master_data = find_master_data(Settings(mapping=path if mapping else None))
    assert str(store_zone(master_data.current(), "S1")) == "UTC"
    loaded: Mapper = master_data.load()
    assert master_data.current() is loaded
    assert str(store_zone(loaded, "S1")) == ("Asia/Tokyo" if mapping else "UTC")


def test_identity_repairs_nothing_and_describes_nothing() -> None:
    mapper = IdentityMapper(ANY_STORE)
    arrival, wrong = arrived(value(1), value(2, **WRONG_TOTAL))
    (document,) = evaluate([arrival], mapper, NOON).documents
    assert mapper.repair(wrong, CheckFailed(Reason.TOTALS_MISMATCH, "totals.gross: differs_from_lines")) is None
    assert mapper.with_descriptions(document) is document
