"""The outage drill: the ERP's database is away for a minute under load, and Prometheus alerts as the runbook says.

    python -m deploy.drills.outage [--json FILE] [--picture FILE] [--away 60] …

Everything is real: Kafka, PostgreSQL, workers, tills, and a Prometheus with the project's own rules. Nothing may be
lost, to the cent; the lag has to drain; TillstreamSinkDown has to be pending, then fire, then be resolved, and page
nobody for an outage that is over before its time. Exit codes: 0 all so, 1 something was not, 3 a server can't be had.

Needs Java, Maven, PostgreSQL's binaries and Prometheus (Debian's packages of these names).
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.drills import picture
from deploy.drills.timeline import ALERT, CURRENT, Facts, Happened, Timeline, timeline_of
from deploy.kafka.broker import Broker
from deploy.processes import ServerError, await_condition
from deploy.prometheus.server import JOB, Prometheus
from ops.demo.balance import Balance, balance, dead_letter_reasons
from ops.simulator.tills import ConfirmedTally, SimulatedRecord, TrafficShares, sell, till_producer, traffic
from ops.worker.process import WorkerProcess, WorkerReadings
from sinks.registry import open_sink
from streams.kafka.topics import client_config, create_source_topic
from streams.settings import Settings, load_settings
from tests.support.postgres_server import LocalPostgres
from tests.support.topics import Topics
from tests.support.workers import split_password

#: The longest that a worker's back-off, and what waited for it, may take.
PATIENCE = 180.0


@dataclass(frozen=True)
class Plan:
    """Seconds before, during and after the outage, records per second, and how often Prometheus scrapes.

    `hurry` divides the durations of the alert rules. `settings` are further ones of the workers.
    `schedules` are ports at which schedules are kept: they are scraped as well.
    """

    before: float = 120
    away: float = 60
    after: float = 45
    rate: float = 200
    workers: int = 2
    every: float = 5
    hurry: float = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedules: Sequence[int] = ()


#: Looks at what Prometheus has to say when the tills sell, when the database is away, and when all is over.
Look = Callable[[str, Prometheus], None]


class Tills:
    """Tills that sell, on a thread of their own, until they are closed."""

    def __init__(self, settings: Settings, rate: float, records: Iterator[SimulatedRecord]) -> None:
        self.tally = ConfirmedTally()
        self._stop = threading.Event()
        self._failure: Exception | None = None
        producer = till_producer(settings.broker, client_config(settings.kafka_access))
        arguments = (producer, settings.topic, records, rate, self._stop, self.tally)
        self._thread = threading.Thread(target=self._sell, args=arguments, name="tills")
        self._thread.start()

    def close(self) -> None:
        """Returns when all that was sent is confirmed. Raises what ended the selling."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _sell(self, *arguments: Any) -> None:
        try:
            sell(*arguments)
        except Exception as error:
            self._failure = error


