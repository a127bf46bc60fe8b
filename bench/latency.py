"""How long a sale takes from the till's producer to the ERP: `python -m bench.latency`.

Events are produced one by one at a fixed rate into a real Kafka, a worker in a process of its own brings them into a
real PostgreSQL with fsync on. An event's latency is the time from its record's timestamp, which the producer sets, to
its transaction's commit timestamp. Both are the same machine's clock, to the millisecond; the flush of the commit
itself, which a reader of the database also waits for, comes after its timestamp and is not in it.

Measured at 100 events a second and at half of what `bench/results/latest.json` says is the full rate. Everything is
measured from when the worker is warm on; events that repeat another one or are bad count for nothing.
"""

import argparse
import json
import math
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import psycopg
from confluent_kafka import KafkaException, Message, Producer
from rich import box
from rich.console import Console
from rich.table import Table

from bench.contenders import TILLSTREAM
from bench.generate import PARTITIONS, pos_job
from bench.race import ContenderFailed, ending_in_words, has_begun, libpq, new_task, started
from bench.results import LATEST, machine, write
from bench.servers import add_server_options, fresh_database, open_kafka, open_postgres
from bench.topics import leaving_no_topics, preload
from tests.support.postgres_server import Postgres
from tests.support.topics import Topics

RESULTS = LATEST.with_name("latency.json")
#: Seconds at the same rate before the measurement.
WARM_UP = 5


@dataclass(frozen=True)
class Latency:
    """At one rate, in milliseconds. `reached` is the rate that the producer really kept."""

    rate: float
    reached: float
    events: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def measure(kafka: Topics, postgres: Postgres, rate: float, seconds: float) -> Latency:
    """One worker at `rate` events a second for `seconds`. Raises ContenderFailed."""
    job = pos_job(int(rate * (seconds + WARM_UP)))
    warm = int(rate * WARM_UP)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, PARTITIONS)
    with fresh_database(postgres) as url:
        task = new_task(TILLSTREAM, kafka, topic, url)
        with started(TILLSTREAM, task) as worker:
            preload(kafka.bootstrap, topic, job.records[:1])
            worker.wait_until(lambda: has_begun(task))
            produced = produce(kafka.bootstrap, topic, job.records[1:], rate)
            worker.wait_until(lambda: kafka.lag(task.group, topic) == 0)
        committed = commit_times(url)
    if len(committed) != job.expected_delivered:
        raise ContenderFailed(f"{len(committed)} documents instead of {job.expected_delivered}")
    sent = [at for _, at in produced[warm:]]
    firsts = dict(reversed(produced))
    measured = {event_id for event_id, _ in produced[warm:]} - {event_id for event_id, _ in produced[:warm]}
    latencies = sorted(committed[event_id] - firsts[event_id] for event_id in measured & committed.keys())
    return Latency(
        rate=rate,
        reached=round((len(sent) - 1) / (sent[-1] - sent[0]) * 1000, 1),
        events=len(latencies),
        p50_ms=round(quantile(latencies, 0.5), 1),
        p99_ms=round(quantile(latencies, 0.99), 1),
        max_ms=round(latencies[-1], 1),
    )


def produce(
    bootstrap: str, topic: str, records: Sequence[tuple[int, bytes, bytes]], rate: float
) -> list[tuple[str, float]]:
    """Sends each record when its time has come; returns (identity, timestamp in ms) of each, in order.

    Lets nothing linger, and waits for its confirmations at the end.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    timestamps: list[float] = []

    def confirmed(error: object, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)

    started_at = time.monotonic()
    for number, (partition, key, value) in enumerate(records):
        wait = started_at + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        timestamps.append(time.time() * 1000)
        producer.produce(topic, value, key, partition, confirmed, int(timestamps[-1]))
        producer.poll(0)
    if producer.flush(30):
        raise ContenderFailed("the broker did not confirm every record")
    return [(identity(value), at) for (_, _, value), at in zip(records, timestamps, strict=True)]


def identity(value: bytes) -> str:
    """The document's name for the event: the job begins every value with the event's id."""
    return f"bench:{value[13:45].decode()}"


def commit_times(url: str) -> dict[str, float]:
    """When each document became visible, in milliseconds since 1970."""
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute(
            "SELECT event_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 FROM documents"
        ).fetchall()
    return dict(rows)


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    return sorted_values[math.ceil(len(sorted_values) * share) - 1]


def table(measured: Sequence[Latency]) -> Table:
    """One row for each rate."""
    shown = Table(title="From the till's producer to the commit in PostgreSQL, ms", box=box.SIMPLE_HEAD)
    for heading in ("events/s", "reached", "events", "p50", "p99", "max"):
        shown.add_column(heading, justify="right")
    for one in measured:
        shown.add_row(
            f"{one.rate:,.0f}",
            f"{one.reached:,.0f}",
            f"{one.events:,}",
            *(f"{milliseconds:,.0f}" for milliseconds in (one.p50_ms, one.p99_ms, one.max_ms)),
        )
    return shown


def half_rate() -> float:
    """Half of Tillstream's rate in the last benchmark."""
    return float(json.loads(LATEST.read_text())["rivals"]["tillstream"]["events_per_s"]) / 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured. 1: the worker failed. 3: a server can't be had or reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description="From the till to the ERP.")
    parser.add_argument(
        "--rate",
        type=float,
        action="append",
        metavar="N",
        help="events a second; may be given again (default: 100, and half of the full rate in the last benchmark)",
    )
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement (%(default)s)")
    add_server_options(parser)
    options = parser.parse_args(arguments)
    console = Console()
    measured = []
    with ending_in_words(), open_kafka(options.kafka) as bootstrap, open_postgres(options.postgres) as postgres:
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka):
            for rate in options.rate or [100, half_rate()]:
                console.print(f"{rate:,.0f} events/s for {options.seconds:.0f} s …")
                measured.append(measure(kafka, postgres, rate, options.seconds))
    console.print(table(measured))
    if options.rate is None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write({"machine": machine(), "date": now, "latency": [asdict(one) for one in measured]}, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
