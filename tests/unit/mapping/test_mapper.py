"""What the tills say becomes what the ERP calls it; what has no row is a dead letter that names it."""

from datetime import date, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import ErpDocument
from schemas.store import Store, Stores
from streams.privacy.detection import by_value
from tests.support.events import event
from tests.support.mapping import mapped, outcome, refused, table_mapper

APPLE = {"sku": "A", "item_code": "4711", "unit": "Nos", "tax_category": "food", "cost": "0.80"}
LINE = event()["lines"][0]


def lines(*skus: str) -> dict[str, Any]:
    """Changes that make a receipt of these items."""
    listed = [{**LINE, "sku": sku} for sku in skus]
    return {"lines": listed, "tenders": [], "totals": {"gross": str(Decimal("3.00") * len(skus))}}


def test_without_tables_nothing_is_mapped_but_the_version_is_noted() -> None:
    document = mapped(table_mapper(version="7"))
    assert (document.mapping, document.warehouse, document.lines[0].item_code) == ("test@7", None, None)


def test_item_gives_its_code_unit_and_cost() -> None:
    line = mapped(table_mapper(items=[APPLE])).lines[0]
    assert (line.sku, line.item_code, line.item_unit, line.cost) == ("A", "4711", "Nos", Decimal("0.80"))


def test_item_without_a_code_of_its_own_keeps_the_sku() -> None:
    assert mapped(table_mapper(items=[{"sku": "A", "cost": 1}])).lines[0].item_code == "A"


def test_store_gives_company_warehouse_and_cost_centre() -> None:
    document = mapped(table_mapper(stores=[{"store": "S1", "company": "C", "warehouse": "W", "cost_centre": 12}]))
    assert (document.company, document.warehouse, document.cost_centre) == ("C", "W", "12")


def test_store_of_the_table_has_its_own_business_day() -> None:
    table = table_mapper(stores=[{"store": "S1", "timezone": "Asia/Tokyo", "cutoff": "22:00"}])
    assert mapped(table, occurred_at="2026-03-10T12:59:00Z").business_date == date(2026, 3, 9)
    assert mapped(table, occurred_at="2026-03-10T13:00:00Z").business_date == date(2026, 3, 10)


def test_store_that_states_no_time_zone_has_that_of_the_settings() -> None:
    listed = Stores({"S1": Store(timezone="Asia/Tokyo", cutoff=time(1, 0))}, None)
    table = table_mapper(listed, stores=[{"store": "S1", "warehouse": "W"}, {"store": "S2", "warehouse": "W"}])
    assert table.stores.find("S1") == listed.find("S1")
    assert table.stores.find("S2") is None
    made = outcome(table, store="S2")
    assert not isinstance(made, ErpDocument)
    assert made.reason == "unknown_store"


def test_cut_off_of_the_table_may_be_midnight_where_the_settings_say_later() -> None:
    listed = Stores({"S1": Store(cutoff=time(4, 0))}, None)
    found = table_mapper(listed, stores=[{"store": "S1", "cutoff": "00:00"}]).stores.find("S1")
    assert found is not None
    assert found.cutoff == time(0, 0)


def test_tender_gives_payment_mode_and_account() -> None:
    paid = mapped(table_mapper(tenders=[{"kind": "cash", "payment_mode": "Cash", "account": 1000}])).payments[0]
    assert (paid.kind, paid.payment_mode, paid.account) == ("cash", "Cash", "1000")


@pytest.mark.parametrize(
    ("taxes", "code"),
    [
        ([{"rate": "19.0", "tax_code": "V19"}], "V19"),
        ([{"rate": 19, "tax_code": "V19"}, {"category": "food", "tax_code": "F"}], "F"),
        ([{"category": "food", "tax_code": "F"}, {"category": "food", "rate": 19, "tax_code": "F19"}], "F19"),
        ([{"category": "toys", "tax_code": "T"}, {"rate": 19, "tax_code": "V19"}], "V19"),
    ],
    ids=["rate", "category before rate", "both before category", "another category"],
)
def test_tax_code_goes_by_the_most_exact_row(taxes: list[dict[str, Any]], code: str) -> None:
    assert mapped(table_mapper(items=[APPLE], taxes=taxes)).lines[0].tax_code == code


def test_customer_is_mapped_and_a_receipt_without_one_needs_none() -> None:
    table = table_mapper(customers=[{"id": "C7", "customer_code": "D-1"}])
    assert mapped(table, customer={"id": "C7"}).customer_code == "D-1"
    assert mapped(table).customer_code is None


def test_a_stores_own_row_goes_before_that_of_all_and_what_it_leaves_empty_is_as_there() -> None:
    table = table_mapper(items=[APPLE, {"sku": "A", "store": "S2", "item_code": "4712"}])
    here, there = (mapped(table, store=store).lines[0] for store in ("S1", "S2"))
    assert (here.item_code, here.cost) == ("4711", Decimal("0.80"))
    assert (there.item_code, there.cost) == ("4712", Decimal("0.80"))
    tenders = [{"kind": "cash", "payment_mode": "Cash"}, {"kind": "cash", "store": "S2", "payment_mode": "Till 2"}]
    modes = [mapped(table_mapper(tenders=tenders), store=store).payments[0].payment_mode for store in ("S1", "S2")]
    assert modes == ["Cash", "Till 2"]


