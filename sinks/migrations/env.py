"""Run by Alembic, with the connection that `sinks.migrations` gives it."""

from alembic import context

from sinks.migrations import VERSION_TABLE
from sinks.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
