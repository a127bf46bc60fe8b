"""Shopify's orders after edits, exchanges, restocking and refunds: the ERP ends at the order's own total."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import ErpDocument
from tests.support.sources import reasons, through

CENT = Decimal("0.01")
RATE = Decimal("0.19")
ORDER = 5678901234567890123


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


@dataclass
class Item:
    """An item of an order: prices and discounts are those of its first quantity."""

    id: int
    price: Decimal
    quantity: int
    discount: Decimal
    included: bool
    gone: int = 0

    def worth(self, quantity: int) -> Decimal:
        return self.price * quantity - cents(self.discount * quantity / self.quantity)

    def tax(self, quantity: int) -> Decimal:
        return cents(self.worth(quantity) * RATE / (1 + RATE if self.included else 1))

    def body(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "sku": f"A{self.id}",
            "name": f"Article {self.id}",
            "price": str(self.price),
            "quantity": self.quantity,
            "current_quantity": self.quantity - self.gone,
            "discount_allocations": [{"amount": str(self.discount)}] if self.discount else [],
            "tax_lines": [{"title": "VAT", "rate": float(RATE), "price": str(self.tax(self.quantity))}],
        }


@dataclass
class Shop:
    """One order in a shop that sends its bodies as Shopify does; `bodies` has them in order."""

    included: bool = True
    shipping: Decimal = Decimal(0)
    items: list[Item] = field(default_factory=list)
    refunds: list[dict[str, Any]] = field(default_factory=list)
    paid: Decimal = Decimal(0)
    given_back: Decimal = Decimal(0)
    adjusted: Decimal = Decimal(0)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def add(self, price: str, quantity: int = 1, discount: str = "0") -> Item:
        item = Item(len(self.items) + 1, Decimal(price), quantity, Decimal(discount), self.included)
        self.items.append(item)
        return item

    def current(self) -> tuple[Decimal, Decimal]:
        """(total, tax) of the order as it is now."""
        return self._sum([(item, item.quantity - item.gone) for item in self.items])

    def _sum(self, parts: list[tuple[Item, int]]) -> tuple[Decimal, Decimal]:
        goods = sum((item.worth(quantity) for item, quantity in parts), Decimal(0))
        tax = sum((item.tax(quantity) for item, quantity in parts), Decimal(0))
        return goods + self.shipping - self.adjusted + (0 if self.included else tax), tax

    def take_off(self, item: Item, quantity: int, money: str | None = None, **more: Any) -> None:
        """Takes pieces off the order: for money that goes back, or without."""
        before, after = item.quantity - item.gone, item.quantity - item.gone - quantity
        subtotal, tax = item.worth(before) - item.worth(after), item.tax(before) - item.tax(after)
        item.gone += quantity
        part = {"id": 90, "line_item_id": item.id, "quantity": quantity, "restock_type": "return"}
        amounts = {"subtotal": str(subtotal), "total_tax": str(tax)}
        back = subtotal + (0 if self.included else tax) if money == "all" else Decimal(money or 0)
        self._refund([part | amounts | {"line_item": item.body()}], back, more)

    def give_back(self, amount: str, *, adjustment: bool) -> None:
        """Gives money back and takes nothing off; `adjustment`: the order's total becomes smaller by it."""
        listed: list[dict[str, Any]] = []
        if adjustment:
            self.adjusted += Decimal(amount)
            listed = [{"kind": "refund_discrepancy", "amount": str(-Decimal(amount)), "tax_amount": "0.00"}]
        self._refund([], Decimal(amount), {"order_adjustments": listed})

    def _refund(self, parts: list[dict[str, Any]], back: Decimal, more: dict[str, Any]) -> None:
        self.given_back += back
        money = [{"kind": "refund", "status": "success", "gateway": "card", "amount": str(back)}] if back else []
        plain = {"id": 900 + len(self.refunds), "order_id": ORDER, "created_at": self._now(), "transactions": money}
        refund = plain | {"refund_line_items": parts, "order_adjustments": []} | more
        self.refunds.append(refund)
        self.bodies.append(refund)

    def send(self, **more: Any) -> dict[str, Any]:
        """Sends the order as it is now, all of it paid."""
        total, tax = self.current()
        all_total, all_tax = self._sum([(item, item.quantity) for item in self.items])
        status = "refunded" if self.given_back and not total else "partially_refunded" if self.given_back else "paid"
        body = {
            "id": ORDER,
            "created_at": "2026-03-10T10:00:00+01:00",
            "updated_at": self._now(),
            "currency": "EUR",
            "financial_status": status,
            "taxes_included": self.included,
            "payment_gateway_names": ["card"],
            "line_items": [item.body() for item in self.items],
            "shipping_lines": [{"title": "Post", "price": str(self.shipping)}] if self.shipping else [],
            "refunds": list(self.refunds),
            "total_price": str(all_total + self.adjusted),
            "total_tax": str(all_tax),
            "current_total_price": str(total),
            "current_total_tax": str(tax),
        }
        self.bodies.append(body | more)
        return self.bodies[-1]

    def _now(self) -> str:
        return f"2026-03-10T10:{len(self.bodies):02}:00+01:00"


