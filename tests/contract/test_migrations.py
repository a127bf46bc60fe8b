"""The migrations make what the tables say, and a preflight tells when they have not been run."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from sinks import migrations
from sinks.base import PreflightFinding, Sink
from sinks.sql.tables import metadata
from tests.contract.conftest import SQL, open_full_url


@pytest.fixture(params=SQL)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'sink.db'}"


@pytest.fixture
def sink(empty_url: str) -> Iterator[Sink]:
    """A sink without tables."""
    sink = open_full_url(empty_url)
    yield sink
    sink.close()


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    """The same database, past the sink."""
    engine = create_engine(empty_url)
    yield engine
    engine.dispose()


def schema_finding(findings: list[PreflightFinding]) -> PreflightFinding:
    """The one finding about the schema."""
    (finding,) = [finding for finding in findings if finding.subject == "schema"]
    return finding


def test_the_migrated_schema_is_what_the_tables_say(sink: Sink, engine: Engine) -> None:
    sink.check(apply=True)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "version_table": migrations.VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_migrated_checks_and_collations_are_what_the_tables_say(sink: Sink, engine: Engine) -> None:
    # what compare_metadata does not look at
    sink.check(apply=True)
    migrated = checks_and_collations(engine)
    with engine.begin() as connection:
        for view in ("document_taxes", "day_documents", "day_lines", "day_payments"):
            connection.execute(text(f"DROP VIEW {view}"))
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert checks_and_collations(engine) == migrated


def checks_and_collations(engine: Engine) -> dict[str, object]:
    """All CHECK constraints, and all columns with their types, of our tables."""
    inspector = inspect(engine)
    return {
        name: (
            sorted((check["name"], check["sqltext"]) for check in inspector.get_check_constraints(name)),
            [(c["name"], str(c["type"]), getattr(c["type"], "collation", None)) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
        )
        for name in metadata.tables
    }


def test_missing_tables_are_found_and_created(sink: Sink) -> None:
    missing = schema_finding(sink.check())
    assert not missing.ok
    assert "tillstream check --apply" in missing.advice
    assert schema_finding(sink.check(apply=True)).ok
    assert schema_finding(sink.check(apply=True)).ok


def test_a_schema_behind_is_found_and_migrated(sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink.check(apply=True)
    newer = tmp_path / "migrations"
    shutil.copytree(migrations.SCRIPTS, newer, ignore=shutil.ignore_patterns("__pycache__"))
    step = 'revision, down_revision = "9999", "0005"\nbranch_labels = depends_on = None\ndef upgrade():\n    pass\n'
    (newer / "versions" / "v9999_next.py").write_text(step)
    monkeypatch.setattr(migrations, "SCRIPTS", newer)
    behind = schema_finding(sink.check())
    assert (behind.ok, behind.detail) == (False, "It is behind: 0005, not 9999.")
    assert schema_finding(sink.check(apply=True)).ok


def test_a_schema_ahead_is_found_and_left_alone(sink: Sink, engine: Engine) -> None:
    sink.check(apply=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tillstream_version SET version_num = 'later'"))
    for apply in (False, True):
        ahead = schema_finding(sink.check(apply=apply))
        assert not ahead.ok
        assert "Upgrade this program" in ahead.advice


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    def apply(_: int) -> bool:
        sink = open_full_url(empty_url)
        try:
            return schema_finding(sink.check(apply=True)).ok
        finally:
            sink.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(apply, range(4))) == [True] * 4
