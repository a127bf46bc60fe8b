"""Translate a database's errors: a refused document, an unavailable database, or a bug.

Nothing here quotes an error's own text about a refused document: it may contain the values.
"""

import re
import sqlite3
from typing import TYPE_CHECKING

from sinks.base import SCHEMA_ADVICE, DocumentsRefused, SinkUnavailable

if TYPE_CHECKING:
    import psycopg

#: Data exceptions, broken constraints, and limits such as the size of an index row, which only data can exceed here.
_REFUSING = ("22", "23", "54")

#: By SQLSTATE, or else by its class (the first two characters). https://www.postgresql.org/docs/current/errcodes-appendix.html
_KINDS = {
    "08": "connection",
    "25": "connection",
    "25006": "readonly",  # a standby, after a failover
    "25P03": "timeout",  # this process stood still in the middle of a transaction
    "28": "auth",
    "3D": "schema",
    "3F": "schema",
    "40": "lock",
    "42501": "privilege",
    "42P01": "schema",
    "42703": "schema",
    "53": "resources",
    "53100": "disk",
    "53300": "connection",
    "55": "lock",
    "57": "connection",
    "57014": "timeout",
    "58": "disk",
}

_COPY_COLUMN = re.compile(r"^COPY (\w+), line \d+, column (\w+)")


def of_postgres(error: "psycopg.Error") -> Exception:
    """Return the exception to raise for an error of psycopg. Errors without a SQLSTATE are broken connections, or
    misuse: those are returned as they are."""
    state = error.sqlstate
    if state is None:
        if _is_misuse(error):
            return error
        return SinkUnavailable("connection", f"PostgreSQL does not answer: {_first_line(error)}")
    if state.startswith(_REFUSING):
        return DocumentsRefused(" ".join([state, *_place(error)]))
    kind = _KINDS.get(state) or _KINDS.get(state[:2]) or "other"
    return SinkUnavailable(kind, _with_advice(kind, f"PostgreSQL: {error.diag.message_primary} ({state})"))


def _is_misuse(error: "psycopg.Error") -> bool:
    # DB-API: OperationalError is the server or the way to it, InterfaceError a connection that is closed already.
    names = {base.__name__ for base in type(error).__mro__}
    return names.isdisjoint({"OperationalError", "InterfaceError"})


def _place(error: "psycopg.Error") -> list[str]:
    """Where the bad value stood, as far as the server says so: names of our own tables, columns and constraints."""
    diag = error.diag
    if diag.constraint_name:
        return [diag.constraint_name]
    if diag.column_name:
        return [f"{diag.table_name}.{diag.column_name}"]
    copied = _COPY_COLUMN.match(diag.context or "")
    return [f"{copied[1]}.{copied[2]}"] if copied else []


_SQLITE_REFUSING = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}

_SQLITE_KINDS = {
    sqlite3.SQLITE_BUSY: "lock",
    sqlite3.SQLITE_LOCKED: "lock",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_IOERR: "disk",
    sqlite3.SQLITE_FULL: "disk",
    sqlite3.SQLITE_CANTOPEN: "disk",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_SCHEMA: "schema",
}


def of_sqlite(error: sqlite3.Error) -> Exception:
    """Return the exception to raise for an error of sqlite3. Misuse of the module, which has no SQLite code, is
    returned as it is."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    primary = code & 0xFF  # the rest says which kind of it
    if primary in _SQLITE_REFUSING:
        return DocumentsRefused(str(error.sqlite_errorname))
    kind = _SQLITE_KINDS.get(primary, "other")
    if str(error).startswith("no such"):  # SQLite has no code of its own for a missing table or column
        kind = "schema"
    return SinkUnavailable(kind, _with_advice(kind, f"SQLite: {error} ({error.sqlite_errorname})"))


def _with_advice(kind: str, message: str) -> str:
    return f"{message}; {SCHEMA_ADVICE}" if kind == "schema" else message


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
