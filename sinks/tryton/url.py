"""`tryton+https://USER@HOST/DATABASE` as a sink."""

from sqlalchemy import URL

from sinks.base import SinkMisconfigured
from sinks.erp.ledger import delivery_log_of
from sinks.tryton.sink import TrytonSink
from sinks.url import url_parameters


def from_url(url: URL) -> TrytonSink:
    """Return the sink for the company of the URL's user. Raises SinkMisconfigured."""
    states = delivery_log_of(url)
    params = url_parameters(url, "ledger", "point", "rounding")
    if not (url.username and url.host and url.database):
        raise SinkMisconfigured("A Tryton sink needs a user, a host and a database: tryton+https://user@host/database.")
    if not url.password:
        raise SinkMisconfigured(
            "A Tryton sink needs the user's password in TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    params.pop("ledger", None)
    server = url.set(drivername=url.drivername.removeprefix("tryton+"), query={})
    return TrytonSink(server, states, **params)
