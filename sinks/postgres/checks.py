"""Preflight checks of a PostgreSQL server."""

from sqlalchemy import Connection

from sinks.base import PreflightFinding
from sinks.sql.tables import metadata

_FACTS = """
SELECT current_setting('server_version_num')::int >= 130000, current_setting('server_version'),
    current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync'),
    current_setting('transaction_read_only'), has_database_privilege(current_database(), 'TEMPORARY')"""

# NULL, which `bool_and` ignores, for tables that do not exist yet.
_MAY_WRITE = """
SELECT coalesce(bool_and(has_table_privilege(to_regclass(name), action)), true)
FROM unnest(%s::text[]) AS tables(name), unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS actions(action)"""


def server_findings(connection: Connection, user: str) -> list[PreflightFinding]:
    """Version, encoding, durability, and what `user` may do there."""
    new, version, encoding, synchronous, fsync, read_only, may_temp = connection.exec_driver_sql(_FACTS).one()
    may_write = connection.exec_driver_sql(_MAY_WRITE, (list(metadata.tables),)).scalar_one()
    return [
        PreflightFinding("server", new, f"PostgreSQL {version}", "Upgrade it to 13 or newer."),
        PreflightFinding("encoding", encoding == "UTF8", encoding, "Create the database with ENCODING 'UTF8'."),
        PreflightFinding(
            "durability",
            synchronous != "off",  # fsync=off is how some hosts, whose storage does it, are set up
            f"synchronous_commit={synchronous}, fsync={fsync}",
            "Switch synchronous_commit on: a crash would lose sales that were acknowledged.",
        ),
        PreflightFinding("writable", read_only == "off", f"read-only is {read_only}", "Connect to the primary server."),
        PreflightFinding(
            "privileges",
            may_temp and may_write,
            f"temporary tables: {_yes_or_no(may_temp)}, our tables: {_yes_or_no(may_write)}",
            f"GRANT {user} TEMPORARY on the database, and SELECT, INSERT, UPDATE, DELETE on the tables.",
        ),
    ]


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
