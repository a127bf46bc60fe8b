"""Master data come from the databases that sinks write to, by queries that write nothing."""

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import create_engine, make_url, text

from sinks.base import Sink, SinkMisconfigured
from sinks.sql import queries
from sinks.url import shown
from tests.support.documents import document, line


@pytest.fixture
def items(sql_url: str) -> str:
    """The URL of a database with a table of items, committed."""
    engine = create_engine(sql_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE items (sku text, code integer, cost numeric)"))
        connection.execute(text("INSERT INTO items VALUES ('A%', 1, 0.5), ('B', 2, NULL)"))
    engine.dispose()
    return sql_url


def rows(url: str, query: str) -> list[dict[str, object]]:
    password = make_url(url).password
    return queries.rows(shown(url), query, password=None if password is None else str(password))


def test_rows_are_given_by_column_name(items: str) -> None:
    found = rows(items, "SELECT sku, code AS item_code FROM items WHERE sku LIKE 'A%' ORDER BY sku")
    assert found == [{"sku": "A%", "item_code": 1}]
    assert rows(items, "SELECT sku FROM items WHERE sku = 'Z'") == []


@pytest.mark.parametrize(
    "query", ["SELECT sku FROM articles", "SELECT nothing FROM items", "SELEKT 1", "DELETE FROM items RETURNING sku"]
)
def test_wrong_query_is_told_and_changes_nothing(items: str, query: str) -> None:
    with pytest.raises(SinkMisconfigured, match="refuses the query"):
        rows(items, query)
    assert len(rows(items, "SELECT sku FROM items")) == 2


def test_what_was_sold_is_counted_by_price_and_by_receipt(sql_sink: Sink, sql_url: str) -> None:
    apples = [line(place, sku="A", net=price, tax=0, unit_price=Decimal(price)) for place, price in enumerate("112")]
    sql_sink.write([document(1, lines=apples[:2]), document(2, lines=apples[2:]), document(3, kind="credit_note")])
    sql_sink.write([document(4, business_date=date(2020, 1, 1))])
    password = make_url(sql_url).password
    found = queries.sold(shown(sql_url), date(2026, 1, 1), password=None if password is None else str(password))
    assert found.prices["A", "EUR"] == {Decimal(1): 2, Decimal(2): 1}
    assert found.receipts == {("S1", "EUR"): {Decimal(2): 2}}


def test_query_without_rows_is_told(items: str) -> None:
    with pytest.raises(SinkMisconfigured):
        rows(items, "CREATE TABLE others (a integer)")
