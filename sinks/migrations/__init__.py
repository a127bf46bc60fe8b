"""The versions of the SQL schema, applied by `tillstream check --apply`.

A change to `sinks.sql.tables` needs a new file in `versions`, with the one before it as its `down_revision`. A test
compares the result of all migrations with the tables. There are no downgrades: restore a backup.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from sinks.base import SCHEMA_ADVICE, PreflightFinding

VERSION_TABLE = "tillstream_version"
SCRIPTS = Path(__file__).parent


def upgrade(connection: Connection, metadata: MetaData) -> None:
    """Bring the schema to this program's version, in the connection's transaction; the caller commits.

    `metadata` gives new constraints their names. A schema made by a newer program is left as it is.
    """
    if schema_finding(connection).detail != _AHEAD:
        command.upgrade(alembic_config(connection, metadata), "head")


def schema_finding(connection: Connection) -> PreflightFinding:
    """Report whether the schema has this program's version."""
    script = ScriptDirectory.from_config(alembic_config(connection))
    current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    head = script.get_current_head()
    if current == head:
        return PreflightFinding("schema", True, f"version {current}")
    if current is None:
        return PreflightFinding("schema", False, "The tables are missing.", f"To create them, {SCHEMA_ADVICE}.")
    if current in {revision.revision for revision in script.walk_revisions()}:
        return PreflightFinding(
            "schema", False, f"It is behind: {current}, not {head}.", f"To migrate it, {SCHEMA_ADVICE}."
        )
    return PreflightFinding("schema", False, _AHEAD, "Upgrade this program to the version that made the schema.")


_AHEAD = "It was made by a newer version of this program."


def alembic_config(connection: Connection, metadata: MetaData | None = None) -> Config:
    """Return Alembic's configuration for the scripts here, with the attributes that `env.py` reads."""
    config = Config(attributes={"connection": connection, "metadata": metadata})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
