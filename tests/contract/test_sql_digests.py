"""The prints that SQL makes are those that Python makes, of any documents; and every change by hand shows in them."""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text

from schemas.document import DocumentLine, DocumentPayment, ErpDocument
from sinks.base import Accepted, OrphanedParts, Sink, SupportsOrphanCheck
from sinks.digests import added, in_digits, personal_print_of, print_of
from sinks.sql.tables import document_lines, document_payments, documents
from tests.contract.test_sink_values import AWKWARD, amounts
from tests.support.documents import document, line

SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = count(1)
SEPARATORS = ["|", "a|b", "-", "-|", "|-", "1:a", "1:", ":", "|p|", "0", "", "𝕏|é", "é", "e\u0301"]
texts = st.one_of(
    st.sampled_from([*AWKWARD, *SEPARATORS]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.text("|:-01a", max_size=6),
)
_FIRST = datetime(1, 1, 2, tzinfo=UTC)
moments = st.integers(0, (datetime(9999, 12, 30, tzinfo=UTC) - _FIRST) // timedelta(microseconds=1)).map(
    lambda microseconds: _FIRST + timedelta(microseconds=microseconds)
)


@st.composite
def any_lines(draw: st.DrawFn) -> DocumentLine:
    """A line whose every field may be any."""
    fine = {name: draw(amounts(6)) for name in ("quantity", "unit_price", "discount", "tax_rate")}
    money = {name: draw(amounts(4)) for name in ("net", "tax", "gross")}
    return DocumentLine(sku=draw(texts), description=draw(texts), unit=draw(texts), **fine, **money)


@st.composite
def any_documents(draw: st.DrawFn) -> ErpDocument:
    """A document of one store whose every other field may be any."""
    number = next(NUMBERS)
    said = {name: draw(texts) for name in ("content", "source", "register_id", "receipt")}
    maybe = {name: draw(st.none() | texts) for name in ("original_ref", "cashier", "customer_id")}
    money = {name: draw(amounts(4)) for name in ("net", "tax", "rounding", "gross")}
    plain = document(
        number,
        event_id=f"e-{number}{draw(texts)}",
        external_ref=f"{number}{draw(texts)}",
        revision=draw(st.integers(0, 2**31 - 1)),
        kind=draw(st.sampled_from(["invoice", "credit_note", "cancellation"])),
        store="S|1",
        occurred_at=draw(moments),
        business_date=date(2026, 3, 10),
        **said,
        **maybe,
    )
    paid = [DocumentPayment(draw(texts), draw(amounts(4))) for _ in range(draw(st.integers(0, 2)))]
    return replace(plain, lines=draw(st.lists(any_lines(), max_size=3)), payments=paid, **money)


@SETTINGS
@given(written=any_documents())
def test_sql_makes_the_print_that_python_makes(sql_sink: Sink, written: ErpDocument) -> None:
    assert [type(result) for result in sql_sink.write([written])] == [Accepted]
    found = {each.external_ref: each for each in sql_sink.prints("S|1", date(2026, 3, 10))}[written.external_ref]
    assert (found.digest, found.personal) == (in_digits(print_of(written)), in_digits(personal_print_of(written)))
    prints = [each.digest for each in sql_sink.prints("S|1", date(2026, 3, 10))]
    (day,) = sql_sink.totals("S|1", date(2026, 3, 10), deep=True)
    assert day.digest == in_digits(added(int(digest, 16) for digest in prints))


@pytest.mark.parametrize("day", [date(1, 1, 1), date(999, 12, 31), date(9999, 12, 31)])
def test_days_of_all_times_have_one_print(sql_sink: Sink, day: date) -> None:
    at = datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, UTC)
    written = document(business_date=day, occurred_at=at)
    sql_sink.write([written])
    assert [each.digest for each in sql_sink.prints("S1", day)] == [in_digits(print_of(written))]


@given(one=any_documents(), other=any_documents())
def test_two_documents_have_the_same_print_only_if_they_say_the_same(one: ErpDocument, other: ErpDocument) -> None:
    assert print_of(one) != print_of(other)  # their references are others
    renamed = replace(other, external_ref=one.external_ref, event_id=one.event_id)
    unsaid = {"cashier": None, "customer_id": None, "content": ""}
    same = replace(one, **unsaid) == replace(renamed, **unsaid)
    assert (print_of(one) == print_of(renamed)) == same


@pytest.fixture
def engine(sql_url: str) -> Iterator[Engine]:
    """The same database, past the sink."""
    engine = create_engine(sql_url)
    yield engine
    engine.dispose()


