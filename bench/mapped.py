"""The cost of a contract: `python -m bench.mapped`.

The same receipts, of three lines each, as canonical JSON and as a source of its own would send them: other names,
cents, nested. The processor time of `decode`, in batches of 300 as the line has them, by turns; medians of 30 batches.
The extra time of the mapped ones is the price of the contract: its paths and conversions.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console
from rich.table import Table

from bench.generate import pos_job
from bench.inprocess import FakeRecord
from streams.assembly import tune_interpreter
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.sources.source import Source, load_source

BATCH, BATCHES = 300, 30
CONTRACT = Path(__file__).with_name("mapped.yaml")


@dataclass(frozen=True)
class Cost:
    """µs of processor time an event."""

    canonical: float
    mapped: float


def measure(source: Source) -> Cost:
    """Both ways by turns, on the same receipts."""
    values = [value for _, _, value in pos_job(BATCH * BATCHES).records]
    good = [value for value in values if sound(value)]
    times: tuple[list[float], list[float]] = ([], [])
    for start in range(0, len(good) - BATCH, BATCH):
        said = good[start : start + BATCH]
        for way, (records, by) in enumerate(((said, None), ([as_source(value) for value in said], source))):
            started = process_time()
            arrivals, rejected, _ = decode(batch(records), by)
            times[way].append((process_time() - started) / BATCH * 1e6)
            assert len(arrivals) == BATCH, rejected[:3]
    return Cost(*(round(median(column), 1) for column in times))


def sound(value: bytes) -> bool:
    """Whether it is one of the receipts that are right."""
    arrivals, _, _ = decode(batch([value]))
    return bool(check(arrivals, arrivals[0].event.occurred_at)[0]) if arrivals else False


def batch(values: Sequence[bytes]) -> Batch:
    """Records of these values."""
    return Batch("bench", 0, [FakeRecord(offset, b"", value) for offset, value in enumerate(values)])


def as_source(value: bytes) -> bytes:
    """The receipt as another till would send it."""
    event = json.loads(value)
    return json.dumps(
        {
            "meta": {"id": event["event_id"], "branch": event["store"], "till": event["register"]},
            "bon": {"no": event["receipt"], "at": event["occurred_at"], "currency": event["currency"]},
            "kind": {"sale": "S", "return": "R"}[event["type"]],
            "items": [
                {
                    "article": {"ean": line["sku"], "name": line.get("description", "")},
                    "qty": line["quantity"],
                    "price_cents": cents(line["unit_price"]),
                    "sum_cents": cents(line["amount"]),
                    "vat": line["tax_rate"],
                }
                for line in event["lines"]
            ],
            "paid": [{"by": tender["kind"], "cents": cents(tender["amount"])} for tender in event["tenders"]],
            "sum": {"gross": cents(event["totals"]["gross"])},
        }
    ).encode()


def cents(amount: str) -> int:
    """Of euros."""
    whole, _, places = amount.partition(".")
    return int(whole + places.ljust(2, "0"))


def main() -> int:
    """0: measured."""
    tune_interpreter()
    cost = measure(load_source(CONTRACT, lambda _: ZoneInfo("UTC")))
    shown = Table(title="Decoding an event of 3 lines, µs of processor time", box=box.SIMPLE_HEAD)
    for heading in ("canonical", "by a contract", "more"):
        shown.add_column(heading, justify="right")
    shown.add_row(f"{cost.canonical:.1f}", f"{cost.mapped:.1f}", f"{cost.mapped - cost.canonical:.1f}")
    Console().print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
