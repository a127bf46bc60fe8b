"""Square's orders, payments and refunds, to their documents. Whole records are in the contract's examples."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.document import ErpDocument
from tests.support.sources import reasons, through

SAMPLES = Path(__file__).parents[4] / "shared/data/samples/square"


def usd(cents: int) -> dict[str, Any]:
    return {"amount": cents, "currency": "USD"}


def item(sku: str, cents: int, quantity: str = "1", **more: Any) -> dict[str, Any]:
    gross = int(cents * Decimal(quantity))
    plain = {
        "catalog_object_id": sku,
        "name": sku,
        "quantity": quantity,
        "base_price_money": usd(cents),
        "gross_sales_money": usd(gross),
        "total_discount_money": usd(0),
        "total_tax_money": usd(0),
        "total_money": usd(gross),
    }
    return plain | more


def order(*items: dict[str, Any], total: int, **more: Any) -> dict[str, Any]:
    """A completed order, paid by card."""
    plain: dict[str, Any] = {
        "id": "ORDER-1",
        "location_id": "PLACE",
        "state": "COMPLETED",
        "version": 3,
        "created_at": "2026-03-10T11:00:00Z",
        "line_items": list(items),
        "total_money": usd(total),
        "tenders": [{"type": "CARD", "amount_money": usd(total)}],
    }
    return {"order": plain | more}


def returned(total: int, *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An order that only takes back."""
    back = {
        "source_order_id": "ORDER-1",
        "return_line_items": list(lines),
        "return_amounts": {"total_money": usd(total)},
    }
    body = order(total=0, id="ORDER-2", returns=[back | more], tenders=[])
    del body["order"]["line_items"]
    return body


def all_of(value: Any) -> list[ErpDocument]:
    documents, rejected, noted = through("square", value)
    assert (reasons(rejected), noted) == ([], [])
    return documents


def document(value: Any) -> ErpDocument:
    [made] = all_of(value)
    return made


def why_not(value: Any) -> list[str]:
    documents, rejected, noted = through("square", value)
    assert documents == []
    return [part.why for part in noted] + reasons(rejected)


def test_amount_without_a_rate_has_a_rate_that_the_order_states() -> None:
    line = item("A", 10, total_tax_money=usd(2), total_money=usd(12))
    taxes = [{"uid": "a", "percentage": "19"}, {"uid": "b", "percentage": "7"}]
    made = document(order(line, total=12, taxes=taxes, total_tax_money=usd(2)))
    assert (made.lines[0].tax_rate, made.tax) == (19, Decimal("0.02"))


def test_amount_that_fits_several_rates_is_a_dead_letter() -> None:
    line = item("A", 10, total_tax_money=usd(2), total_money=usd(12))
    assert why_not(order(line, total=12, total_tax_money=usd(2))) == [
        "uncertain_tax_rate: lines.0.tax_rate: several_rates_fit"
    ]


def test_version_is_the_revision() -> None:
    assert document(order(item("A", 300), total=300)).revision == 3


@pytest.mark.parametrize("wrap", ["webhook", "answer", "list", "bare"])
def test_order_is_the_same_in_every_envelope(wrap: str) -> None:
    body = order(item("A", 300), total=300)
    value = {
        "webhook": {"type": "order.created", "event_id": "7", "data": {"type": "order", "object": body}},
        "answer": body,
        "list": {"orders": [body["order"]]},
        "bare": body["order"],
    }[wrap]
    made = document(value)
    assert (made.content, made.external_ref) == (document(body).content, "square/PLACE/square/ORDER-1/sale")


def test_percentage_is_found_by_the_tax_s_uid() -> None:
    line = item("A", 1000, total_tax_money=usd(73), total_money=usd(1073))
    line["applied_taxes"] = [{"tax_uid": "t", "applied_money": usd(73)}]
    made = document(order(line, total=1073, taxes=[{"uid": "t", "percentage": "7.25", "type": "ADDITIVE"}]))
    assert (made.lines[0].tax_rate, made.tax) == (Decimal("7.25"), Decimal("0.73"))


def test_tax_that_is_included_is_taken_out() -> None:
    line = item("A", 1100, total_tax_money=usd(100))
    line["applied_taxes"] = [{"tax_uid": "t", "applied_money": usd(100)}]
    made = document(order(line, total=1100, taxes=[{"uid": "t", "percentage": "10", "type": "INCLUSIVE"}]))
    assert (made.net, made.tax, made.gross) == (Decimal("10.00"), Decimal("1.00"), Decimal("11.00"))


def test_tax_without_a_percentage_is_derived_from_its_amount() -> None:
    line = item("A", 1000, total_tax_money=usd(80), total_money=usd(1080))
    assert document(order(line, total=1080)).lines[0].tax_rate == 8


