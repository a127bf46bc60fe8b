"""What every sink holds unchanged, and what it refuses rather than change."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.document import DocumentLine, DocumentPayment, ErpDocument
from schemas.money import minor_digits
from sinks.base import Accepted, Refused, Sink
from tests.support.documents import document, line

SETTINGS = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = count(1)

AWKWARD = ["a\tb", "a\nb", "a\rb", "\\", "\\N", "\\t", "\\.", "'; --", '"', "", " ", "ü漢🍏", "\x01\x1d\x1f", "%s"]
texts = st.one_of(
    st.sampled_from(AWKWARD), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
)


def amounts(places: int) -> st.SearchStrategy[Decimal]:
    """Amounts with up to so many places, to the limit of what a till may send."""
    largest = Decimal(10) ** 12 - Decimal(1).scaleb(-places)
    return st.decimals(-largest, largest, places=places)


@st.composite
def money_lines(draw: st.DrawFn, position: int, places: int) -> DocumentLine:
    """A line whose every number may be any."""
    money, fine = amounts(places), amounts(6)
    return replace(
        line(position, draw(money), 0),
        **{name: draw(fine) for name in ("quantity", "unit_price", "discount", "tax_rate")},
        **{name: draw(money) for name in ("tax", "gross")},
    )


@st.composite
def money_documents(draw: st.DrawFn) -> ErpDocument:
    """A document in some currency whose every number may be any; no sums are right, but those by tax rate."""
    currency = draw(st.sampled_from(["EUR", "JPY", "BHD", "CLF"]))
    places = minor_digits(currency)
    assert places is not None
    lines = [draw(money_lines(position, places)) for position in range(draw(st.integers(0, 3)))]
    numbers = {name: draw(amounts(places)) for name in ("net", "tax", "rounding", "gross")}
    paid = [DocumentPayment("cash", draw(amounts(places)))]
    return replace(document(next(NUMBERS), lines=lines, currency=currency), payments=paid, **numbers)


@SETTINGS
@given(written=money_documents())
def test_amounts_come_back_to_the_last_place(store: Sink, written: ErpDocument) -> None:
    assert [type(result) for result in store.write([written])] == [Accepted]
    assert store.read([written.external_ref]) == [written]


@SETTINGS
@given(data=st.data())
def test_codes_of_a_mapping_come_back_equal(store: Sink, data: st.DataObject) -> None:
    maybe, cost = st.none() | texts, st.none() | amounts(6)

    def codes(*names: str) -> dict[str, Any]:
        return {name: data.draw(maybe) for name in names}

    written = document(
        next(NUMBERS),
        lines=[line(place, **codes("item_code", "item_unit", "tax_code"), cost=data.draw(cost)) for place in range(2)],
        payments=[DocumentPayment("cash", Decimal("6.00"), **codes("payment_mode", "account"))],
        mapping=data.draw(texts),
        **codes("company", "warehouse", "cost_centre", "customer_code", "review"),
    )
    assert [type(result) for result in store.write([document(next(NUMBERS)), written])] == [Accepted, Accepted]
    assert store.read([written.external_ref]) == [written]


def test_a_new_revision_replaces_the_codes_of_the_old_one(sink: Sink) -> None:
    coded = document(901, 1, mapping="m@1", warehouse="S1", review="late")
    plain = document(901, 2)
    for written in (coded, plain):
        sink.write([written])
        assert sink.read([written.external_ref]) == [written]


@pytest.mark.parametrize(
    "changes", [{"review": "a\0"}, {"lines": [line(item_code="\0")]}, {"lines": [line(cost=Decimal("0.0000001"))]}]
)
def test_codes_that_cannot_be_held_are_refused(sink: Sink, changes: dict[str, Any]) -> None:
    (result,) = sink.write([document(902, mapping="m@1", **changes)])
    assert isinstance(result, Refused)


@SETTINGS
@given(values=st.lists(amounts(2).map(lambda amount: amount / 1000), max_size=8))
def test_sums_are_exact(sink: Sink, values: list[Decimal]) -> None:
    values = [round(value, 2) for value in values]
    store = f"sums-{next(NUMBERS)}"
    sink.write(
        [document(next(NUMBERS), store=store, lines=[line(1, value, 0, tax_rate=Decimal(0))]) for value in values]
    )
    assert sum(day.gross for day in sink.totals(store)) == sum(values)


@SETTINGS
@given(data=st.data())
def test_awkward_text_comes_back_equal(sink: Sink, data: st.DataObject) -> None:
    maybe = st.none() | texts
    written = document(
        next(NUMBERS),
        lines=[
            line(position, sku=data.draw(texts), description=data.draw(texts), item_code="A-1") for position in range(2)
        ],
        payments=[DocumentPayment(data.draw(texts), Decimal("6.00"), payment_mode="card")],
        mapping="m@1",
        **{name: data.draw(maybe) for name in ("original_ref", "cashier", "customer_id")},
        **{name: data.draw(texts) for name in ("source", "store", "register_id", "receipt")},
    )
    prefix = f"{next(NUMBERS)}/"
    written = replace(written, event_id=prefix + data.draw(texts), external_ref=prefix + data.draw(texts))
    assert [type(result) for result in sink.write([document(next(NUMBERS)), written])] == [Accepted, Accepted]
    assert sink.read([written.external_ref]) == [written]


def test_times_come_back_as_the_same_moment_in_utc(sink: Sink) -> None:
    moment = datetime(2026, 3, 29, 1, 59, 59, 123456, timezone(timedelta(hours=5, minutes=45)))
    written = document(occurred_at=moment, business_date=date(2026, 3, 28))
    sink.write([written])
    (held,) = sink.read([written.external_ref])
    assert (held.occurred_at, held.business_date) == (moment, date(2026, 3, 28))
    if held.occurred_at is not moment:
        assert held.occurred_at.utcoffset() in (timedelta(0), moment.utcoffset())
    assert held.occurred_at.astimezone(UTC).microsecond == 123456


BEYOND: list[dict[str, Any]] = [
    {"gross": Decimal("0.00001")},
    {"gross": Decimal(10) ** 12},
    {"net": -(Decimal(10) ** 12)},
    {"tax": Decimal("NaN")},
    {"rounding": Decimal("Infinity")},
    {"gross": Decimal("1E+999999")},
    {"gross": Decimal("1E-999999")},
    {"gross": Decimal("999999999999.00000000000000000000000000000000000001")},
    {"lines": [line(1, unit_price=Decimal("0.0000001"))]},
    {"lines": [line(1, quantity=Decimal(10) ** 12)]},
    {"payments": [DocumentPayment("cash", Decimal("0.00001"))]},
    {"cashier": "lone \ud800 surrogate"},
    {"lines": [line(1, description="nul \0 character")]},
]


BEYOND_SQL: list[dict[str, Any]] = [
    {"revision": 2**63},
]


@pytest.mark.parametrize("change", BEYOND, ids=lambda change: "-".join(change))
def test_what_can_not_be_held_exactly_is_refused_alone(sink: Sink, change: dict[str, Any]) -> None:
    require_refused_alone(sink, change)


@pytest.mark.parametrize("change", BEYOND_SQL, ids=lambda change: "-".join(change))
def test_what_a_table_can_not_hold_is_refused_alone(sql_sink: Sink, change: dict[str, Any]) -> None:
    require_refused_alone(sql_sink, change)


def require_refused_alone(sink: Sink, change: dict[str, Any]) -> None:
    bad = replace(document(2), **change)
    first, refused, last = sink.write([document(1), bad, document(3)])
    assert isinstance(first, Accepted)
    assert isinstance(refused, Refused)
    assert isinstance(last, Accepted)
    assert sink.read([bad.external_ref]) == []
    assert [day.documents for day in sink.totals()] == [2]


def test_trailing_zeros_are_no_places(sink: Sink) -> None:
    written = document(gross=Decimal("3.000000000"))
    sink.write([written])
    assert [held.gross for held in sink.read([written.external_ref])] == [3]
