"""The schema's versions, applied by `tillstream check --apply`.

A change to `sinks.sql.tables` comes with a new file in `versions`, which names the one before it as its
`down_revision`; a test compares the migrated schema with the declared tables. There is no way down: restore a backup.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from sinks.base import PreflightFinding
from sinks.sql.errors import SCHEMA_ADVICE

VERSION_TABLE = "tillstream_version"
SCRIPTS = Path(__file__).parent


def upgrade(connection: Connection) -> None:
    """Brings the schema to this program's version, in the connection's transaction; the caller commits.

    A schema that a newer program made is left as it is.
    """
    if finding(connection).detail != _AHEAD:
        command.upgrade(_config(connection), "head")


def finding(connection: Connection) -> PreflightFinding:
    """Whether the schema is this program's version."""
    script = ScriptDirectory.from_config(_config(connection))
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


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