def sales() -> Iterator[SimulatedRecord]:
    """Sales of some stores, with too few broken records for an alert."""
    shares = TrafficShares(broken=0.0005)
    return traffic(1, lambda: datetime.now(UTC), stores=8, first_receipt=time.time_ns() // 1_000_000, shares=shares)


def drill(
    plan: Plan, broker: str, postgres: LocalPostgres, records: Iterator[SimulatedRecord], look: Look = lambda *_: None
) -> Timeline:
    """Stops the database under load and starts it again; what happened. Raises ServerError and WorkerDied."""
    happened = Happened()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillstream-drill-")))
        settings = settings_for(plan, broker, postgres)
        create_source_topic(settings.kafka_access, settings.topic_plan, partitions=4)
        workers = [start_worker(settings, plan, folder / f"worker-{number}", stack) for number in range(plan.workers)]
        for worker in workers:
            worker.wait_ready(60)
        ports = [worker.port for worker in workers]
        prometheus = stack.enter_context(Prometheus(ports, plan.schedules, every=plan.every, hurry=plan.hurry))
        wait(lambda: told_nothing(prometheus), "all workers to be seen, and nothing to be told")
        tills = Tills(settings, plan.rate, records)
        stack.callback(tills.close)
        happened.note("tills open")
        happened.spend(plan.before, lambda: look("selling", prometheus))
        happened.note("database stopped")
        postgres.stop()
        happened.spend(plan.away, lambda: look("away", prometheus))
        happened.note("database started")
        postgres.start()
        wait(lambda: is_over(prometheus), f"the lag to drain, and the end of {ALERT}")
        happened.spend(plan.after)
        tills.close()
        happened.note("tills closed")
        wait(lambda: settled(workers) >= tills.tally.sent, "the last records to come to their end")
        recognised = sum(sum(worker.readings().duplicates.values()) for worker in workers)
        codes = [worker.stop() for worker in workers]
        happened.note("workers stopped")
        wait(lambda: bool(prometheus.query('absent(up{job="tillstream"} == 1)')), "the workers to be gone")
        look("over", prometheus)
        topics = Topics(broker)
        facts = Facts(
            sent_at=[record.timestamp for record in topics.records(settings.topic)],
            books=balance_of(settings, tills.tally),
            recognised=recognised,
            lag=topics.lag(settings.group, settings.topic),
            codes=codes,
        )
        return timeline_of(prometheus, plan.every, plan.hurry, happened, facts)


def settings_for(plan: Plan, broker: str, postgres: LocalPostgres) -> Settings:
    """A topic, a group and a database of the drill's own."""
    name = f"drill.{time.time_ns() // 1_000_000}"
    url, _, password = split_password(postgres.create_database(name.replace(".", "_")))
    return load_settings(
        broker=broker,
        topic=name,
        dead_letter_topic=f"{name}.dlq",
        group=name,
        sink_url=url,
        sink_password=password,
        apply_migrations=True,
        **plan.settings,
    )


def start_worker(settings: Settings, plan: Plan, folder: Path, stack: ExitStack) -> WorkerProcess:
    """A worker, stopped at the end at the latest."""
    folder.mkdir()
    names = {"broker", "topic", "dead_letter_topic", "group", "sink_url", "apply_migrations"}
    given = settings.model_dump(include=names, mode="json") | dict(plan.settings)
    worker = WorkerProcess(given | {"sink_password": settings.password()}, folder)
    stack.callback(worker.stop)
    return worker


def settled(workers: Sequence[WorkerProcess]) -> int:
    """The records that have come to their end."""
    return sum(worker.readings().settled for worker in workers)


def told_nothing(prometheus: Prometheus) -> bool:
    """Return whether the sink is up and no alert about the workers is active."""
    told = [alert for alert in prometheus.alerts() if alert["labels"].get("job") == JOB]
    return bool(prometheus.query("min(tillstream_sink_up) == 1")) and not told


def is_over(prometheus: Prometheus) -> bool:
    """Return whether the ERP is current and no sink alert is active. Alerts about the latency budget may be active."""
    current = prometheus.query(f"min(tillstream_sink_up) == 1 and max(tillstream_lag_seconds) < {CURRENT}")
    return bool(current) and not any(alert["labels"]["alertname"] == ALERT for alert in prometheus.alerts())


def balance_of(settings: Settings, tally: ConfirmedTally) -> Balance:
    """Compare the tills' records with the ERP's tables and the dead-letter topic.

    Repeated records count as recognised, since the tables prove it: a second document would be one too many. The
    workers may have counted more, as a write whose answer the outage swallowed is recognised, too.
    """
    sink = open_sink(settings.sink_url, password=settings.password())
    try:
        held = sink.totals()
    finally:
        sink.close()
    dead = dead_letter_reasons(client_config(settings.kafka_access), settings.dead_letter_topic)
    return balance(tally, held, dead, WorkerReadings(duplicates={"recognised": tally.resent}, skipped=tally.day_closes))


def wait(holds: Callable[[], bool], what: str) -> None:
    """Returns when it holds. Raises ServerError."""
    if not await_condition(holds, PATIENCE):
        raise ServerError(f"waited {PATIENCE:.0f} s for {what}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the drill on servers of its own; its exit code."""
    options = _parser().parse_args(arguments)
    given = vars(options)
    json_file, picture_file = given.pop("json"), given.pop("picture")
    try:
        with Broker() as broker, LocalPostgres() as postgres:
            timeline = drill(Plan(**given), broker.bootstrap, postgres, sales())
    except ServerError as error:
        print(error, file=sys.stderr)
        return 3
    print(timeline.in_words())
    if json_file:
        json_file.write_text(timeline.as_json())
    if picture_file:
        picture_file.write_text(picture.draw(timeline))
    return 1 if timeline.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.drills.outage", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what happened")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as SVG")
    for name in ("before", "away", "after", "rate", "every", "hurry"):
        parser.add_argument(
            f"--{name}", type=float, default=getattr(Plan, name), metavar="N", help="default: %(default)s"
        )
    parser.add_argument("--workers", type=int, default=Plan.workers, metavar="N", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
