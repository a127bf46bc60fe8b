"""Open the sinks that are not SQL tables by their URLs: a topic, a webhook, an ERP behind an API.

All raise SinkMisconfigured for an invalid URL.
"""

import re
from pathlib import Path

from confluent_kafka import KafkaException
from sqlalchemy import URL, create_engine

from sinks.base import Sink, SinkMisconfigured
from sinks.erp.delivery_log import DeliveryLog, split_ledger
from sinks.erp.event_log import EventLog
from sinks.erp.sink import ErpSink
from sinks.erpnext.checks import ErpNextDefaults
from sinks.erpnext.sink import ErpNextSystem
from sinks.http import HttpClient, require_file, root_of
from sinks.kafka.sink import KafkaSink
from sinks.odoo.checks import OdooDefaults
from sinks.odoo.rpc import OdooClient
from sinks.odoo.sink import OdooSystem
from sinks.registry import open_sink, shown
from sinks.sql.sink import SqlSink
from sinks.tryton.sink import TrytonSink
from sinks.webhook import WebhookSink


def kafka(url: URL) -> Sink:
    """`kafka://[USER@]HOST:PORT/TOPIC`."""
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
    try:
        return KafkaSink(config, url.database, index=index, wanted=wanted)
    except KafkaException as error:  # names the setting, and not the password
        raise SinkMisconfigured(
            f"The Kafka client does not take what the sink's URL says: {error.args[0].str()}"
        ) from None


def webhook(url: URL) -> Sink:
    """`https://HOST/PATH`."""
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
    http = HttpClient(root, headers={}, ca_file=require_file(said.get("ca_file")))
    states = DeliveryLog(ledger, shown(url.set(query={}).render_as_string()))
    journal = open_sink(ledger.render_as_string())
    assert isinstance(journal, SqlSink)  # as ledgers are
    return WebhookSink(
        http, f"/{url.database or ''}", str(url.password), journal, states, batch=batch, parallel=parallel
    )


def tryton(url: URL) -> Sink:
    """`tryton+https://USER@HOST/DATABASE`."""
    url, ledger = split_ledger(url)
    said = parameters(url, "ledger", "point", "rounding")
    if not (url.username and url.host and url.database):
        raise SinkMisconfigured("A Tryton sink needs a user, a host and a database: tryton+https://user@host/database.")
    if not url.password:
        raise SinkMisconfigured(
            "A Tryton sink needs the user's password in TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    plain = url.set(drivername=url.drivername.removeprefix("tryton+"), query={})
    states = DeliveryLog(ledger, shown(url.set(query={}).render_as_string()))
    return TrytonSink(plain, states, **said)


def erpnext(url: URL) -> Sink:
    """`erpnext+https://KEY@HOST?company=…&customer=…`."""
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
    defaults = ErpNextDefaults(
        **{name: value for name, value in said.items() if name in own[:5]},
        update_stock=said.get("update_stock", "yes") != "no",
        precision=whole(said, "precision", 2),
    )
    headers = {"Authorization": f"token {url.username}:{url.password}"}
    return ErpSink(
        ErpNextSystem(HttpClient(root, headers=headers, ca_file=require_file(said.get("ca_file"))), defaults),
        ledger,
        events,
    )


def odoo(url: URL) -> Sink:
    """`odoo+https://LOGIN@HOST/DATABASE?company=…&journal=…&customer=…`."""
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
    places = OdooDefaults(said["company"], said["journal"], whole(said, "customer", 0), said.get("rounding_account"))
    http = HttpClient(root, headers={}, ca_file=require_file(said.get("ca_file")))
    return ErpSink(OdooSystem(OdooClient(http, url.database, url.username, str(url.password)), places), ledger, events)


def _ledger(url: URL) -> tuple[DeliveryLog, EventLog]:
    """Open the logs kept next to an ERP, in the database that the URL's parameter `ledger` names."""
    bare, ledger = split_ledger(url)
    options = {"timeout": 10.0} if ledger.get_backend_name() == "sqlite" else {}
    engine = create_engine(ledger, connect_args=options, hide_parameters=True)
    return DeliveryLog(ledger, shown(bare.set(query={}).render_as_string())), EventLog(engine)


def parameters(url: URL, *known: str, many: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the query parameters of a URL; those of `many` may be repeated and are joined with commas.

    Raises SinkMisconfigured for an unknown parameter, so that a misspelt one is not silently ignored.
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
    """Return a parameter that is a whole number above 0. Raises SinkMisconfigured."""
    value = said.get(name, str(default))
    if not re.fullmatch(r"[1-9]\d{0,8}", value):
        raise SinkMisconfigured(f"The parameter {name} in the sink's URL is not a whole number above 0.")
    return int(value)