def books(*bodies: dict[str, Any]) -> list[ErpDocument]:
    """The documents that an ERP ends with: the last revision of each receipt."""
    held: dict[str, ErpDocument] = {}
    for body in bodies:
        extra = {"total_duties_set": {"shop_money": {"amount": "0.00", "currency_code": "EUR"}}}
        documents, rejected, _ = through("shopify", body | (extra if "refund_line_items" in body else {}))
        assert reasons(rejected) == []
        for document in documents:
            known = held.get(document.external_ref)
            if known is None or known.revision < document.revision:
                held[document.external_ref] = document
            elif known.revision == document.revision:
                assert known.content == document.content
    return list(held.values())


def total(documents: Sequence[ErpDocument]) -> Decimal:
    return sum((document.gross for document in documents), Decimal(0))


def tax(documents: Sequence[ErpDocument]) -> Decimal:
    return sum((document.tax for document in documents), Decimal(0))


def why_not(body: dict[str, Any], **headers: str) -> list[str]:
    documents, rejected, noted = through("shopify", body, headers=headers)
    assert documents == []
    return [part.why for part in noted] + reasons(rejected)


@pytest.fixture
def exchanged() -> Shop:
    """An item of 60.00 for another one of 60.00."""
    shop = Shop()
    first = shop.add("60.00")
    shop.send()
    shop.take_off(first, 1)
    shop.add("60.00")
    shop.send()
    return shop


def test_exchange_without_money_leaves_the_sale_at_what_was_sold(exchanged: Shop) -> None:
    [sale] = books(*exchanged.bodies)
    assert (sale.gross, sale.tax, [line.sku for line in sale.lines]) == (Decimal("60.00"), Decimal("9.58"), ["A2"])
    assert [payment.amount for payment in sale.payments] == [Decimal("60.00")]


def test_exchange_for_something_dearer_is_booked_at_the_dearer_price() -> None:
    shop = Shop()
    first = shop.add("60.00")
    shop.send()
    shop.take_off(first, 1)
    shop.add("80.00")
    shop.send()
    assert (total(books(*shop.bodies)), tax(books(*shop.bodies))) == (Decimal("80.00"), Decimal("12.77"))


def test_order_edited_before_it_is_paid_is_booked_as_it_was_paid() -> None:
    shop = Shop()
    kept, dropped = shop.add("60.00"), shop.add("60.00")
    shop.take_off(dropped, 1)
    body = shop.send()
    [sale] = books(body)
    assert (sale.gross, [line.sku for line in sale.lines]) == (Decimal("60.00"), [f"A{kept.id}"])


