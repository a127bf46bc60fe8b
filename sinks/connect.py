"""`open_sink(url)`: the sink that a URL names. `shown(url)`: that URL without what must not be seen."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from sinks.base import Sink, SinkMisconfigured

if TYPE_CHECKING:
    from sinks.events import Events
    from sinks.ledger import Ledger

#: Parameters that are secret by their name, misspelt and future ones included.
_SECRET = re.compile("pass|pwd|secret|scram", re.IGNORECASE)

#: Those of PostgreSQL's parameters that are whole numbers and that people set.
_NUMBERS = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")


def open_sink(url: str, *, password: str | None = None) -> Sink:
    """The sink at `url`, not connected yet: `check` and `ping` tell whether it can be used.

    The password is no part of the URL, which is seen in process lists and files. Raises SinkMisconfigured.
    """
    parsed = parsed_url(url)
    scheme = parsed.drivername
    if scheme not in _SCHEMES:
        raise SinkMisconfigured(f"There is no sink for {scheme!r} URLs. {_known()}")
    if parsed.password or "password" in parsed.query:
        raise SinkMisconfigured(
            "The sink's URL contains a password. Take it out, and give it in TILLSTREAM_SINK_PASSWORD or "
            "sink_password_file."
        )
    return _SCHEMES[scheme](parsed if password is None else parsed.set(password=password))


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
    return "Known are " + ", ".join(f"{scheme}://…" for scheme in sorted(_SCHEMES)) + "."


def _memory(url: URL) -> Sink:
    from sinks.memory import MemorySink

    return MemorySink()


def _sqlite(url: URL) -> Sink:
    from sinks.sqlite import SqliteSink

    if url.query:
        raise SinkMisconfigured("The URL of an SQLite sink takes no parameters: leave out what begins with '?'.")
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
    url = url.set(drivername="postgresql+psycopg")
    _require_parameters(url)
    return PostgresSink(url)


def _kafka(url: URL) -> Sink:
    from sinks.kafka import KafkaSink

    said = parameters(
        url, "broker", "index", "partitions", "replication_factor", "protocol", "mechanism", "ca_file", many=("broker",)
    )
    if not url.host or not url.database or "/" in url.database:
        raise SinkMisconfigured("A Kafka sink needs a broker and a topic: kafka://host:9092/pos.documents.")
    protocol = said.get("protocol", "SASL_SSL" if url.username else "SSL" if "ca_file" in said else "PLAINTEXT")
    brokers = [f"{url.host}:{url.port or 9092}", *filter(None, said.get("broker", "").split(","))]
    config = {"bootstrap.servers": ",".join(brokers), "security.protocol": protocol}
    if url.username:
        mechanism = said.get("mechanism", "SCRAM-SHA-512")
        config |= {"sasl.username": url.username, "sasl.password": str(url.password or ""), "sasl.mechanism": mechanism}
    if "ca_file" in said:
        config["ssl.ca.location"] = said["ca_file"]
    index = Path(said["index"]) if "index" in said else None
    if index is not None and not index.absolute().parent.is_dir():
        raise SinkMisconfigured(f"The folder of the index does not exist: {index.absolute().parent}. Create it.")
    wanted = whole(said, "partitions", 4), whole(said, "replication_factor", 1)
    return KafkaSink(config, url.database, index=index, wanted=wanted)


def _webhook(url: URL) -> Sink:
    from sinks.http import Http, require_file, root_of
    from sinks.ledger import Ledger, split_ledger
    from sinks.webhook import WebhookSink

    root = root_of(url, insecure=url.query.get("insecure") == "yes")
    if not url.password:
        raise SinkMisconfigured(
            "A webhook needs a secret to sign with: TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if url.username:
        raise SinkMisconfigured("A webhook is signed and takes no user: leave it out of the sink's URL.")
    url, ledger = split_ledger(url)
    said = parameters(url, "ledger", "batch", "parallel", "ca_file", "insecure")
    batch, parallel = whole(said, "batch", 1), whole(said, "parallel", 4)
    http = Http(root, headers={}, ca_file=require_file(said.get("ca_file")))
    states = Ledger(ledger, shown(url.set(query={}).render_as_string()))
    journal = _SCHEMES[ledger.drivername](ledger)
    return WebhookSink(
        http, f"/{url.database or ''}", str(url.password), journal, states, batch=batch, parallel=parallel
    )


def _erpnext(url: URL) -> Sink:
    from sinks.erp import ErpSink
    from sinks.erpnext import Defaults, ErpNext
    from sinks.http import Http, require_file, root_of

    root = root_of(url, insecure=url.query.get("insecure") == "yes")
    ledger, events = _ledger(url)
    own = ("company", "customer", "warehouse", "tax_account", "rounding_account", "update_stock", "precision")
    said = parameters(url, "ledger", "ca_file", "insecure", *own)
    if not url.username or not url.password:
        raise SinkMisconfigured(
            "ERPNext needs an API key as the user, erpnext+https://KEY@host, and the API secret in "
            "TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if url.database or "company" not in said or "customer" not in said:
        raise SinkMisconfigured("An ERPNext sink is erpnext+https://KEY@host?company=…&customer=…, without a path.")
    defaults = Defaults(
        **{name: value for name, value in said.items() if name in own[:5]},
        update_stock=said.get("update_stock", "yes") != "no",
        precision=whole(said, "precision", 2),
    )
    headers = {"Authorization": f"token {url.username}:{url.password}"}
    return ErpSink(
        ErpNext(Http(root, headers=headers, ca_file=require_file(said.get("ca_file"))), defaults), ledger, events
    )


def _odoo(url: URL) -> Sink:
    from sinks.erp import ErpSink
    from sinks.http import Http, require_file, root_of
    from sinks.odoo import Odoo
    from sinks.odoochecks import Places
    from sinks.odoorpc import OdooClient

    root = root_of(url, insecure=url.query.get("insecure") == "yes")
    ledger, events = _ledger(url)
    own = ("company", "journal", "customer", "rounding_account")
    said = parameters(url, "ledger", "ca_file", "insecure", *own)
    if not url.username or not url.password or not url.database:
        raise SinkMisconfigured(
            "Odoo needs a login and a database, odoo+https://LOGIN@host/DATABASE, and an API key in "
            "TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if not said.keys() >= {"company", "journal", "customer"}:
        raise SinkMisconfigured(
            "An Odoo sink needs company=NAME, journal=CODE and customer=ID (of a partner) in its URL."
        )
    places = Places(said["company"], said["journal"], whole(said, "customer", 0), said.get("rounding_account"))
    http = Http(root, headers={}, ca_file=require_file(said.get("ca_file")))
    return ErpSink(Odoo(OdooClient(http, url.database, url.username, str(url.password)), places), ledger, events)


def _ledger(url: URL) -> "tuple[Ledger, Events]":
    """What is kept beside an ERP, in the database that the URL's parameter `ledger` names."""
    from sqlalchemy import create_engine

    from sinks.events import Events
    from sinks.ledger import Ledger, split_ledger

    bare, ledger = split_ledger(url)
    options = {"timeout": 10.0} if ledger.get_backend_name() == "sqlite" else {}
    engine = create_engine(ledger, connect_args=options, hide_parameters=True)
    return Ledger(ledger, shown(bare.set(query={}).render_as_string())), Events(engine)


