"""Speed of replaying dead letters, compared with the line itself: `python -m bench.replay`.

The events of the POS job are in a dead-letter topic as dead letters, and in a source topic as they are. `tillstream dlq
replay` brings the former into a fresh database, a worker the latter, in the same run, one after the other, and which of
them is the first changes from round to round. The clock is the database's own, as in `bench.race`; listing 100,000 dead
letters and the dry run, which has a database of its own (it leaves work for a vacuum), are timed from outside.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer
from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import URL, make_url

from bench.contenders import TILLSTREAM
from bench.generate import PARTITIONS, Job, pos_job
from bench.latency import commit_times
from bench.race import ContenderFailed, ending_in_words, run
from bench.results import LATEST, machine, write
from bench.servers import add_server_options, fresh_database, open_kafka, open_postgres
from bench.topics import Preloaded, leaving_no_topics
from schemas.dead_letter import Reason
from sinks.registry import open_sink
from streams.batch import Rejection
from streams.dead_letters.record import dead_letter_record
from tests.support.events import FakeRecord
from tests.support.postgres_server import Postgres
from tests.support.topics import Topics

RESULTS = LATEST.with_name("replay.json")
Settings = dict[str, Any]


def put_letters(kafka: Topics, job: Job) -> str:
    """The job's records as dead letters in a topic of their own; its name."""
    topic = f"bench-{uuid.uuid4().hex[:8]}.dlq"
    kafka.create_topic(topic, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": len(job.records) + 1})
    now = datetime.now(UTC)
    offsets = dict.fromkeys(range(PARTITIONS), 0)
    for partition, key, value in job.records:
        record = FakeRecord(offsets[partition], value, key)
        offsets[partition] += 1
        made = dead_letter_record(
            Rejection(record, Reason.UNKNOWN_STORE, "store: not_in_settings", "map"), "bench", partition, now
        )
        producer.produce(topic, made.value, made.key, partition, headers=list(made.headers))
        producer.poll(0)
    if producer.flush(120):
        raise ContenderFailed("the letters are not confirmed")
    return topic


def settings(kafka: Topics, topic: str, url: str, folder: Path) -> Path:
    """A settings file for the tools; the database has its tables, for a dry run makes none."""
    database = make_url(url)
    (folder / "password").write_text(database.password or "")
    plain = URL.create("postgresql", database.username, None, database.host, database.port, database.database)
    with closing(open_sink(plain.render_as_string(), password=database.password)) as sink:
        sink.check(apply=True)
    path = folder / "tillstream.yaml"
    path.write_text(
        json.dumps(
            {
                "broker": kafka.bootstrap,
                "topic": "bench",
                "dead_letter_topic": topic,
                "parked_topic": f"{topic}.parked",
                "audit_topic": f"{topic}.audit",
                "sink_url": plain.render_as_string(),
                "sink_password_file": str(folder / "password"),
            }
        )
    )
    return path


def timed(*arguments: str) -> tuple[float, Any]:
    """Run a command; return (seconds, its JSON output)."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "dlq", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise ContenderFailed(done.stderr)
    return time.monotonic() - begun, json.loads(done.stdout)


def measure(kafka: Topics, postgres: Postgres, job: Job, line_first: bool) -> dict[str, float]:
    """One round. Raises ContenderFailed when the outcome differs from the job."""
    topic = put_letters(kafka, job)
    preloaded = Preloaded(kafka, job)
    with tempfile.TemporaryDirectory() as folder, fresh_database(postgres) as url:
        config = str(settings(kafka, topic, url, Path(folder)))
        stats, found = timed("stats", "--config", config)
        dry, would = timed("replay", "--config", config)
    if found["open"] != len(job.records):
        raise ContenderFailed(f"{found['open']} letters are open, and not {len(job.records)}")

    def line() -> float:
        os.sync()  # earlier writes would be flushed during the measurement
        return run(TILLSTREAM, preloaded, postgres).events_per_s

    def replay() -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder, fresh_database(postgres) as url:
            config = str(settings(kafka, topic, url, Path(folder)))
            os.sync()
            whole, done = timed("replay", "--config", config, "--go")
            times = sorted(commit_times(url).values())
        if len(times) != job.expected_delivered or not done["drained"]:
            raise ContenderFailed(f"{len(times)} documents, not {job.expected_delivered}: {done}, {would['ends']}")
        later = sum(moment > times[0] for moment in times) / len(times) * len(job.records)
        return whole, later / (times[-1] - times[0]) * 1000

    if line_first:
        events, (whole, letters) = line(), replay()
    else:
        (whole, letters), events = replay(), line()
    return {
        "stats_s": round(stats, 2),
        "dry_run_s": round(dry, 2),
        "replay_s": round(whole, 2),
        "replay_letters_per_s": round(letters),
        "line_events_per_s": round(events),
        "ratio": round(letters / events, 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured, and exact. 1: not exact. 3: a server can't be had or reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__.partition("\n")[0])
    parser.add_argument("--letters", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=6)
    add_server_options(parser)
    options = parser.parse_args(arguments)
    console = Console()
    with ending_in_words(), open_kafka(options.kafka) as bootstrap, open_postgres(options.postgres) as postgres:
        kafka, job = Topics(bootstrap), pos_job(options.letters)
        with leaving_no_topics(kafka):
            rounds = [measure(kafka, postgres, job, bool(n % 2)) for n in range(options.rounds)]
    medians = {name: round(median(one[name] for one in rounds), 2) for name in rounds[0]}
    shown = Table(title=f"{options.letters:,} dead letters", box=box.SIMPLE_HEAD)
    for heading in ("stats, s", "dry run, s", "replay, s", "letters/s", "the line, events/s", "ratio"):
        shown.add_column(heading, justify="right")
    shown.add_row(*(f"{value:,g}" for value in medians.values()))
    console.print(shown)
    write(
        {"machine": machine(), "letters": options.letters, **medians, "ratios": [one["ratio"] for one in rounds]},
        RESULTS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
