"""How cost grows with size: `python -m bench.growth`.

- The dedupe window, from ten thousand to ten million records in it: the CPU time of looking up and adding a batch, how
  much memory a record takes (of this process: the index, its chunks, and a table that keeps them), the longest time
  that any batch took, and how long a worker that comes back takes to load a million of them from its table.
- A receipt, from one line to fifty: the CPU time of the whole line, with a sink in memory.
- A backlog, of a million records by default, in a real Kafka, brought into a real PostgreSQL by a worker in
  a process of its own: the most memory that it ever has.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from rich import box
from rich.console import Console
from rich.table import Table

from bench.contenders import TILLSTREAM
from bench.generate import pos_job
from bench.inprocess import FakeRecord
from bench.race import ContenderFailed, Run, ending_in_words, run
from bench.results import LATEST, machine, write
from bench.servers import add_server_options, open_kafka, open_postgres
from bench.stopwatch import Stopwatch, timed_line
from bench.topics import Preloaded, leaving_no_topics
from sinks.memory import MemorySink
from streams.assembly import tune_interpreter
from streams.batch import Batch
from streams.decode import decode
from streams.dedupe import DIGEST, WindowIndex
from streams.pipeline import process
from tests.support.topics import Topics

RESULTS = LATEST.with_name("growth.json")
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LINES = (1, 2, 5, 10, 20, 50)
BATCH = 1500
#: Number of batches measured before each size is reached.
LAST = 100
DAY = 24 * 3600.0


@dataclass(frozen=True)
class WindowSize:
    """The window with `records` in it."""

    records: int
    split_cpu_us: float
    add_cpu_us: float
    bytes_per_record: float
    longest_batch_ms: float


@dataclass(frozen=True)
class ReceiptSize:
    """Receipts of `lines` lines."""

    lines: int
    cpu_us_per_event: float
    cpu_us_per_line: float


class TableInMemory:
    """Chunks as Faust's table keeps them in memory."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, tuple[float, float]], bytes] = {}

    def put(self, key: str, start: float, digests: bytes) -> None:
        """Keeps it."""
        self.data[key, (start, start + DAY)] = digests

    def forget(self, key: str, start: float) -> None:
        """Drops it."""
        del self.data[key, (start, start + DAY)]


@dataclass(frozen=True)
class Loading:
    """Load `records`; return the time it took."""

    records: int
    seconds: float


def window(sizes: Sequence[int]) -> tuple[list[WindowSize], Loading]:
    """Each size, reached by adding batch after batch; and the loading of (up to) a million records."""
    ((one, *_), _, _) = decode(Batch("bench", 0, [FakeRecord(0, *record[1:]) for record in pos_job(1).records]))
    chunks = TableInMemory()
    gc.collect()
    before = resident()
    index = WindowIndex(DAY, one.event.occurred_at.timestamp, chunks)
    found: list[WindowSize] = []
    longest = 0.0
    for size in sizes:
        times: list[tuple[float, float]] = []
        while len(index) < size:
            arrivals = [replace(one, digest=os.urandom(DIGEST)) for _ in range(BATCH)]
            started, begin = perf_counter(), process_time()
            fresh, _ = index.split(0, arrivals)
            middle = process_time()
            index.add(0, fresh)
            times.append((middle - begin, process_time() - middle))
            longest = max(longest, perf_counter() - started)
        split, add = (median(column) / BATCH * 1e6 for column in zip(*times[-LAST:], strict=True))
        gc.collect()
        a_record = (resident() - before) / len(index)
        found.append(
            WindowSize(len(index), round(split, 2), round(add, 2), round(a_record, 1), round(longest * 1e3, 1))
        )
    # Rows are what `TableChunks.load` reads from the table.
    rows = [(key, start, digests) for (key, (start, _)), digests in chunks.data.items()][: 1_000_000 // BATCH]
    again = WindowIndex(DAY, one.event.occurred_at.timestamp, chunks)
    started = perf_counter()
    again.load(rows)
    return found, Loading(len(again), round(perf_counter() - started, 3))


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def receipts(lines: Sequence[int]) -> list[ReceiptSize]:
    """The whole line, in batches of 300 receipts into a sink in memory: medians of 20 batches."""

    async def measure(count: int) -> ReceiptSize:
        seconds = []
        with timed_line(MemorySink(), Stopwatch()) as services:
            for number in range(20):
                values = [receipt(number * 300 + place, count) for place in range(300)]
                batch = Batch("bench", 0, [FakeRecord(offset, b"S000", value) for offset, value in enumerate(values)])
                started = process_time()
                settled = await process(batch, services)
                seconds.append(process_time() - started)
                if len(settled.delivered) != len(values):
                    raise ContenderFailed(f"{len(settled.delivered)} of {len(values)} receipts were delivered")
        event = median(seconds) / 300 * 1e6
        return ReceiptSize(count, round(event, 1), round(event / count, 1))

    return [asyncio.run(measure(count)) for count in lines]


def receipt(number: int, lines: int) -> bytes:
    """A sale of `lines` products at 1.19 each."""
    gross = f"{lines * 119 / 100:.2f}"
    return json.dumps(
        {
            "event_id": f"growth-{lines}-{number}",
            "source": "bench",
            "type": "sale",
            "store": "S000",
            "register": "1",
            "receipt": f"{lines}-{number}",
            "occurred_at": "2026-03-02T10:00:00Z",
            "currency": "EUR",
            "lines": [
                {
                    "sku": f"40063810{place:04}",
                    "description": f"Item no. {place}",
                    "quantity": "1",
                    "unit": "each",
                    "unit_price": "1.19",
                    "amount": "1.19",
                    "tax_rate": "19",
                }
                for place in range(lines)
            ],
            "tenders": [{"kind": "card", "amount": gross}],
            "totals": {"gross": gross, "net": f"{lines}.00", "tax": f"{lines * 19 / 100:.2f}"},
        }
    ).encode()


def backlog(events: int, kafka_at: str | None, postgres_at: str | None) -> Run:
    """A worker on a backlog. Raises ServerError and ContenderFailed."""
    with open_kafka(kafka_at) as bootstrap, open_postgres(postgres_at) as postgres:
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka):
            return run(TILLSTREAM, Preloaded(kafka, pos_job(events)), postgres)