def parameters(url: URL, *known: str, many: tuple[str, ...] = ()) -> dict[str, str]:
    """What stands after the '?' of a URL; those of `many` may stand there several times and are joined with commas.

    Raises SinkMisconfigured for what is not known, so that a misspelt parameter is not just without effect.
    """
    unknown = sorted(set(url.query) - set(known))
    if unknown:
        raise SinkMisconfigured(
            f"The sink's URL has a parameter that is not known: {unknown[0]}. Known are {', '.join(known)}."
        )
    repeated = sorted(name for name, value in url.query.items() if not isinstance(value, str) and name not in many)
    if repeated:
        raise SinkMisconfigured(f"The parameter {repeated[0]} stands twice in the sink's URL.")
    return {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}


def whole(said: dict[str, str], name: str, default: int) -> int:
    """A parameter that is a whole number above 0. Raises SinkMisconfigured."""
    value = said.get(name, str(default))
    if not re.fullmatch(r"[1-9]\d{0,5}", value):
        raise SinkMisconfigured(f"The parameter {name} in the sink's URL is not a whole number above 0.")
    return int(value)


def _require_parameters(url: URL) -> None:
    """Returns if the parameters make sense, as far as that can be told without a server."""
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
    "http": _webhook,
    "https": _webhook,
    "webhook+http": _webhook,
    "webhook+https": _webhook,
}
