"""Shopify's orders and refunds, to their documents. Whole records are in the contract's examples."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import ErpDocument
from tests.support.sources import reasons, through

SAMPLES = Path(__file__).parents[4] / "shared/data/samples/shopify"
ID = 5678901234567890123


def item(sku: str, price: str, quantity: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "sku": sku, "title": sku, "price": price, "quantity": quantity, "tax_lines": []} | more


def order(*items: dict[str, Any], total: str, tax: str = "0.00", **more: Any) -> dict[str, Any]:
    """A paid order in euros."""
    plain: dict[str, Any] = {
        "id": ID,
        "created_at": "2026-03-10T12:00:00+01:00",
        "updated_at": "2026-03-10T12:00:00+01:00",
        "currency": "EUR",
        "financial_status": "paid",
        "taxes_included": False,
        "line_items": list(items),
        "total_tax": tax,
        "total_price": total,
        "payment_gateway_names": ["card"],
    }
    return plain | more


def refund(*parts: dict[str, Any], back: str, **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": ID + 1,
        "order_id": ID,
        "created_at": "2026-03-11T12:00:00+01:00",
        "refund_line_items": list(parts),
        "order_adjustments": [],
        "transactions": [{"kind": "refund", "status": "success", "gateway": "card", "amount": back, "currency": "EUR"}],
    }
    return plain | more


def document(value: Any, **headers: str) -> ErpDocument:
    """The one document that the record becomes."""
    documents, rejected, noted = through("shopify", value, headers=headers)
    assert (reasons(rejected), noted) == ([], [])
    [made] = documents
    return made


def why_not(value: Any, **headers: str) -> list[str]:
    """Why the record is noted or rejected."""
    documents, rejected, noted = through("shopify", value, headers=headers)
    assert documents == []
    return [part.why for part in noted] + reasons(rejected)


def tax(rate: float, price: str) -> dict[str, Any]:
    return {"rate": rate, "price": price}


def test_ids_beyond_double_precision_are_exact() -> None:
    assert document(order(item("A", "3.00"), total="3.00")).receipt == "5678901234567890123"


def test_delivery_id_is_not_used_for_several_orders() -> None:
    two = {"orders": [order(item("A", "3.00"), total="3.00", id=1), order(item("A", "3.00"), total="3.00", id=2)]}
    headers = {"X-Shopify-Topic": "orders/paid", "X-Shopify-Event-Id": "7"}
    documents, rejected, _ = through("shopify", two, headers=headers)
    assert (len({made.event_id for made in documents}), rejected) == (2, [])
    assert document(two["orders"][0], **headers).event_id == "shopify:7/orders/paid"


def test_two_taxes_are_one_rate() -> None:
    made = document(
        order(item("A", "10.00", tax_lines=[tax(0.05, "0.50"), tax(0.09975, "1.00")]), total="11.50", tax="1.50")
    )
    assert (made.lines[0].tax_rate, made.tax, made.gross) == (Decimal("14.975"), Decimal("1.50"), Decimal("11.50"))


def rates(made: ErpDocument) -> list[Decimal]:
    return [line.tax_rate for line in made.lines]


def test_rate_that_the_order_states_is_the_rate_where_one_line_bears_all_of_the_tax() -> None:
    lines = [
        item("A", "299.99", tax_lines=[tax(0.05, "50.00")]),
        item("B", "400.01", tax_lines=[tax(0.05, "0.00")]),
        item("C", "300.00", tax_lines=[tax(0.05, "0.00")]),
    ]
    made = document(order(*lines, total="1050.00", tax="50.00"))
    assert (rates(made), made.tax, made.gross) == ([5, 5, 5], Decimal("50.00"), Decimal("1050.00"))


def test_taxes_of_state_county_and_city_are_one_rate_with_their_printed_sum() -> None:
    taxes = [tax(0.0625, "0.02"), tax(0.01, "0.00"), tax(0.025, "0.01")]
    made = document(order(item("A", "0.26", tax_lines=taxes), total="0.29", tax="0.03"))
    assert (rates(made), made.tax, made.rounding) == ([Decimal("9.75")], Decimal("0.03"), 0)


def test_tax_above_what_the_stated_rate_gives_is_a_dead_letter() -> None:
    wrong = order(item("A", "60.00", tax_lines=[tax(0.05, "10.00")]), total="70.00", tax="10.00")
    assert why_not(wrong) == ["uncertain_tax_rate: lines.0.tax_rate: tax_is_more_than_the_rate_gives"]


def test_refund_without_a_rate_has_the_round_one_that_its_tax_tells() -> None:
    part = {"quantity": 1, "line_item": item("A", "20.00"), "subtotal": "20.00", "total_tax": "2.60"}
    made = document(refund(part, back="22.60"))
    assert (rates(made), made.tax) == ([13], Decimal("-2.60"))


def test_refund_whose_cents_fit_several_rates_is_a_dead_letter() -> None:
    part = {"quantity": 1, "line_item": item("A", "0.10"), "subtotal": "0.10", "total_tax": "0.02"}
    assert why_not(refund(part, back="0.12")) == ["uncertain_tax_rate: lines.0.tax_rate: several_rates_fit"]


def test_adjustment_has_the_rate_of_the_goods_that_come_back() -> None:
    part = {
        "quantity": 1,
        "line_item": item("A", "10.00", tax_lines=[tax(0.08875, "0.89")]),
        "subtotal": "10.00",
        "total_tax": "0.89",
    }
    adjustment = {"kind": "shipping_refund", "amount": "-1.00", "tax_amount": "-0.09"}
    made = document(refund(part, back="11.98", order_adjustments=[adjustment]))
    assert rates(made) == [Decimal("8.875"), Decimal("8.875")]


def test_tax_that_is_included_is_taken_out() -> None:
    made = document(
        order(item("A", "11.90", 2, tax_lines=[tax(0.19, "3.80")]), total="23.80", tax="3.80", taxes_included=True)
    )
    assert (made.net, made.tax, made.gross) == (Decimal("20.00"), Decimal("3.80"), Decimal("23.80"))


def test_discount_of_an_old_order_is_on_its_line() -> None:
    made = document(order(item("A", "10.00", 2, total_discount="5.00"), total="15.00"))
    assert made.lines[0].discount == Decimal("5.00")


def test_discounted_shipping_is_a_line() -> None:
    shipping = [{"title": "Fast", "price": "9.00", "discounted_price": "4.00"}]
    made = document(order(item("A", "10.00"), total="14.00", shipping_lines=shipping))
    assert [(line.sku, line.gross) for line in made.lines] == [("A", Decimal("10.00")), ("shipping", Decimal("4.00"))]


def test_tip_that_is_already_a_line_is_not_added_again() -> None:
    made = document(order(item("A", "10.00"), item("", "2.00", title="Tip"), total="12.00", total_tip_received="2.00"))
    assert len(made.lines) == 2


def test_cash_rounding_is_the_document_s_rounding() -> None:
    rounding = {"shop_money": {"amount": "0.02", "currency_code": "EUR"}}
    made = document(order(item("A", "9.98"), total="9.98", total_cash_rounding_payment_adjustment_set=rounding))
    assert (made.rounding, made.gross) == (Decimal("0.02"), Decimal("10.00"))


def test_free_order_has_no_payment() -> None:
    made = document(order(item("A", "10.00", total_discount="10.00"), total="0.00", payment_gateway_names=[]))
    assert (made.gross, made.payments) == (0, [])


def test_later_version_is_a_higher_revision_of_the_same_receipt() -> None:
    paid = document(order(item("A", "3.00"), total="3.00"))
    updated = document(order(item("A", "3.00"), total="3.00", updated_at="2026-03-10T12:00:01+01:00"))
    assert paid.external_ref == updated.external_ref
    assert updated.revision == paid.revision + 1


def test_same_version_under_two_topics_has_the_same_content() -> None:
    body = order(item("A", "3.00"), total="3.00")
    paid = document(body, **{"X-Shopify-Topic": "orders/paid", "X-Shopify-Event-Id": "7"})
    updated = document(body, **{"X-Shopify-Topic": "orders/updated", "X-Shopify-Event-Id": "7"})
    assert (paid.content, paid.revision) == (updated.content, updated.revision)
    assert paid.event_id != updated.event_id


def test_cancelled_order_reverses_its_sale() -> None:
    sale = document(order(item("A", "3.00"), total="3.00"))
    void = document(order(item("A", "3.00"), total="3.00", cancelled_at="2026-03-11T12:00:00+01:00"))
    assert (void.original_ref, void.gross) == (sale.external_ref, -sale.gross)


def test_order_that_the_topic_says_was_paid_is_a_sale_whatever_came_later() -> None:
    body = order(item("A", "3.00"), total="3.00", cancelled_at="2026-03-11T12:00:00+01:00")
    assert document(body, **{"X-Shopify-Topic": "orders/paid"}).kind == "invoice"


def test_topic_says_cancelled_where_the_body_does_not() -> None:
    assert (
        document(order(item("A", "3.00"), total="3.00"), **{"X-Shopify-Topic": "orders/cancelled"}).kind
        == "cancellation"
    )


@pytest.mark.parametrize("status", ["pending", "authorized", "partially_paid", "voided"])
def test_unpaid_order_is_not_a_sale(status: str) -> None:
    assert why_not(order(item("A", "3.00"), total="3.00", financial_status=status)) == ["not_paid"]
    cancelled = {"financial_status": status, "cancelled_at": "2026-03-11T12:00:00+01:00"}
    assert why_not(order(item("A", "3.00"), total="3.00", **cancelled)) == ["not_paid"]


@pytest.mark.parametrize("status", ["refunded", "partially_refunded"])
def test_cancellation_does_not_reverse_refunded_sales_again(status: str) -> None:
    body = order(item("A", "3.00"), total="3.00", financial_status=status, cancelled_at="2026-03-11T12:00:00+01:00")
    assert why_not(body) == ["cancelled_and_refunded"]


def test_order_without_lines_that_costs_something_is_a_dead_letter() -> None:
    assert why_not(order(total="3.00")) == ["empty_receipt: lines: empty"]


def test_refund_refers_to_the_sale_of_its_order() -> None:
    headers = {"X-Shopify-Shop-Domain": "one.myshopify.com"}
    sale = document(order(item("A", "3.00"), total="3.00"), **headers)
    part = {"quantity": 1, "line_item_id": 1, "line_item": item("A", "3.00"), "subtotal": "3.00", "total_tax": "0.00"}
    returned = document(refund(part, back="3.00"), **headers)
    assert (returned.original_ref, returned.gross) == (sale.external_ref, Decimal("-3.00"))


@pytest.mark.parametrize(("back", "net"), [("11.90", "-10.00"), ("14.16", "-11.90")])
def test_money_tells_whether_a_refund_s_prices_contain_the_tax(back: str, net: str) -> None:
    total_tax = "1.90" if net == "-10.00" else "2.26"
    part = {
        "quantity": 1,
        "line_item": item("A", "11.90", tax_lines=[tax(0.19, total_tax)]),
        "subtotal": "11.90",
        "total_tax": total_tax,
    }
    made = document(refund(part, back=back))
    assert (made.net, made.gross) == (Decimal(net), -Decimal(back))


def test_refund_of_shipping_is_a_line() -> None:
    adjustment = {"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.95"}
    made = document(refund(back="5.95", order_adjustments=[adjustment]))
    assert [(line.sku, line.tax_rate, line.gross) for line in made.lines] == [("shipping", 19, Decimal("-5.95"))]


def test_refund_that_failed_gives_nothing_back() -> None:
    failed = [{"kind": "refund", "status": "failure", "amount": "3.00"}]
    assert why_not(refund(back="3.00", transactions=failed)) == ["refund_without_money"]


def test_refund_of_more_than_its_lines_say_is_a_dead_letter() -> None:
    part = {"quantity": 1, "line_item": item("A", "3.00"), "subtotal": "3.00", "total_tax": "0.00"}
    assert why_not(refund(part, back="4.00")) == ["totals_mismatch: totals.gross: differs_from_lines"]


def money(amount: str, currency: str = "EUR", presented: str | None = None) -> dict[str, Any]:
    shop = {"shop_money": {"amount": amount, "currency_code": currency}}
    return shop if presented is None else shop | {"presentment_money": {"amount": presented, "currency_code": "SEK"}}


def test_money_without_a_currency_is_the_shop_s() -> None:
    part = {
        "quantity": 2,
        "line_item": item("A", "199.00"),
        "subtotal": "398.00",
        "subtotal_set": money("398.00"),
        "total_tax": "0.00",
    }
    kept = {"kind": "refund_discrepancy", "amount": "313.00", "tax_amount": "0.00"}
    back = [{"kind": "refund", "status": "success", "gateway": "card", "amount": "85.00"}]
    made = document(refund(part, back="85.00", transactions=back, order_adjustments=[kept]))
    assert (made.gross, made.payments[0].amount, made.currency) == (Decimal("-85.00"), Decimal("-85.00"), "EUR")
    assert why_not(refund(part, back="85.00", transactions=back)) == [
        "totals_mismatch: totals.gross: differs_from_lines"
    ]


def test_refund_that_names_no_currency_at_all_is_a_dead_letter() -> None:
    part = {"quantity": 1, "line_item": item("A", "3.00"), "subtotal": "3.00", "total_tax": "0.00"}
    back = [{"kind": "refund", "status": "success", "gateway": "card", "amount": "3.00"}]
    assert why_not(refund(part, back="3.00", transactions=back)) == ["schema_mismatch: currency: missing"]


@pytest.mark.parametrize(
    ("back", "its_tax", "presented", "expected"),
    [("89.10", "1.31", "14.85", "-7.85"), ("107.22", "1.57", "18.12", "-9.42")],  # tax included, tax on top
)
def test_money_in_another_currency_has_the_value_of_its_lines(
    back: str, its_tax: str, presented: str, expected: str
) -> None:
    part = {
        "quantity": 1,
        "line_item": item("A", "7.85", tax_lines=[tax(0.2, its_tax)]),
        "subtotal_set": money("7.85", presented="89.10"),
        "total_tax_set": money(its_tax, presented=presented),
    }
    returned = [{"kind": "refund", "status": "success", "gateway": "klarna", "amount": back, "currency": "SEK"}]
    assert document(refund(part, back=back, transactions=returned)).gross == Decimal(expected)


def test_money_in_another_currency_that_is_not_that_of_its_lines_is_a_dead_letter() -> None:
    part = {
        "quantity": 1,
        "line_item": item("A", "7.85"),
        "subtotal_set": money("7.85", presented="89.10"),
        "total_tax_set": money("0.00", presented="0.00"),
    }
    returned = [{"kind": "refund", "status": "success", "gateway": "klarna", "amount": "50.00", "currency": "SEK"}]
    assert why_not(refund(part, back="50.00", transactions=returned)) == ["schema_mismatch: totals.gross: missing"]


amounts = st.integers(0, 40_000).map(lambda cents: str(Decimal(cents) / 100))


@given(
    st.lists(st.fixed_dictionaries({"amount": amounts}, optional={"currency": st.just("EUR")}), min_size=1, max_size=2),
    st.lists(amounts, max_size=2),
    st.none() | amounts,
)
def test_refund_is_the_money_that_the_body_says_or_a_dead_letter(
    back: list[dict[str, str]], goods: list[str], kept: str | None
) -> None:
    parts = [
        {"quantity": 1, "line_item": item("A", price), "subtotal_set": money(price), "total_tax": "0.00"}
        for price in goods
    ]
    adjusted = [] if kept is None else [{"kind": "refund_discrepancy", "amount": kept, "tax_amount": "0"}]
    returned = [{"kind": "refund", "status": "success", "gateway": "card"} | one for one in back]
    body = refund(*parts, back="", transactions=returned, order_adjustments=adjusted)
    documents, rejected, _ = through("shopify", body)
    if documents:
        assert [made.gross for made in documents] == [-sum(Decimal(one["amount"]) for one in back)]
    else:
        assert len(rejected) == 1


def test_money_alone_goes_back_as_a_difference() -> None:
    made = document(refund(back="10.00"))
    assert [(line.sku, line.gross) for line in made.lines] == [("refund_difference", Decimal("-10.00"))]


def test_wrapped_orders_are_taken_one_by_one() -> None:
    both = {"orders": [order(item("A", "3.00"), total="3.00"), order(item("A", "3.00"), total="3.00", id=ID + 2)]}
    documents, rejected, _ = through("shopify", both)
    assert ([made.receipt for made in documents], rejected) == ([str(ID), str(ID + 2)], [])


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
@pytest.mark.parametrize(
    ("file", "outcome"),
    [
        ("orders-paid-2024-01.json", ["test_order"]),
        ("order-python-api.json", ["not_paid"]),
        ("order-2025-04.json", ["unplaced_record: kinds: none_fits"]),
        ("refund-2025-04.json", ["unconvertible_value: facts.tax_total: not_a_number"]),
    ],
)
def test_real_bodies_end_where_they_should(file: str, outcome: list[str]) -> None:
    body = json.loads((SAMPLES / file).read_bytes())
    assert why_not(body.get("response", body)) == outcome


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
def test_real_order_becomes_a_document_once_it_is_paid_and_adds_up() -> None:
    body = json.loads((SAMPLES / "orders-paid-2024-01.json").read_bytes())["response"]
    mended = {"test": False, "financial_status": "paid", "cancelled_at": None, "total_price_set": None}
    made = document(
        body | mended | {"total_price": "408.00", "current_total_price": "408.00", "current_total_price_set": None}
    )
    assert (made.receipt, made.gross, len(made.lines)) == ("820982911946154500", Decimal("408.00"), 3)
