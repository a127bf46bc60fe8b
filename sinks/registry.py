"""`open_sink(url)` opens the sink that a URL names."""

from importlib.metadata import EntryPoint, entry_points

from sinks.base import Sink, SinkMisconfigured
from sinks.url import parse_url

#: The entry points by which installed packages add sinks of their own.
_GROUP = "tillstream.sinks"

#: The function that makes a sink from a URL, by the URL's scheme. It is imported when the first such sink is opened.
_FROM_URL = {
    "erpnext+http": "sinks.erpnext.url:from_url",
    "erpnext+https": "sinks.erpnext.url:from_url",
    "http": "sinks.webhook:from_url",
    "https": "sinks.webhook:from_url",
    "kafka": "sinks.kafka.url:from_url",
    "memory": "sinks.memory:from_url",
    "odoo+http": "sinks.odoo.url:from_url",
    "odoo+https": "sinks.odoo.url:from_url",
    "postgresql": "sinks.postgres.url:from_url",
    "postgresql+psycopg": "sinks.postgres.url:from_url",
    "sqlite": "sinks.sqlite.url:from_url",
    "tryton+http": "sinks.tryton.url:from_url",
    "tryton+https": "sinks.tryton.url:from_url",
    "webhook+http": "sinks.webhook:from_url",
    "webhook+https": "sinks.webhook:from_url",
}


def open_sink(url: str, *, password: str | None = None) -> Sink:
    """Return the sink at `url`, not connected yet: call `check` or `ping` to see whether it can be used.

    The password is not part of the URL, which is visible in process lists and files. Raises SinkMisconfigured.
    """
    schemes = _schemes()
    known = "Known are " + ", ".join(f"{scheme}://…" for scheme in sorted(schemes)) + "."
    parsed = parse_url(url, hint=known)
    if parsed.drivername not in schemes:
        raise SinkMisconfigured(f"There is no sink for {parsed.drivername!r} URLs. {known}")
    if parsed.password or "password" in parsed.query:
        raise SinkMisconfigured(
            "The sink's URL contains a password. Take it out, and give it in TILLSTREAM_SINK_PASSWORD or "
            "sink_password_file."
        )
    from_url = schemes[parsed.drivername].load()
    sink: Sink = from_url(parsed if password is None else parsed.set(password=password))
    return sink


def _schemes() -> dict[str, EntryPoint]:
    """Return the entry point for each scheme. Packages can add schemes, and can't replace a built-in one."""
    installed = {point.name: point for point in entry_points(group=_GROUP)}
    return installed | {scheme: EntryPoint(scheme, target, _GROUP) for scheme, target in _FROM_URL.items()}
