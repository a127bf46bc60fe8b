"""`sqlite:///FILE` as a sink."""

from pathlib import Path

from sqlalchemy import URL

from sinks.base import SinkMisconfigured
from sinks.sqlite.sink import SqliteSink
from sinks.url import require_folder


def from_url(url: URL) -> SqliteSink:
    """Return the sink for a file, which need not exist yet. Raises SinkMisconfigured."""
    if url.query:
        raise SinkMisconfigured("The URL of an SQLite sink takes no parameters: leave out everything from the '?' on.")
    if url.password:
        raise SinkMisconfigured(
            "An SQLite file has no password: unset TILLSTREAM_SINK_PASSWORD and sink_password_file."
        )
    if url.database in (None, "", ":memory:"):
        raise SinkMisconfigured("An SQLite sink needs a file: sqlite:///tillstream.db, or sqlite:////var/lib/….")
    require_folder(Path(url.database or ""), "SQLite file")
    return SqliteSink(url)
