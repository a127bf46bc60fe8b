"""From a sound receipt to the document that the ERP books."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from schemas.dead_letter import Reason
from schemas.document import DocumentLine, DocumentPayment, ErpDocument, from_json, to_json
from schemas.sale import SaleEvent, line_content
from schemas.store import Store, Stores, business_date
from streams.checks import CheckedReceipt, check
from streams.decode import decode
from streams.mapping.documents import minor_unit, to_document, to_documents
from tests.support.events import NOON, batch, event, value

BERLIN = Store(timezone="Europe/Berlin", cutoff=time(4, 0))


def document(stores: Stores | None = None, **changes: Any) -> ErpDocument:
    arrivals, _, _ = decode(batch(value(1, **changes)))
    sound, held = check(arrivals, NOON)
    assert not held
    documents, unmapped = to_documents(sound, stores or Stores({}, Store()))
    assert not unmapped
    return documents[0]


def test_sale_becomes_an_invoice() -> None:
    invoice = document()
    assert (invoice.kind, invoice.event_id, invoice.external_ref) == ("invoice", "pos:e-1", "pos/S1/R1/1/sale")
    assert [str(amount) for amount in (invoice.net, invoice.tax, invoice.gross)] == ["2.52", "0.48", "3.00"]
    assert [(p.kind, p.amount) for p in invoice.payments] == [("cash", Decimal("3.00"))]


@pytest.mark.parametrize(("type_", "kind"), [("return", "credit_note"), ("void", "cancellation")])
def test_return_and_void_take_back_what_the_sale_gave(type_: str, kind: str) -> None:
    taken_back = document(type=type_, original={"receipt": "9", "register": "R7"})
    assert taken_back.kind == kind
    assert taken_back.external_ref == f"pos/S1/R1/1/{type_}"
    assert taken_back.original_ref == "pos/S1/R7/9/sale"
    line = taken_back.lines[0]
    assert (line.quantity, line.unit_price, line.net, line.tax, line.gross) == tuple(
        map(Decimal, ("-2", "1.50", "-2.52", "-0.48", "-3.00"))
    )
    assert taken_back.gross == taken_back.payments[0].amount == taken_back.taxes[0].gross == Decimal("-3.00")


def test_void_of_a_return_brings_back_what_the_return_took() -> None:
    voided = document(type="void", original={"receipt": "9", "type": "return"})
    assert (voided.kind, voided.gross, voided.lines[0].quantity) == ("cancellation", Decimal("3.00"), Decimal(2))
    assert voided.original_ref == "pos/S1/R1/9/return"


def test_taxes_are_summed_by_rate() -> None:
    lines = [
        {"sku": sku, "quantity": "1", "unit_price": price, "tax_rate": rate}
        for sku, price, rate in [("A", "1.19", "19"), ("B", "1.07", "7.0"), ("C", "2.38", "19"), ("D", "2.14", "7")]
    ]
    mixed = document(lines=lines, tenders=[], totals={"gross": "6.78"})
    assert [(t.tax_rate, t.net, t.tax, t.gross) for t in mixed.taxes] == [
        tuple(map(Decimal, row)) for row in [("7", "3.00", "0.21", "3.21"), ("19", "3.00", "0.57", "3.57")]
    ]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-10T03:00:00+00:00", date(2026, 3, 10)),  # 04:00 in Berlin: the new day
        ("2026-03-10T02:59:59+00:00", date(2026, 3, 9)),
        ("2026-03-09T23:30:00+00:00", date(2026, 3, 9)),  # half past midnight
        ("2026-03-29T02:00:00+00:00", date(2026, 3, 29)),  # the hour that summer time skips: 04:00
        ("2026-10-25T02:59:00+00:00", date(2026, 10, 24)),  # the hour that winter time repeats: 03:59
        ("2026-12-31T23:30:00-08:00", date(2027, 1, 1)),  # a till that sends another zone's time
    ],
)
def test_date_is_the_stores_business_date(moment: str, day: date) -> None:
    assert business_date(datetime.fromisoformat(moment), BERLIN) == day


def test_time_is_utc() -> None:
    assert document(occurred_at="2026-03-10T12:00:00+05:30").occurred_at == datetime(2026, 3, 10, 6, 30, tzinfo=UTC)


def test_listed_store_has_its_own_facts_and_an_unlisted_one_is_unknown() -> None:
    stores = Stores({"S1": BERLIN}, None)
    assert document(stores, occurred_at="2026-03-10T01:00:00Z").business_date == date(2026, 3, 9)
    arrivals, _, _ = decode(batch(value(1, store="S2")))
    documents, unmapped = to_documents(check(arrivals, NOON)[0], stores)
    assert not documents
    assert unmapped[0].reason is Reason.UNKNOWN_STORE


def test_content_is_the_same_in_other_bytes_and_under_another_id() -> None:
    plain = document()
    said = dict(reversed(event().items())) | {"revision": 0, "cashier": None, "sent_at": "2026-03-10T12:07:00Z"}
    said["lines"] = [dict(reversed(line.items())) for line in said["lines"]]
    arrivals, _, _ = decode(batch(json.dumps(said, indent=1).encode()))
    (reordered,), _ = to_documents(check(arrivals, NOON)[0], Stores({}, Store()))
    assert reordered.content == plain.content
    assert document(event_id="another").content == plain.content


FULL = event(
    revision=1,
    cashier="Ada",
    type="return",
    customer={"id": "C7", "name": "N", "email": "a@example.org", "phone": "0"},
    lines=[
        {
            **event()["lines"][0],
            "unit": "kg",
            "discounts": [{"amount": "0.00", "reason": "none"}],
            "amount": "3.00",
            "tax_included": True,
        }
    ],
    totals={"gross": "3.00", "net": "2.52", "tax": "0.48", "rounding": "0.00"},
    original={"store": "S2", "register": "R7", "receipt": "9", "type": "sale"},
)


def leaves(said: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(said, dict | list):
        for step, part in said.items() if isinstance(said, dict) else enumerate(said):
            yield from leaves(part, (*path, step))
    else:
        yield path


def other(said: Any) -> Any:
    """A value of the same make that says something else."""
    match said:
        case bool():
            return not said
        case int():
            return said + 1
        case "EUR":
            return "USD"
        case "return" | "sale":
            return {"return": "void", "sale": "return"}[said]
        case _ if said.endswith("Z"):
            return said.replace(":00Z", ":01Z")
        case _:
            return said + "1"


def content(said: dict[str, Any]) -> str:
    sale = SaleEvent.model_validate(said)
    return sale.content(map(line_content, sale.lines))


@pytest.mark.parametrize("path", [path for path in leaves(FULL) if path != ("event_id",)], ids=str)
def test_content_tells_a_change_in_any_field(path: tuple[str | int, ...]) -> None:
    changed = deepcopy(FULL)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = other(place[path[-1]])
    assert content(changed) != content(FULL)


def test_every_field_of_the_schema_is_among_those_changed() -> None:
    schema = SaleEvent.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    fields = {name for part in parts for name in part["properties"]}
    assert fields == {step for path in leaves(FULL) for step in path if isinstance(step, str)}


def test_documents_carry_the_customers_id_and_nothing_else_of_them() -> None:
    private = document(customer={"id": "C7", "name": "Name Surname", "email": "a@example.org"})
    assert private.customer_id == "C7"
    assert b"Surname" not in to_json(private)
    assert b"example" not in to_json(private)


def test_document_survives_json() -> None:
    assert from_json(to_json(document())) == document()


def receipt(**changes: Any) -> CheckedReceipt:
    (made,), held = check(decode(batch(value(1, **changes)))[0], NOON)
    assert not held
    return made


WEIGHED = {
    "sku": "A", "description": "Apple", "quantity": "1.250", "unit": "kg", "unit_price": "4.00", "tax_rate": "10",
    "discounts": [{"amount": "0.60"}],
}  # fmt: skip
BARE = {"sku": "B", "quantity": "1", "unit_price": "1.10", "tax_rate": "0"}
TWO_LINES: dict[str, Any] = {
    "lines": [WEIGHED, BARE],
    "tenders": [{"kind": "card", "amount": "10.00"}, {"kind": "cash", "amount": "-4.45"}],
    "totals": {"gross": "5.55", "rounding": "0.05"},
}


def amounts(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


@pytest.mark.parametrize(("type_", "sign"), [("sale", 1), ("return", -1), ("void", -1)])
def test_every_field_of_a_document_is_what_the_receipt_says(type_: str, sign: int) -> None:
    original = {"store": "S2", "register": "R7", "receipt": "9"} if sign < 0 else None
    made = document(
        Stores({"S1": BERLIN}, None), type=type_, revision=3, cashier="Ada", customer={"id": "C7"}, original=original,
        occurred_at="2026-03-10T02:30:00Z", **TWO_LINES,
    )  # fmt: skip
    kinds = {"sale": "invoice", "return": "credit_note", "void": "cancellation"}
    assert (made.event_id, made.external_ref, made.kind, made.revision) == (
        "pos:e-1", f"pos/S1/R1/1/{type_}", kinds[type_], 3,
    )  # fmt: skip
    assert (made.source, made.store, made.register_id, made.receipt) == ("pos", "S1", "R1", "1")
    assert made.original_ref == ("pos/S2/R7/9/sale" if sign < 0 else None)
    assert (made.business_date, made.occurred_at) == (date(2026, 3, 9), datetime(2026, 3, 10, 2, 30, tzinfo=UTC))
    assert (made.currency, made.cashier, made.customer_id) == ("EUR", "Ada", "C7")
    net, tax, rounding, gross = (sign * one for one in amounts("5.10", "0.40", "0.05", "5.55"))
    assert (made.net, made.tax, made.rounding, made.gross) == (net, tax, rounding, gross)
    assert made.payments == [
        DocumentPayment("card", sign * Decimal(10)),
        DocumentPayment("cash", sign * Decimal("-4.45")),
    ]
    quantity, price, discount, rate, net, tax, gross = amounts("1.250", "4.00", "0.60", "10", "4.00", "0.40", "4.40")
    assert made.lines == [
        DocumentLine("A", "Apple", sign * quantity, "kg", price, discount, rate, sign * net, sign * tax, sign * gross),
        DocumentLine(
            "B", "", sign * Decimal(1), "each", Decimal("1.10"), Decimal(0), Decimal(0), sign * Decimal("1.10"),
            Decimal(0), sign * Decimal("1.10"),
        ),
    ]  # fmt: skip
    assert {line.discount.as_tuple().exponent for line in made.lines} == {-2}
    assert minor_unit(2) is minor_unit(2)


def test_void_of_a_sale_and_void_of_what_is_not_said_take_back() -> None:
    for original in (None, {"receipt": "9"}, {"receipt": "9", "type": "sale"}):
        assert document(type="void", original=original).gross == Decimal("-3.00")
    assert document(type="return", original={"receipt": "9", "type": "return"}).gross == Decimal("-3.00")


@pytest.mark.parametrize(
    ("currency", "gross", "unit"), [("JPY", "3", "1"), ("EUR", "3.00", "0.01"), ("BHD", "3", "0.001")]
)
def test_amounts_have_the_places_of_their_currency(currency: str, gross: str, unit: str) -> None:
    made = document(currency=currency, totals={"gross": gross})
    assert made.gross == Decimal(3)
    places = Decimal(unit).as_tuple().exponent
    assert {one.as_tuple().exponent for one in (made.net, made.tax, made.gross, made.payments[0].amount)} == {places}


def test_original_receipt_is_of_the_events_own_store_and_register_unless_said() -> None:
    assert document(type="return", original={"receipt": "9"}).original_ref == "pos/S1/R1/9/sale"
    assert document(type="return", original={"receipt": "9", "store": "S2"}).original_ref == "pos/S2/R1/9/sale"
    assert document(type="return", original={"receipt": "9", "register": None}).original_ref == "pos/S1/R1/9/sale"


def test_payment_of_which_the_amount_is_not_known_is_never_left_out() -> None:
    with pytest.raises(ValueError, match="zip"):
        to_document(replace(receipt(), tenders=[]), Store())


def test_lines_of_a_mapping_take_the_place_of_the_receipts() -> None:
    made = to_document(receipt(), Store(), [])
    assert made.lines == []
    assert made.gross == Decimal("3.00")


def test_receipts_that_share_a_line_have_it_with_their_own_sign() -> None:
    sale, back = document(), document(type="return")
    again = document()
    assert sale.lines[0] is again.lines[0]
    assert [line.gross for line in back.lines] == [-line.gross for line in sale.lines]
    assert asdict(sale) == asdict(again)


def test_receipts_of_unknown_stores_are_apart_and_the_others_keep_their_order() -> None:
    arrivals, _, _ = decode(batch(*(value(n, store="S1" if n % 2 else "S2") for n in range(5))))
    documents, unmapped = to_documents(check(arrivals, NOON)[0], Stores({"S1": BERLIN}, None))
    assert [made.receipt for made in documents] == ["1", "3"]
    assert [(one.record.offset, one.reason, one.detail, one.stage) for one in unmapped] == [
        (offset, Reason.UNKNOWN_STORE, "store: not_in_settings", "map") for offset in (0, 2, 4)
    ]
    assert [one.event.receipt for one in unmapped if one.event] == ["0", "2", "4"]
