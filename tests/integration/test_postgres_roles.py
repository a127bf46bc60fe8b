"""deploy/postgres: each role can do its work, and no more."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from sinks.base import Accepted, Sink
from sinks.registry import open_sink
from sinks.sql.queries import sold
from sinks.sql.tables import metadata
from tests.support.documents import NOON, document, line

SCRIPTS = Path(__file__).parents[2] / "deploy/postgres"
PASSWORD = "right"


class Roles:
    """A database that was set up by the scripts, with roles of this test alone."""

    def __init__(self, url: str) -> None:
        self._admin = make_url(url)
        self._suffix = uuid.uuid4().hex[:8]
        self._run(self._admin, "roles.sql")
        with psycopg.connect(plain(self._admin), autocommit=True) as connection:
            for role in ("tillstream", "tillstream_owner", "tillstream_reader"):
                connection.execute(f"ALTER ROLE {role}_{self._suffix} LOGIN PASSWORD '{PASSWORD}'")
        owner = self.sink("tillstream_owner")
        try:
            self.found_by_owner = owner.check(apply=True)
        finally:
            owner.close()
        self._run(self.url("tillstream_owner"), "grants.sql")

    def url(self, role: str) -> URL:
        return self._admin.set(username=f"{role}_{self._suffix}", password=PASSWORD)

    def sink(self, role: str) -> Sink:
        return open_sink(self.url(role)._replace(password=None).render_as_string(), password=PASSWORD)

    def connect(self, role: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(plain(self.url(role)), autocommit=True)

    def close(self) -> None:
        with psycopg.connect(plain(self._admin), autocommit=True) as connection:
            for role in ("tillstream", "tillstream_reader", "tillstream_owner"):
                connection.execute(f"DROP OWNED BY {role}_{self._suffix} CASCADE")
                connection.execute(f"DROP ROLE {role}_{self._suffix}")

    def _run(self, url: URL, script: str) -> None:
        text = re.sub(
            r"\btillstream(_owner|_reader)?\b(?=[;,\s]*(LOGIN|;|,))", rf"\g<0>_{self._suffix}", script_text(script)
        )
        text = text.replace("DATABASE erp", f"DATABASE {self._admin.database}")
        with psycopg.connect(plain(url), autocommit=True) as connection:
            connection.execute(text.encode())


def script_text(name: str) -> str:
    """The script without its comments."""
    return re.sub("--.*", "", (SCRIPTS / name).read_text())


def plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def roles(postgres_url: str) -> Iterator[Roles]:
    made = Roles(postgres_url)
    yield made
    made.close()


@pytest.fixture
def worker(roles: Roles) -> Iterator[Sink]:
    made = roles.sink("tillstream")
    yield made
    made.close()


def test_owner_creates_all_and_worker_finds_nothing_wrong(roles: Roles, worker: Sink) -> None:
    assert [finding for finding in roles.found_by_owner if not finding.ok] == []
    assert [finding for finding in worker.check() if not finding.ok] == []
    worker.ping()


def test_worker_can_do_all_that_the_line_asks_for(roles: Roles, worker: Sink) -> None:
    first = document(1)
    assert worker.write([first, document(2)]) == [Accepted(d.event_id, "written") for d in (first, document(2))]
    assert worker.write([first]) == [Accepted(first.event_id, "duplicate")]
    assert worker.write([document(1, revision=1)])[0].effect == "replaced"  # type: ignore[union-attr]  # not refused
    other = document(1, revision=1, event_id="pos:other", lines=[line(net="1.00", tax="0.19")])
    assert not isinstance(worker.write([other])[0], Accepted)  # a conflict, which is remembered
    assert worker.rehearse([document(3)]) == [Accepted(document(3).event_id, "written")]
    assert worker.holds([first.external_ref, "nothing"]) == {first.external_ref}
    assert [found.revision for found in worker.read([first.external_ref])] == [1]
    assert sum(day.documents for day in worker.totals()) == 2
    url = roles.url("tillstream")._replace(password=None).render_as_string()
    assert sold(url, NOON.date(), password=PASSWORD).prices


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE documents",
        "TRUNCATE deliveries",
        "ALTER TABLE documents ADD COLUMN more text",
        "CREATE TABLE more (a int)",
        "UPDATE tillstream_version SET version_num = '9999'",
        "CREATE ROLE more",
    ],
)
def test_worker_can_do_no_more(roles: Roles, statement: str) -> None:
    with roles.connect("tillstream") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_reader_reads_documents_and_changes_nothing(roles: Roles) -> None:
    with roles.connect("tillstream_reader") as connection:
        for name in ("documents", "document_lines", "document_taxes", "day_documents", "day_lines", "day_payments"):
            connection.execute(f"SELECT * FROM {name}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM documents")


def test_worker_is_granted_every_table_that_it_writes() -> None:
    (granted,) = re.findall(r"DELETE\s+ON ([\w, ]+) TO tillstream;", script_text("grants.sql"))
    assert set(granted.split(", ")) == set(metadata.tables)