@pytest.mark.parametrize(
    ("table", "rows", "told"),
    [
        ("items", [{"sku": "B"}], ("unmapped_item", "lines.0.sku: unmapped 'A'")),
        ("stores", [{"store": "S2"}], ("unmapped_store", "store: unmapped 'S1'")),
        ("tenders", [{"kind": "card", "payment_mode": "C"}], ("unmapped_tender", "tenders.0.kind: unmapped 'cash'")),
        ("taxes", [{"rate": 7, "tax_code": "V7"}], ("unmapped_tax", "lines.0.tax_rate: unmapped '19'")),
        ("customers", [{"id": "C8", "customer_code": "D"}], ("unmapped_customer", "customer.id: unmapped")),
    ],
)
def test_code_without_a_row_is_a_dead_letter_that_names_it(
    table: str, rows: list[dict[str, Any]], told: tuple[str, str]
) -> None:
    assert refused(table_mapper(**{table: rows}), customer={"id": "C7"}) == told


def test_all_that_is_missing_is_named_each_once() -> None:
    table = table_mapper(items=[APPLE], taxes=[{"rate": 7, "tax_code": "V7"}], stores=[{"store": "S2"}])
    assert refused(table, **lines("B", "A", "C", "B")) == (
        "unmapped_store",
        "store: unmapped 'S1'; lines.0.sku: unmapped 'B'; lines.0.tax_rate: unmapped '19'; "
        "lines.1.tax_rate: unmapped '19 food'; lines.2.sku: unmapped 'C'",
    )


def test_how_many_codes_are_named_is_bounded() -> None:
    _, detail = refused(table_mapper(items=[APPLE]), **lines(*(f"B{number}" for number in range(50))))
    assert detail.endswith("lines.9.sku: unmapped 'B9'; and 40 more")


def test_one_row_repairs_all_that_it_blocked() -> None:
    receipts = [lines("B"), lines("A", "B"), lines("B", "B")]
    for receipt in receipts:
        assert refused(table_mapper(items=[APPLE]), **receipt)[0] == "unmapped_item"
        mapped(table_mapper(items=[APPLE, {"sku": "B"}]), **receipt)


def test_code_is_shown_so_that_no_character_of_it_hides() -> None:
    assert refused(table_mapper(items=[APPLE]), **lines("A\n"))[1] == r"lines.0.sku: unmapped 'A\n'"


@pytest.mark.parametrize("kind", ["4242424242424242", "4242 4242 4242 4242", "3782-822463-10005", "ann@example.org"])
def test_code_that_may_be_personal_is_not_named(kind: str) -> None:
    tenders = [{"kind": kind, "amount": "3.00"}]
    table = table_mapper(tenders=[{"kind": "cash", "payment_mode": "Cash"}])
    assert refused(table, tenders=tenders) == ("unmapped_tender", "tenders.0.kind: unmapped")
    assert refused(table_mapper(items=[APPLE]), **lines(kind)) == ("unmapped_item", "lines.0.sku: unmapped")


def test_barcode_is_named_even_if_a_card_number_could_end_so() -> None:
    assert by_value("4006381333924") == "bank or card number"
    assert refused(table_mapper(items=[APPLE]), **lines("4006381333924"))[1] == "lines.0.sku: unmapped '4006381333924'"


def test_what_may_pass_goes_to_the_erp_as_the_till_calls_it() -> None:
    passing = {
        "items": {"rows": [{"sku": "B"}], "unmapped": "pass"},
        "stores": {"rows": [{"store": "S2"}], "unmapped": "pass"},
        "tenders": {"rows": [{"kind": "card", "payment_mode": "C"}], "unmapped": "pass"},
        "taxes": {"rows": [{"rate": 7, "tax_code": "V7"}], "unmapped": "pass"},
        "customers": {"rows": [{"id": "C8", "customer_code": "D"}], "unmapped": "pass"},
    }
    document = mapped(table_mapper(**passing), customer={"id": "C7"})
    line, paid = document.lines[0], document.payments[0]
    assert (line.item_code, line.tax_code, paid.payment_mode) == ("A", "19", "cash")
    assert (document.warehouse, document.customer_code) == ("S1", "C7")


def test_lines_are_shared_between_documents_of_one_version() -> None:
    table = table_mapper(items=[APPLE])
    assert mapped(table).lines[0] is mapped(table, event_id="other").lines[0]
    assert mapped(table).lines[0] is not mapped(table_mapper(items=[APPLE])).lines[0]


codes = st.sampled_from(["A", "B", "C"])
policies = st.sampled_from(["reject", "pass"])


@given(
    skus=st.lists(codes, min_size=1, max_size=4),
    items=st.lists(
        st.fixed_dictionaries({"sku": codes, "item_code": codes, "cost": st.integers(0, 99)}),
        max_size=3,
        unique_by=lambda row: row["sku"],
    ),
    unmapped=policies,
    type_=st.sampled_from(["sale", "return", "void"]),
)
def test_money_of_the_document_is_money_of_the_event_whatever_the_mapping(
    skus: list[str], items: list[dict[str, Any]], unmapped: str, type_: str
) -> None:
    table = table_mapper(items={"rows": items, "unmapped": unmapped}, tenders={"rows": [], "unmapped": "pass"})
    made = outcome(table, type=type_, **lines(*skus))
    if not isinstance(made, ErpDocument):
        assert unmapped == "reject"
        assert not set(skus) <= {row["sku"] for row in items}
        return
    sign = 1 if type_ == "sale" else -1
    assert made.gross == sign * 3 * len(skus)
    assert made.gross == made.net + made.tax + made.rounding
    assert sum(line.gross for line in made.lines) == made.gross


def test_a_mapped_event_has_the_content_of_a_plain_one() -> None:
    table = table_mapper(items=[{**APPLE, "description": "Boskoop"}], cleaning={"description": "fix"})
    plain = outcome(table_mapper(), lines=[{**LINE, "description": ""}])
    fixed = outcome(table, lines=[{**LINE, "description": ""}])
    assert isinstance(plain, ErpDocument)
    assert isinstance(fixed, ErpDocument)
    assert (plain.content, fixed.lines[0].description) == (fixed.content, "Boskoop")
