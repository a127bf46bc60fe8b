"""`open_sink(url)`: the sink that a URL names. `shown(url)`: that URL without what must not be seen."""

import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sinks.base import Sink, SinkMisconfigured

#: Parameters that are secret by their name, misspelt and future ones included.
_SECRET = re.compile("pass|pwd|secret|scram", re.IGNORECASE)

#: Those of PostgreSQL's parameters that are whole numbers and that people set.
_NUMBERS = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")


def open_sink(url: str, *, password: str | None = None) -> Sink:
    """Return the sink at `url`, not connected yet: `check` and `ping` verify that it can be used.

    The password is no part of the URL, which is seen in process lists and files. Raises SinkMisconfigured.
    """
    parsed = parsed_url(url)
    scheme = parsed.drivername
    opener = _openers().get(scheme)
    if opener is None:
        raise SinkMisconfigured(f"There is no sink for {scheme!r} URLs. {_known()}")
    if parsed.password or "password" in parsed.query:
        raise SinkMisconfigured(
            "The sink's URL contains a password. Take it out, and give it in TILLSTREAM_SINK_PASSWORD or "
            "sink_password_file."
        )
    return opener(parsed if password is None else parsed.set(password=password))


def _openers() -> "dict[str, Callable[[URL], Sink]]":
    """Return the opener of a URL's scheme. Packages add theirs as entry points of the group `tillstream.sinks`."""
    others = {point.name: partial(_load, point) for point in entry_points(group="tillstream.sinks")}
    return others | _SCHEMES


def _load(point: EntryPoint, url: URL) -> Sink:
    return point.load()(url)  # type: ignore[no-any-return]  # as the package promises


def shown(url: str) -> str:
    """`url` as it may be shown in findings and logs: no password, neither before the host nor in the query."""
    try:
        parsed = parsed_url(url)
    except SinkMisconfigured:
        return "(not a URL)"  # who knows what in it is the password
    host = parsed.host and parsed.host.rpartition("@")[2]  # a password with an "@" in it goes on into the host
    query = {name: value for name, value in parsed.query.items() if not _SECRET.search(name)}
    bare = URL.create(parsed.drivername, parsed.username, None, host, parsed.port, parsed.database, query)
    return bare.render_as_string()


def parsed_url(url: str) -> URL:
    """`url` in its parts. Raises SinkMisconfigured."""
    try:
        parsed = make_url(url)
        if parsed.port is not None and not 0 < parsed.port < 2**16:
            raise ValueError
    except ArgumentError:
        raise SinkMisconfigured(f"This is not a URL such as sqlite:///tillstream.db. {_known()}") from None
    except ValueError:  # from SQLAlchemy too, which converts nothing but the port
        raise SinkMisconfigured("The port in the sink's URL is not a number from 1 to 65535.") from None
    return parsed


def _known() -> str:
    return "Known are " + ", ".join(f"{scheme}://…" for scheme in sorted(_openers())) + "."


def _memory(url: URL) -> Sink:
    from sinks.memory import MemorySink

    return MemorySink()


def _sqlite(url: URL) -> Sink:
    from sinks.sqlite.sink import SqliteSink

    if url.query:
        raise SinkMisconfigured("The URL of an SQLite sink takes no parameters: leave out what begins with '?'.")
    if url.password:
        raise SinkMisconfigured(
            "An SQLite file has no password: unset TILLSTREAM_SINK_PASSWORD and sink_password_file."
        )
    if url.database in (None, "", ":memory:"):
        raise SinkMisconfigured("An SQLite sink needs a file: sqlite:///tillstream.db, or sqlite:////var/lib/….")
    folder = Path(url.database or "").absolute().parent
    if not folder.is_dir():
        raise SinkMisconfigured(f"The folder of the SQLite file does not exist: {folder}. Create it.")
    return SqliteSink(url)


def _postgres(url: URL) -> Sink:
    try:
        from sinks.postgres.sink import PostgresSink
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise SinkMisconfigured("PostgreSQL needs psycopg: pip install 'tillstream[postgres]'") from None
    url = url.set(drivername="postgresql+psycopg")
    _require_parameters(url)
    return PostgresSink(url)


def _tryton(url: URL) -> Sink:
    from sinks.openers import tryton

    return tryton(url)


def _kafka(url: URL) -> Sink:
    from sinks.openers import kafka

    return kafka(url)


def _webhook(url: URL) -> Sink:
    from sinks.openers import webhook

    return webhook(url)


def _erpnext(url: URL) -> Sink:
    from sinks.openers import erpnext

    return erpnext(url)


def _odoo(url: URL) -> Sink:
    from sinks.openers import odoo

    return odoo(url)


def _require_parameters(url: URL) -> None:
    """Validate the parameters as far as possible without a server."""
    import psycopg

    for name in _NUMBERS:
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


_SCHEMES: dict[str, Callable[[URL], Sink]] = {
    "erpnext+http": _erpnext,
    "erpnext+https": _erpnext,
    "kafka": _kafka,
    "memory": _memory,
    "odoo+http": _odoo,
    "odoo+https": _odoo,
    "postgresql": _postgres,
    "postgresql+psycopg": _postgres,
    "sqlite": _sqlite,
    "tryton+http": _tryton,
    "tryton+https": _tryton,
    "http": _webhook,
    "https": _webhook,
    "webhook+http": _webhook,
    "webhook+https": _webhook,
}
