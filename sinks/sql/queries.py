"""Queries for mappings: master data, from the sink's database or another, and values for outlier baselines."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, ResourceClosedError, SQLAlchemyError, StatementError
from sqlalchemy.pool import NullPool

from sinks.base import SinkMisconfigured, SinkUnavailable
from sinks.sql.tables import document_lines, documents
from sinks.url import parse_url

_SECONDS = 5
#: Rows that are fetched together.
_ROWS = 2_000


def rows(url: str, query: str, *, password: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a query, by column name. Nothing that it might write is kept.

    The password is no part of the URL. Raises SinkUnavailable, and SinkMisconfigured where the query or URL is wrong.
    """
    with _reading(url, password) as connection:
        found = connection.execution_options(no_parameters=True).exec_driver_sql(query)  # so that LIKE 'A%' may be
        return [dict(row) for row in found.mappings()]


def streamed(url: str, query: str, *, password: str | None = None) -> Iterator[Sequence[Any]]:
    """Yield the names of a query's columns, then its rows, a few at a time: for exports, of whichever size. As `rows`.

    Any database may be asked whose driver for SQLAlchemy is installed.
    """
    if parse_url(url).password is not None:
        raise SinkMisconfigured("The query's URL contains a password; take it out, and give it in a file.")
    with _reading(url, password, export=True) as connection:
        how = {"no_parameters": True, "stream_results": True, "yield_per": _ROWS}
        found = connection.execution_options(**how).exec_driver_sql(query)
        yield list(found.keys())
        yield from (tuple(row) for row in found)


class SoldValues(NamedTuple):
    """How often each value was sold at, or for: prices by sku and currency, receipts' gross by store and currency."""

    prices: dict[tuple[str, str], Counter[Decimal]]
    receipts: dict[tuple[str, str], Counter[Decimal]]


def sold(url: str, since: date, *, password: str | None = None) -> SoldValues:
    """Return the prices and amounts in the sink's tables of business days from `since` on. Raises as `rows` does."""
    lately = documents.c.business_date >= since
    same = document_lines.c.external_ref == documents.c.external_ref
    price = (document_lines.c.sku, documents.c.currency, document_lines.c.unit_price)
    receipt = (documents.c.store, documents.c.currency, documents.c.gross)
    invoices = select(*receipt, func.count()).where(lately, documents.c.kind == "invoice").group_by(*receipt)
    found = SoldValues({}, {})
    with _reading(url, password) as connection:
        for code, currency, value, times in connection.execute(
            select(*price, func.count()).join(documents, same).where(lately).group_by(*price)
        ):
            found.prices.setdefault((code, currency), Counter())[value] += times
        for code, currency, value, times in connection.execute(invoices):
            found.receipts.setdefault((code, currency), Counter())[value] += times
    return found


@contextmanager
def _reading(url: str, password: str | None, *, export: bool = False) -> Iterator[Connection]:
    """Provide a connection of its own, whose transaction is rolled back at the end, however long an export takes."""
    parsed = parse_url(url)
    scheme = parsed.drivername.partition("+")[0]
    if scheme not in ("sqlite", "postgresql") and not export:
        raise SinkMisconfigured(f"There are no queries on {scheme}://…; use a sqlite:// or postgresql:// URL.")
    if scheme == "sqlite" and not Path(parsed.database or "").is_file():
        raise SinkMisconfigured(f"There is no SQLite file {parsed.database}.")  # connecting would make one
    if password is not None:
        parsed = parsed.set(password=password)
    if scheme == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    options = {"postgresql": {"connect_timeout": _SECONDS}, "sqlite": {"timeout": _SECONDS}}.get(scheme, {})
    try:
        engine = create_engine(parsed, connect_args=options, poolclass=NullPool, hide_parameters=True)
        with engine.connect() as connection:
            _only_read(connection, export=export)
            yield connection
    except ResourceClosedError:
        raise SinkMisconfigured("The query gives no rows.") from None
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        told = f"The database can't be used: {error}; is its driver for SQLAlchemy installed?"
        raise SinkMisconfigured(told) from None
    except StatementError as error:
        raise _told(error.orig or error) from None
    except SQLAlchemyError as error:
        raise SinkUnavailable("other", f"The database does not answer: {type(error).__name__}") from None


def _only_read(connection: Connection, *, export: bool) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        if not export:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '60s'")
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")


def _told(error: BaseException) -> Exception:
    """Wrong queries (SQLSTATE 42, 22, 25006) have to be fixed by a person; all other errors are outages."""
    state = getattr(error, "sqlstate", None)
    if state is not None and state.startswith(("42", "22", "25", "3F")):
        return SinkMisconfigured(f"PostgreSQL refuses the query: {error.diag.message_primary}")  # type: ignore[attr-defined]  # psycopg's, as it has a state
    if isinstance(error, sqlite3.Error) and _is_the_querys(error):
        said = str(error).partition(" with text ")[0]  # what follows is a value
        return SinkMisconfigured(f"SQLite refuses the query: {said}")
    return SinkUnavailable("connection", f"The database does not answer: {str(error).strip().partition(chr(10))[0]}")


def _is_the_querys(error: sqlite3.Error) -> bool:
    """Whether the query is wrong: SQLite says so, or Python's module, which can't use it or its answer."""
    named = getattr(error, "sqlite_errorname", None)
    return named in _WRONG or (named is None and isinstance(error, sqlite3.ProgrammingError | sqlite3.OperationalError))


#: What SQLite says of queries that are wrong in themselves.
_WRONG = ("SQLITE_ERROR", "SQLITE_READONLY", "SQLITE_MISMATCH")