def tables(windows: Sequence[WindowSize], load: Loading, sizes: Sequence[ReceiptSize], run: Run | None) -> list[Table]:
    """All of it."""
    shown = Table(
        title="The dedupe window",
        caption=f"{load.records:,} records are loaded in {load.seconds:.2f} s",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("records", "split µs CPU", "add µs CPU", "bytes/record", "longest batch ms"):
        shown.add_column(heading, justify="right")
    for one in windows:
        shown.add_row(
            f"{one.records:,}",
            f"{one.split_cpu_us:.2f}",
            f"{one.add_cpu_us:.2f}",
            f"{one.bytes_per_record:.0f}",
            f"{one.longest_batch_ms:.0f}",
        )
    receipts_shown = Table(title="A receipt, with a sink in memory", box=box.SIMPLE_HEAD)
    for heading in ("lines", "µs CPU/event", "µs CPU/line"):
        receipts_shown.add_column(heading, justify="right")
    for size in sizes:
        receipts_shown.add_row(str(size.lines), f"{size.cpu_us_per_event:.0f}", f"{size.cpu_us_per_line:.1f}")
    if run is None:
        return [shown, receipts_shown]
    backlog_shown = Table(title="A backlog", box=box.SIMPLE_HEAD)
    for heading in ("events", "events/s", "CPU s", "peak RSS MB", "exact"):
        backlog_shown.add_column(heading, justify="right")
    exact = "yes" if run.exact else "NO"
    backlog_shown.add_row(f"{run.events:,}", f"{run.events_per_s:,.0f}", f"{run.cpu_s:.1f}", f"{run.rss_mb:.0f}", exact)
    return [shown, receipts_shown, backlog_shown]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured. 1: the worker failed, or its result is not exact. 3: a server can't be had or reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="What grows with what.")
    parser.add_argument("--ids", type=int, default=SIZES[-1], help="most records in the window (%(default)s)")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="records; 0: none (%(default)s)")
    add_server_options(parser)
    options = parser.parse_args(arguments)
    console = Console()
    tune_interpreter()
    with ending_in_words():
        windows, load = window([size for size in SIZES if size <= options.ids])
        sizes = receipts(LINES)
        carried = backlog(options.backlog, options.kafka, options.postgres) if options.backlog else None
    for shown in tables(windows, load, sizes, carried):
        console.print(shown)
    if options.ids == SIZES[-1] and carried is not None:
        growth = {
            "window": [asdict(one) for one in windows],
            "loading": asdict(load),
            "receipts": [asdict(one) for one in sizes],
            "backlog": asdict(carried),
        }
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write({"machine": machine(), "date": now, "growth": growth}, RESULTS)
    return 0 if carried is None or carried.exact else 1


if __name__ == "__main__":
    sys.exit(main())
