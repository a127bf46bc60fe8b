"""The contracts of the two data sets, against the events that `ops.simulator.data_sets` makes of the same rows."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ops.simulator.data_sets import completejourney, online_retail
from schemas.sale import SaleEvent
from streams.batch import Batch
from streams.decode import decode
from streams.sources.contracts import find_contract
from streams.sources.rows import rows_to_records
from streams.sources.source import load_source
from tests.support.events import FakeRecord
from tests.unit.simulator.test_data_sets import RETAIL, has_journey, has_retail


@dataclass
class Read:
    """Return the outcomes of a file's records under a contract."""

    events: dict[str, SaleEvent]
    skipped: list[str]
    rejected: list[str]


def read(name: str, lines: Iterable[bytes]) -> Read:
    source = load_source(find_contract(name), lambda _: ZoneInfo("UTC"))
    records = [FakeRecord(n, v) for n, (_, v) in enumerate(rows_to_records(lines, source.contract.group_by))]
    arrivals, rejected, noted = decode(Batch("t", 0, records), source)
    events = {arrival.event.receipt: arrival.event for arrival in arrivals}
    assert len(events) == len(arrivals)
    return Read(events, [skipped.why for skipped in noted], [fault.detail for fault in rejected])


def facts(event: SaleEvent) -> tuple[Any, ...]:
    """All but the descriptions, numbers as numbers."""
    lines = [
        (line["sku"].strip(), *(Decimal(line.get(name) or 0) for name in ("quantity", "unit_price", "amount")))
        for line in event.lines
    ]
    gross = Decimal(event.totals["gross"])
    return event.type, event.store, event.occurred_at, event.currency, event.customer, gross, lines


def same(found: SaleEvent, made: dict[str, Any]) -> bool:
    return facts(found) == facts(SaleEvent.model_validate_json(json.dumps(made)))


@has_journey
def test_baskets_of_a_day_are_the_events_of_the_data_set() -> None:
    made = {event["receipt"]: event for event in completejourney("2017-12-24", zone=UTC)}
    found = read("completejourney", transactions(list(made.values())))
    assert (found.skipped, found.rejected) == ([], [])
    assert found.events.keys() == made.keys()
    assert [receipt for receipt in made if not same(found.events[receipt], made[receipt])] == []


def transactions(events: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """The rows of these baskets as the package has them."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
    writer.writerow(names)
    for event in events:
        at = event["occurred_at"].removesuffix("+00:00")
        for line in event["lines"]:
            value = float(line["amount"])
            row = (event["customer"]["id"], event["store"], event["receipt"], line["sku"], line["quantity"], value, at)
            writer.writerow(row)
    yield from text.getvalue().encode().splitlines(keepends=True)


@has_retail
def test_invoices_of_a_month_are_the_events_of_the_data_set_without_what_is_no_sale() -> None:
    with gzip.open(RETAIL) as lines:
        found = read("online_retail", lines)
    made = {event["receipt"]: event for event in online_retail(RETAIL)}
    assert found.rejected == []
    assert set(found.skipped) == {"stock adjustment"}
    left_out = made.keys() - found.events.keys()
    assert len(left_out) == len(found.skipped)
    assert {Decimal(made[receipt]["totals"]["gross"]) for receipt in left_out} == {Decimal(0)}
    assert [receipt for receipt, event in found.events.items() if not same(event, made[receipt])] == []
