"""Bad document, bad world, or bug."""

import sqlite3

import psycopg
import pytest

from sinks.base import DocumentsRefused, SinkUnavailable
from sinks.sql.errors import of_postgres, of_sqlite


def postgres_error(state: str) -> psycopg.Error:
    """The error that psycopg raises for this SQLSTATE."""
    return psycopg.errors.lookup(state)("a text with 'values'")


@pytest.mark.parametrize("state", ["22001", "22003", "22021", "22P02", "23502", "23505", "23514", "54000"])
def test_what_a_document_says_is_refused_by_its_sqlstate_without_values(state: str) -> None:
    refused = of_postgres(postgres_error(state))
    assert isinstance(refused, DocumentsRefused)
    assert refused.detail == state


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", "connection"),
        ("25006", "readonly"),
        ("25P03", "timeout"),
        ("28P01", "auth"),
        ("3D000", "schema"),
        ("40001", "lock"),
        ("40P01", "lock"),
        ("42501", "privilege"),
        ("42P01", "schema"),
        ("42703", "schema"),
        ("53100", "disk"),
        ("53200", "resources"),
        ("53300", "connection"),
        ("55P03", "lock"),
        ("57014", "timeout"),
        ("57P01", "connection"),
        ("58030", "disk"),
        ("XX000", "other"),
        ("42601", "other"),
    ],
)
def test_the_world_is_unavailable_in_a_kind(state: str, kind: str) -> None:
    unavailable = of_postgres(postgres_error(state))
    assert isinstance(unavailable, SinkUnavailable)
    assert unavailable.kind == kind
    assert ("tillstream check --apply" in str(unavailable)) == (kind == "schema")


def test_a_broken_connection_has_no_sqlstate() -> None:
    unavailable = of_postgres(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert isinstance(unavailable, SinkUnavailable)
    assert unavailable.kind == "connection"


@pytest.mark.parametrize("error", [psycopg.ProgrammingError("no such placeholder"), psycopg.NotSupportedError()])
def test_misuse_of_the_driver_is_a_bug(error: psycopg.Error) -> None:
    assert of_postgres(error) is error


def sqlite_error(name: str, text: str = "a text") -> sqlite3.Error:
    """The error that sqlite3 raises for this code."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_BUSY", "lock"),
        ("SQLITE_BUSY_SNAPSHOT", "lock"),
        ("SQLITE_FULL", "disk"),
        ("SQLITE_IOERR_FSYNC", "disk"),
        ("SQLITE_READONLY_DBMOVED", "readonly"),
        ("SQLITE_CORRUPT", "corrupt"),
        ("SQLITE_NOTADB", "corrupt"),
        ("SQLITE_ERROR", "other"),
    ],
)
def test_the_file_is_unavailable_in_a_kind(name: str, kind: str) -> None:
    unavailable = of_sqlite(sqlite_error(name))
    assert isinstance(unavailable, SinkUnavailable)
    assert unavailable.kind == kind


@pytest.mark.parametrize("name", ["SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_NOTNULL", "SQLITE_TOOBIG"])
def test_what_a_file_does_not_take_is_refused(name: str) -> None:
    refused = of_sqlite(sqlite_error(name))
    assert isinstance(refused, DocumentsRefused)
    assert refused.detail == name


def test_misuse_of_sqlite_is_a_bug() -> None:
    connection = sqlite3.connect(":memory:")
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError) as caught:
        connection.execute("SELECT 1")
    assert of_sqlite(caught.value) is caught.value