CHANGED: dict[str, str] = {
    "position": "7",
    "revision": "7",
    "business_date": "business_date",  # which would be another day
    "store": "store",
    "currency": "currency",
    "external_ref": "external_ref",
    "occurred_at": "'2026-03-10 12:00:01.000001'",
}
UNSAID = "mapping company warehouse cost_centre customer_code review written_at item_code item_unit tax_code cost "
UNSAID += "payment_mode account"
COLUMNS = [
    (table.name, column.name)
    for table in (documents, document_lines, document_payments)
    for column in table.columns
    if column.name not in UNSAID.split() and CHANGED.get(column.name) != column.name
]


@pytest.mark.parametrize(("table", "name"), COLUMNS)
def test_change_of_any_column_shows(sql_sink: Sink, engine: Engine, table: str, name: str) -> None:
    written = document(original_ref="pos/S1/R1/0/sale", customer_id="C-1", lines=[line(tax="0.40")])
    sql_sink.write([written, document(2)])
    before = sql_sink.totals(deep=True)
    column = {"documents": documents, "document_lines": document_lines}.get(table, document_payments).c[name]
    to = CHANGED.get(name) or ("7" if "Exact" in type(column.type).__name__ else "'x'")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {name} = {to} WHERE external_ref = '{written.external_ref}'"))
    (old,), (new,) = before, sql_sink.totals(deep=True)
    assert (old.digest, old.personal, old.unremembered) != (new.digest, new.personal, new.unremembered)
    personal = name in ("cashier", "customer_id", "content")
    assert (old.digest == new.digest, old.personal == new.personal) == (personal, not personal)


@pytest.mark.parametrize("name", ["cashier", "customer_id", "original_ref"])
def test_nothing_is_not_the_same_as_an_empty_text(sql_sink: Sink, engine: Engine, name: str) -> None:
    sql_sink.write([document(**{name: None})])
    before = sql_sink.totals(deep=True)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE documents SET {name} = ''"))
    assert sql_sink.totals(deep=True) != before


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM deliveries WHERE event_id = 'pos:e-1-0'",
        "UPDATE deliveries SET revision = 3 WHERE event_id = 'pos:e-1-0'",
        "UPDATE deliveries SET content = 'x' WHERE event_id = 'pos:e-1-0'",
        "UPDATE deliveries SET external_ref = 'x' WHERE event_id = 'pos:e-1-0'",
    ],
)
def test_delivery_that_was_deleted_or_changed_shows(sql_sink: Sink, engine: Engine, change: str) -> None:
    sql_sink.write([document(1), document(2)])
    with engine.begin() as connection:
        connection.execute(text(change))
    assert [day.unremembered for day in sql_sink.totals(deep=True)] == [1]
    assert [each.remembered for each in sql_sink.prints("S1", date(2026, 3, 10))] == [False, True]


def test_parts_without_a_document_are_found(sql_sink: Sink, engine: Engine) -> None:
    assert isinstance(sql_sink, SupportsOrphanCheck)
    sql_sink.write([document(1, lines=[line(1), line(2)]), document(2), document(3)])
    sql_sink.write([document(3, 1)])
    assert sql_sink.fragments() == []
    first, second = document(1).external_ref, document(2).external_ref
    with engine.begin() as connection:
        connection.execute(text(f"DELETE FROM documents WHERE external_ref IN ('{first}', '{second}')"))
        connection.execute(text(f"DELETE FROM deliveries WHERE external_ref = '{second}'"))
        connection.execute(text(f"DELETE FROM document_lines WHERE external_ref = '{second}'"))
    assert sql_sink.fragments() == [OrphanedParts(first, 2, 1, 1), OrphanedParts(second, payments=1)]
    assert sql_sink.fragments([first]) == [OrphanedParts(first, 2, 1)]
    assert sql_sink.fragments([second, "pos/S1/R1/9/sale"]) == [OrphanedParts(second, payments=1)]


def test_whole_document_is_drawn() -> None:
    """So that a field that is added later is drawn and covered, or said to be no part of it."""
    drawn = {"lines", "payments", *UNSAID.split()}
    assert {field.name for field in fields(ErpDocument)} - drawn == {
        *("event_id", "external_ref", "kind", "revision", "content", "source", "store", "register_id", "receipt"),
        *("original_ref", "business_date", "occurred_at", "currency", "cashier", "customer_id"),
        *("net", "tax", "rounding", "gross"),
    }
