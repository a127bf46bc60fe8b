"""The tables of the SQL sinks, the same on PostgreSQL and SQLite. `sinks.migrations` brings a database to them.

Amounts are exact, in SQL too. PostgreSQL holds them as NUMERIC with a CHECK on the places, not as NUMERIC(18, 4): that
would silently round values that don't fit, where the check refuses them; and each amount keeps its currency's own
number of places. SQLite has no decimals, so it holds integers (ten-thousandths, or millionths of quantities and
prices).

Columns of the ERP's own codes are NULL where no mapping gave them: then the till's codes count.

There are no foreign keys. Only `sinks.sql.sink` writes these tables, a document and its parts in one transaction, so a
key could catch nothing, and looking it up for every part costs the server two thirds more (measured, with tax totals
stored as well: 25 against 41 ms of its CPU for 1000 documents of three lines).

Tax totals are the view `document_taxes`: they are sums over the lines, and a view costs nothing to write.
So are the documents of a store's day, for ERPs that book days: `day_documents`, `day_lines` and `day_payments`.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TEXT
from sqlalchemy.types import TypeEngine

from schemas.money import LIMIT
from sinks.storable import AMOUNT_PLACES, FINE_PLACES, from_scaled, to_scaled

#: Where `exact_sum` splits scaled integers.
_PART = 10**6


class ExactDecimal(TypeDecorator[Decimal]):
    """A `Decimal` of up to `places` places, below 10 ** 12."""

    impl = BigInteger
    cache_ok = True

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Numeric() if dialect.name == "postgresql" else BigInteger()

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else to_scaled(value, self.places)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return value if value is None or dialect.name == "postgresql" else from_scaled(value, self.places)


class _SumOfParts(TypeDecorator[Decimal]):
    """A sum of scaled integers that SQLite returns as text, `high,low`: high × _PART + low."""

    impl = Text
    cache_ok = True

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        high, low = map(int, value.split(","))
        return from_scaled(high * _PART + low, self.places)


def exact_sum(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the sum of an `ExactDecimal` column, exact for any number of rows.

    SQLite adds integers of 64 bits, which ten quantities can exceed: the parts above and below _PART are added apart.
    """
    if connection.dialect.name != "sqlite":
        return func.sum(column)
    scaled = type_coerce(column, BigInteger)
    high, low = (func.sum(part, type_=BigInteger) for part in (scaled.op("/")(_PART), scaled.op("%")(_PART)))
    kind = column.type
    assert isinstance(kind, ExactDecimal)
    return type_coerce(cast(high, Text) + "," + cast(low, Text), _SumOfParts(kind.places))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment, in UTC. SQLite holds it as text without offset, which sorts as the moments do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: Compared byte by byte, which saves the server a quarter of its work for a batch, and is one order everywhere.
KEY = Text().with_variant(TEXT(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={"pk": "%(table_name)s_pkey", "ck": "%(table_name)s_%(constraint_name)s"},
)


def _key(name: str, **options: Any) -> Column[str]:
    return Column(name, KEY, nullable=False, **options)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _whole(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, nullable=False, **options)


def _codes(*names: str) -> list[Column[str]]:
    return [_text(name, nullable=True) for name in names]


def _exact(
    *names: str, places: int = AMOUNT_PLACES, nullable: bool = False, **options: Any
) -> list[Column[Any] | CheckConstraint]:
    """Columns with their checks. NaN and infinity fail `abs(…) < …`: PostgreSQL sorts them above all numbers."""
    columns = [Column(name, ExactDecimal(places), nullable=nullable, **options) for name in names]
    checks = [
        CheckConstraint(f"min_scale({name}) <= {places} AND abs({name}) < {LIMIT}", name=f"{name}_exact").ddl_if(
            dialect="postgresql"
        )
        for name in names
    ]
    return [*columns, *checks]


documents = Table(
    "documents",
    metadata,
    _key("external_ref", primary_key=True),
    _key("event_id"),
    *(_text("kind"), _whole("revision"), _text("content"), _text("source")),
    *(_key("store"), _text("register_id"), _text("receipt"), _text("original_ref", nullable=True)),
    Column("business_date", Date, nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    *(_text("currency"), _text("cashier", nullable=True), _text("customer_id", nullable=True)),
    *_exact("net", "tax", "rounding", "gross"),
    Column("written_at", UtcDateTime, nullable=False),
    *_codes("mapping", "company", "warehouse", "cost_centre", "customer_code", "review"),
    Index("documents_store_day", "store", "business_date"),
)

document_lines = Table(
    "document_lines",
    metadata,
    _key("external_ref", primary_key=True),
    _whole("position", primary_key=True),
    *(_text("sku"), _text("description")),
    *_exact("quantity", places=FINE_PLACES),
    _text("unit"),
    *_exact("unit_price", "discount", "tax_rate", places=FINE_PLACES),
    *_exact("net", "tax", "gross"),
    *_codes("item_code", "item_unit", "tax_code"),
    *_exact("cost", places=FINE_PLACES, nullable=True),
)

document_payments = Table(
    "document_payments",
    metadata,
    _key("external_ref", primary_key=True),
    _whole("position", primary_key=True),
    _text("kind"),
    *_exact("amount"),
    *_codes("payment_mode", "account"),
)

#: One row per event whose effect is known; never deleted, or the same event sent again would land again.
deliveries = Table(
    "deliveries",
    metadata,
    _key("event_id", primary_key=True),
    _key("external_ref"),
    _whole("revision"),
    _text("content"),
    Column("effect", Text, nullable=False, server_default="written"),
    Column("delivered_at", UtcDateTime, nullable=False),
)

#: One row per event that was refused for its receipt, with its content. Never deleted: it stays refused, even when a
#: newer revision has replaced the document that it was in conflict with.
conflicts = Table("conflicts", metadata, _key("event_id", primary_key=True), _key("content", primary_key=True))

#: The tables that hold a document's parts, all keyed by external_ref first.
PARTS = (document_lines, document_payments)
