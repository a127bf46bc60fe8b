"""`open_sink(url)`: the sink that a URL names."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sinks.base import Sink, SinkMisconfigured


def open_sink(url: str, *, password: str | None = None) -> Sink:
    """The sink at `url`, not connected yet: `check` and `ping` tell whether it can be used.

    The password is no part of the URL, which is shown in logs, findings and process lists. Raises SinkMisconfigured.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SinkMisconfigured(f"This is not a URL such as sqlite:///tillstream.db. {_known()}") from None
    scheme = parsed.drivername
    if scheme not in _SCHEMES:
        raise SinkMisconfigured(f"There is no sink for {scheme!r} URLs. {_known()}")
    return _SCHEMES[scheme](parsed if password is None else parsed.set(password=password))


def _known() -> str:
    return "Known are " + ", ".join(f"{scheme}://…" for scheme in sorted(_SCHEMES)) + "."


def _memory(url: URL) -> Sink:
    from sinks.memory import MemorySink

    return MemorySink()


def _sqlite(url: URL) -> Sink:
    from sinks.sqlite import SqliteSink

    if url.database in (None, "", ":memory:"):
        raise SinkMisconfigured("An SQLite sink needs a file: sqlite:///tillstream.db, or sqlite:////var/lib/….")
    folder = Path(url.database or "").absolute().parent
    if not folder.is_dir():
        raise SinkMisconfigured(f"The folder of the SQLite file does not exist: {folder}. Create it.")
    return SqliteSink(url)


def _postgres(url: URL) -> Sink:
    try:
        from sinks.postgres import PostgresSink
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise SinkMisconfigured("PostgreSQL needs psycopg: pip install 'tillstream[postgres]'") from None
    return PostgresSink(url.set(drivername="postgresql+psycopg"))


_SCHEMES: dict[str, Callable[[URL], Sink]] = {
    "memory": _memory,
    "postgresql": _postgres,
    "postgresql+psycopg": _postgres,
    "sqlite": _sqlite,
}