def test_service_charge_that_is_spread_over_lines_is_one_line_all_the_same() -> None:
    line = item("A", 1000, total_service_charge_money=usd(100), total_money=usd(1100))
    charge = {"name": "Service", "applied_money": usd(100), "total_money": usd(100)}
    made = document(order(line, total=1100, service_charges=[charge]))
    assert [part.gross for part in made.lines] == [Decimal("10.00"), Decimal("1.00")]


def test_total_may_leave_out_the_tip_that_the_tenders_hold() -> None:
    card = [{"type": "CARD", "amount_money": usd(350), "tip_money": usd(50)}]
    made = document(order(item("A", 300), total=300, tenders=card))
    assert (made.gross, made.lines[-1].sku) == (Decimal("3.50"), "tip")


def test_unpaid_cents_are_a_dead_letter() -> None:
    short = [{"type": "CARD", "amount_money": usd(299)}]
    assert why_not(order(item("A", 300), total=300, tenders=short)) == [
        "payment_mismatch: tenders: sum_differs_from_gross"
    ]


def test_return_refers_to_its_sale() -> None:
    line = {"catalog_object_id": "A", "quantity": "1", "base_price_money": usd(300), "total_money": usd(300)}
    made = document(returned(300, line | {"gross_return_money": usd(300)}))
    assert (made.original_ref, made.gross) == ("square/PLACE/square/ORDER-1/sale", Decimal("-3.00"))


def test_order_of_a_return_takes_the_place_of_its_refund() -> None:
    line = {"catalog_object_id": "A", "quantity": "1", "base_price_money": usd(300), "total_money": usd(300)}
    body = {"id": "R", "status": "COMPLETED", "order_id": "ORDER-2", "location_id": "PLACE", "payment_id": "P"}
    refund = document({"refund": body | {"amount_money": usd(300), "created_at": "2026-03-10T11:00:00Z"}})
    itemised = document(returned(300, line | {"gross_return_money": usd(300)}))
    assert (refund.external_ref, refund.gross) == (itemised.external_ref, itemised.gross)
    assert refund.revision < itemised.revision


def test_exchange_that_pays_back_is_settled_by_both_tenders() -> None:
    line = {"catalog_object_id": "A", "quantity": "1", "base_price_money": usd(500), "total_money": usd(500)}
    back = {"source_order_id": "ORDER-0", "return_line_items": [line | {"gross_return_money": usd(500)}]}
    amounts = {"total_money": usd(500)}
    sale, back_again = all_of(order(item("B", 300), total=300, tenders=[], returns=[back], return_amounts=amounts))
    assert [(part.kind, part.amount) for part in sale.payments] == [("exchange", Decimal("3.00"))]
    assert [(part.kind, part.amount) for part in back_again.payments] == [
        ("exchange", Decimal("-3.00")),
        ("refund", Decimal("-2.00")),
    ]


def test_return_with_another_amount_than_was_refunded_is_a_dead_letter() -> None:
    line = {"catalog_object_id": "A", "quantity": "1", "base_price_money": usd(300), "total_money": usd(300)}
    body = returned(300, line | {"gross_return_money": usd(300)})
    paid = [{"id": "1", "status": "APPROVED", "amount_money": usd(100)}, {"id": "2", "amount_money": usd(200)}]
    body["order"]["refunds"] = [*paid, {"id": "3", "status": "FAILED", "amount_money": usd(200)}]
    assert [part.amount for part in document(body).payments] == [Decimal("-1.00"), Decimal("-2.00")]
    body["order"]["refunds"] = paid[:1]
    assert why_not(body) == ["payment_mismatch: tenders: sum_differs_from_gross"]


@pytest.mark.parametrize(
    ("state", "why"), [("OPEN", "open_order"), ("DRAFT", "open_order"), ("CANCELED", "canceled_order")]
)
def test_incomplete_order_is_not_a_sale(state: str, why: str) -> None:
    assert why_not(order(item("A", 300), total=300, state=state)) == [why]


def test_completed_order_of_nothing_is_skipped() -> None:
    assert why_not(order(total=0, tenders=[])) == ["empty_order"]


def test_unknown_state_is_a_dead_letter() -> None:
    assert why_not(order(item("A", 300), total=300, state="FINISHED")) == ["unplaced_record: kinds: none_fits"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
def test_real_order_is_open_and_becomes_a_document_once_it_is_completed() -> None:
    body = json.loads((SAMPLES / "order-small.json").read_bytes())
    assert why_not(body) == ["open_order"]
    body["order"]["state"] = "COMPLETED"
    made = document(body)
    assert (made.receipt, made.gross) == ("LBi8XNjxZP5fY0PJUjIzp9NcA8JZY", Decimal("2.00"))
