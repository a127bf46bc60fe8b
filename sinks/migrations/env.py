"""Run by Alembic, with the connection and metadata from `sinks.migrations`."""

from alembic import context

from sinks.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
