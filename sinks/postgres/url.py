"""`postgresql://[USER@]HOST/DATABASE` as a sink."""

import re
from typing import TYPE_CHECKING

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from sinks.base import SinkMisconfigured

if TYPE_CHECKING:
    from sinks.postgres.sink import PostgresSink

#: Those of PostgreSQL's parameters that are whole numbers and that people set.
_INTEGERS = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")


def from_url(url: URL) -> "PostgresSink":
    """Return the sink for a database. Raises SinkMisconfigured, also where psycopg is not installed."""
    try:
        from sinks.postgres.sink import PostgresSink
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise SinkMisconfigured("PostgreSQL needs psycopg: pip install 'tillstream[postgres]'") from None
    url = url.set(drivername="postgresql+psycopg")
    _require_parameters(url)
    return PostgresSink(url)


def _require_parameters(url: URL) -> None:
    """Raise SinkMisconfigured for parameters that can be recognised as wrong without a server."""
    import psycopg

    for name in _INTEGERS:
        if not re.fullmatch(r"-?\d+", str(url.query.get(name, "0"))):
            raise SinkMisconfigured(f"The parameter {name} in the sink's URL is not a whole number.")
    try:
        _, parameters = url.get_dialect()().create_connect_args(url)
        psycopg.conninfo.make_conninfo(**parameters)
    except ArgumentError:
        raise SinkMisconfigured("The hosts and ports in the sink's URL don't fit together.") from None
    except psycopg.ProgrammingError as error:  # names the parameter, and no value
        raise SinkMisconfigured(
            f"The sink's URL has a parameter that PostgreSQL does not know: {error}".strip()
        ) from None