def test_part_of_a_line_takes_its_part_of_discount_and_tax_along() -> None:
    shop = Shop(included=False, shipping=Decimal("4.90"))
    first = shop.add("12.50", 3, discount="4.75")
    shop.take_off(first, 1)
    [sale] = books(shop.send())
    assert next((line.quantity, line.discount) for line in sale.lines) == (2, Decimal("3.17"))
    assert (sale.gross, sale.tax) == shop.current()


@pytest.mark.parametrize("without", ["refunds", "current_quantity"])
def test_removal_is_known_from_either_of_quantity_and_refunds(without: str) -> None:
    shop = Shop()
    first = shop.add("12.00", 3, discount="3.00")
    shop.take_off(first, 2)
    body = shop.send()
    if without == "refunds":
        del body["refunds"]
    else:
        for item in body["line_items"]:
            del item["current_quantity"]
    [sale] = books(body)
    assert (sale.gross, sale.tax, sale.lines[0].quantity) == (Decimal("11.00"), Decimal("1.76"), 1)


def test_order_without_current_totals_is_its_total_less_what_was_taken_off() -> None:
    shop = Shop()
    first = shop.add("60.00")
    shop.add("60.00")
    shop.take_off(first, 1)
    body = {name: value for name, value in shop.send().items() if not name.startswith("current_")}
    assert (total(books(body)), tax(books(body))) == (Decimal("60.00"), Decimal("9.58"))


def test_amounts_of_a_line_that_are_of_now_already_are_taken_as_they_are() -> None:
    shop = Shop()
    first = shop.add("12.00", 3, discount="3.00")
    shop.take_off(first, 1)
    body = shop.send()
    body["line_items"][0] |= {
        "discount_allocations": [{"amount": "2.00"}],
        "tax_lines": [{"rate": 0.19, "price": "3.51"}],
    }
    assert (total(books(body)), tax(books(body))) == (Decimal("22.00"), Decimal("3.51"))


def test_lines_that_are_not_the_current_total_are_a_dead_letter(exchanged: Shop) -> None:
    body = exchanged.bodies[-1] | {"current_total_price": "61.00"}
    assert why_not(body) == ["totals_mismatch: totals.gross: differs_from_lines"]


def test_money_that_went_back_without_a_refund_in_the_body_is_a_dead_letter() -> None:
    shop = Shop()
    shop.take_off(shop.add("60.00", 2), 1, "all")
    body = shop.send() | {"refunds": []}
    assert why_not(body)[0].startswith("schema_mismatch: totals.gross: missing")


def test_order_of_which_nothing_is_left_is_a_sale_of_nothing() -> None:
    shop = Shop()
    first = shop.add("60.00", 2, discount="5.00")
    shop.send()
    shop.take_off(first, 2)
    shop.send()
    [sale] = books(*shop.bodies)
    assert (sale.gross, sale.tax, [line.quantity for line in sale.lines]) == (0, 0, [2, -2])


def test_overpaid_order_waits_for_its_money() -> None:
    shop = Shop()
    first = shop.add("60.00")
    shop.take_off(first, 1)
    shop.add("50.00")
    paid = [{"kind": "sale", "status": "success", "gateway": "card", "amount": "60.00"}]
    [sale] = books(shop.send(transactions=paid, total_outstanding="-10.00"))
    assert [(p.kind, p.amount) for p in sale.payments] == [
        ("card", Decimal("60.00")),
        ("outstanding", Decimal("-10.00")),
    ]


@pytest.mark.parametrize("adjustment", [True, False])
def test_money_that_an_edit_left_over_goes_back_once(adjustment: bool) -> None:
    shop = Shop()
    first = shop.add("60.00")
    shop.send()
    shop.take_off(first, 1)
    shop.add("50.00")
    shop.send()
    shop.give_back("10.00", adjustment=adjustment)
    shop.adjusted = Decimal(0)  # the total was smaller by it before
    shop.send()
    assert (total(books(*shop.bodies)), tax(books(*shop.bodies))) == (Decimal("50.00"), Decimal("7.98"))


