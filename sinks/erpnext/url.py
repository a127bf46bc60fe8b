"""`erpnext+https://KEY@HOST?company=…&customer=…` as a sink."""

from sqlalchemy import URL

from sinks.base import SinkMisconfigured
from sinks.erp.ledger import delivery_log_of, event_log_of
from sinks.erp.sink import ErpSink
from sinks.erpnext.checks import ErpNextDefaults
from sinks.erpnext.sink import ErpNextSystem
from sinks.http import HttpClient
from sinks.url import existing_file, http_root, positive_integer, url_parameters

_NAMES = ("company", "customer", "warehouse", "tax_account", "rounding_account")


def from_url(url: URL) -> ErpSink:
    """Return the sink for a site, as the user of the API key. Raises SinkMisconfigured."""
    root = http_root(url)
    states, events = delivery_log_of(url), event_log_of(url)
    params = url_parameters(url, "ledger", "ca_file", "insecure", *_NAMES, "update_stock", "precision")
    if not url.username or not url.password:
        raise SinkMisconfigured(
            "ERPNext needs an API key as the user, erpnext+https://KEY@host, and the API secret in "
            "TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if url.database or "company" not in params or "customer" not in params:
        raise SinkMisconfigured("An ERPNext sink is erpnext+https://KEY@host?company=…&customer=…, without a path.")
    defaults = ErpNextDefaults(
        **{name: value for name, value in params.items() if name in _NAMES},
        update_stock=params.get("update_stock", "yes") != "no",
        precision=positive_integer(params, "precision", 2),
    )
    headers = {"Authorization": f"token {url.username}:{url.password}"}
    http = HttpClient(root, headers=headers, ca_file=existing_file(params.get("ca_file")))
    return ErpSink(ErpNextSystem(http, defaults), states, events)
