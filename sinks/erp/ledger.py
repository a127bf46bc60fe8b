"""The database next to an ERP that a sink's parameter `ledger` names: its delivery log and its event log."""

from sqlalchemy import URL, create_engine

from sinks.erp.delivery_log import DeliveryLog, split_ledger
from sinks.erp.event_log import EventLog
from sinks.url import shown


def delivery_log_of(url: URL) -> DeliveryLog:
    """Return the delivery log of the sink at `url`, under that URL without parameters. Raises SinkMisconfigured."""
    bare, ledger = split_ledger(url)
    return DeliveryLog(ledger, shown(bare.set(query={}).render_as_string()))


def event_log_of(url: URL) -> EventLog:
    """Return the event log of the sink at `url`, in the same database. Raises SinkMisconfigured."""
    _, ledger = split_ledger(url)
    options = {"timeout": 10.0} if ledger.get_backend_name() == "sqlite" else {}
    return EventLog(create_engine(ledger, connect_args=options, hide_parameters=True))
