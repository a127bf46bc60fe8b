"""Where the time of the line goes, without Kafka: `python -m bench.inprocess`.

The whole POS job goes through `streams.pipeline.process` in batches of one partition, into a real PostgreSQL, with the
garbage collector tuned as in a worker. Every step is timed where the line calls it, so the figures are those of the
line itself. Per step: wall time, and the CPU time of this process within it. For all steps but the write the two are
the same on an idle machine; where they differ, the machine was busy. For the write the difference is the server's time.
"""

import argparse
import asyncio
import gc
import statistics
import sys
from collections.abc import Iterator, Sequence
from time import perf_counter

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from bench.generate import PARTITIONS, Job, pos_job
from bench.servers import POSTGRES_HELP, fresh_database, open_postgres
from bench.stopwatch import Stopwatch, timed_line
from deploy.processes import ServerError
from sinks.registry import open_sink
from sinks.url import shown
from streams.assembly import tune_interpreter
from streams.batch import Batch
from streams.pipeline import process

BATCH = 1500


class FakeRecord:
    """A record as the consumer delivers it."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self.offset = offset
        self.timestamp = 1_772_400_000_000
        self.key: bytes | None = key
        self.value: bytes | None = value
        self.headers: Sequence[tuple[str, bytes]] = ()


def batches(job: Job, size: int) -> Iterator[Batch]:
    """The job as its partitions deliver it, in turn, with records made only when they are asked for."""
    queues: list[list[tuple[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
    for partition, key, value in job.records:
        queues[partition].append((key, value))
    for start in range(0, max(map(len, queues)), size):
        for partition, queue in enumerate(queues):
            part = queue[start : start + size]
            if part:
                yield Batch("bench", partition, [FakeRecord(start + n, *record) for n, record in enumerate(part)])


def run_once(job: Job, url: str, size: int) -> tuple[Stopwatch, float]:
    """One pass of the job into the database at `url`: what each step took, and the wall time of all."""
    sink = open_sink(shown(url), password=make_url(url).password)
    wrong = [finding for finding in sink.check(apply=True) if not finding.ok]
    if wrong:
        raise ServerError(f"the database can't be used: {wrong}")
    watch = Stopwatch()

    async def run() -> float:
        seconds = 0.0
        with timed_line(sink, watch) as services:
            tune_interpreter()
            for batch in batches(job, size):
                started = perf_counter()
                with watch.span("whole line"):
                    settled = await process(batch, services)
                seconds += perf_counter() - started
                watch.delivered += len(settled.delivered)
        return seconds

    try:
        return watch, asyncio.run(run())
    finally:
        sink.close()
        gc.unfreeze()


def show(console: Console, runs: list[Stopwatch], events: int) -> None:
    """The table: medians over the runs, microseconds an event."""
    table = Table(title=f"The line, µs an event (medians of {len(runs)} runs of {events:,} events)")
    for heading in ("step", "wall", "CPU", "CPU, least and most"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for step in runs[0].wall:
        wall = [run.wall[step] / events * 1e6 for run in runs]
        cpu = [run.cpu[step] / events * 1e6 for run in runs]
        spread = f"{min(cpu):.1f} - {max(cpu):.1f}"
        table.add_row(step, f"{statistics.median(wall):.1f}", f"{statistics.median(cpu):.1f}", spread)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print the table; return 0 when every run delivered exactly the expected documents, 1 if not, 3 without
    PostgreSQL."""
    parser = argparse.ArgumentParser(prog="python -m bench.inprocess", description="Where the time of the line goes.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH, help="records handled together (%(default)s)")
    parser.add_argument("--postgres", metavar="URL", help=POSTGRES_HELP)
    options = parser.parse_args(arguments)
    console = Console()
    job = pos_job(options.events)
    runs = []
    try:
        with open_postgres(options.postgres) as postgres:
            for number in range(options.rounds):
                with fresh_database(postgres) as url:
                    watch, seconds = run_once(job, url, options.batch)
                runs.append(watch)
                console.print(f"run {number + 1}: {options.events / seconds:,.0f} events/s, one partition at a time")
    except (ServerError, psycopg.OperationalError) as error:
        print(error, file=sys.stderr)
        return 3
    show(console, runs, options.events)
    exact = all(run.delivered == job.expected_delivered for run in runs)
    console.print(f"exact: {exact}")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