def test_cancelling_an_edited_order_leaves_nothing(exchanged: Shop) -> None:
    exchanged.take_off(exchanged.items[1], 1, restock_type="cancel")
    exchanged.send(cancelled_at="2026-03-10T11:00:00+01:00")
    for bodies in permutations(exchanged.bodies):
        assert total(books(*bodies)) == 0
    assert total(books(exchanged.bodies[-1])) == 0


def test_shipping_that_an_edit_takes_off_is_taken_off() -> None:
    shop = Shop(shipping=Decimal("5.00"))
    shop.add("60.00")
    shop.send()
    line = {"shipping_line": {"title": "Post"}, "subtotal_amount_set": {"shop_money": {"amount": "5.00"}}}
    shop.refunds.append({"id": 900, "refund_line_items": [], "refund_shipping_lines": [line], "transactions": []})
    body = shop.send(current_total_price="60.00")
    assert total(books(body)) == Decimal("60.00")
    old = {"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "0.00"}
    shop.refunds[0] |= {"refund_shipping_lines": [], "order_adjustments": [old]}
    assert total(books(body | {"refunds": shop.refunds})) == Decimal("60.00")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            {"order_edit": {"id": 1, "order_id": ORDER, "line_items": {"additions": [], "removals": [{"id": 2}]}}},
            "order_edit",
        ),
        ({"order_id": str(ORDER), "risk_level": "low", "provider_id": 12}, "order_risk"),
    ],
)
def test_edits_and_risks_are_not_sales(body: dict[str, Any], why: str) -> None:
    assert why_not(body) == [why]


@pytest.mark.parametrize(
    ("topic", "why"), [("orders/edited", "order_edit"), ("orders/risk_assessment_changed", "order_risk")]
)
def test_topic_names_edits_and_risks_whatever_the_body_is(exchanged: Shop, topic: str, why: str) -> None:
    assert why_not(exchanged.bodies[-1], **{"X-Shopify-Topic": topic}) == [why]


@st.composite
def shops(draw: st.DrawFn) -> Shop:
    """An order with what may happen to it in a shop, and all bodies that are sent meanwhile."""
    shop = Shop(draw(st.booleans()), draw(st.sampled_from([Decimal(0), Decimal("4.90")])))
    price = st.integers(100, 9_999).map(lambda c: str(Decimal(c) / 100))

    def add() -> None:
        value, quantity = draw(price), draw(st.integers(1, 4))
        most = int(Decimal(value) * 100 * quantity)
        shop.add(value, quantity, str(Decimal(draw(st.integers(0, most // 2))) / 100))

    add()
    shop.send()
    for _ in range(draw(st.integers(1, 5))):
        what = draw(st.sampled_from(["add", "drop", "refund", "goodwill"]))
        there = [item for item in shop.items if item.gone < item.quantity]
        if what == "add" or not there:
            add()
        elif what == "goodwill":
            if shop.current()[0] > 1:
                shop.give_back("0.50", adjustment=True)
        else:
            item = draw(st.sampled_from(there))
            quantity = draw(st.integers(1, item.quantity - item.gone))
            free = item.worth(item.quantity - item.gone) == item.worth(item.quantity - item.gone - quantity)
            shop.take_off(item, quantity, "all" if what == "refund" and not free else None)
        if draw(st.booleans()):
            shop.send()
    shop.send()
    return shop


@given(shops(), st.randoms(use_true_random=False))
def test_books_end_at_the_order_s_own_total_whatever_comes_when(shop: Shop, random: Any) -> None:
    expected, expected_tax = shop.current()
    in_turn = books(*shop.bodies)
    assert total(in_turn) == expected
    lines = sum(len(document.lines) for document in in_turn)
    assert abs(tax(in_turn) - expected_tax) <= lines * CENT
    shuffled = shop.bodies * 2
    random.shuffle(shuffled)
    assert total(books(*shuffled)) == expected
