"""`odoo+https://LOGIN@HOST/DATABASE?company=…&journal=…&customer=…` as a sink."""

from sqlalchemy import URL

from sinks.base import SinkMisconfigured
from sinks.erp.ledger import delivery_log_of, event_log_of
from sinks.erp.sink import ErpSink
from sinks.http import HttpClient
from sinks.odoo.checks import OdooDefaults
from sinks.odoo.rpc import OdooClient
from sinks.odoo.sink import OdooSystem
from sinks.url import existing_file, http_root, positive_integer, url_parameters


def from_url(url: URL) -> ErpSink:
    """Return the sink for one company of a database. Raises SinkMisconfigured."""
    root = http_root(url)
    states, events = delivery_log_of(url), event_log_of(url)
    params = url_parameters(url, "ledger", "ca_file", "insecure", "company", "journal", "customer", "rounding_account")
    if not url.username or not url.password or not url.database:
        raise SinkMisconfigured(
            "Odoo needs a login and a database, odoo+https://LOGIN@host/DATABASE, and an API key in "
            "TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if not params.keys() >= {"company", "journal", "customer"}:
        raise SinkMisconfigured(
            "An Odoo sink needs company=NAME, journal=CODE and customer=ID (of a partner) in its URL."
        )
    customer = positive_integer(params, "customer", 0)
    defaults = OdooDefaults(params["company"], params["journal"], customer, params.get("rounding_account"))
    http = HttpClient(root, headers={}, ca_file=existing_file(params.get("ca_file")))
    client = OdooClient(http, url.database, url.username, str(url.password))
    return ErpSink(OdooSystem(client, defaults), states, events)
