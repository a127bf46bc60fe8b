"""One contender's run and its measurement, the same for all.

The clock is the database's own. PostgreSQL keeps the time of every commit (track_commit_timestamp), so when all is
done it tells when the first document and when the last one became visible, and how many became visible with the
first commit. The rate is the share of the job that came after the first commit, over the time from the first commit
to the last. So starting up counts for nobody, nothing has to be polled that would slow the database down, and neither
has an idle commit at the end any weight. A run counts only when the group has committed every record.

CPU seconds (user and system) are those of the contender's processes alone, from when its first document was seen to
when its lag was zero. RSS is their peaks' sum.

Exact: as many documents and lines, worth as much, and as many dead letters as the job says.
"""

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
from confluent_kafka import KafkaException
from sqlalchemy.engine import make_url

from bench.contenders import Contender
from bench.rivals.receipt import Task
from bench.servers import fresh_database
from bench.topics import Preloaded
from deploy.processes import Guard, ServerError, tail
from tests.support.postgres_server import Postgres
from tests.support.topics import Topics

TIMEOUT = 600.0


class ContenderFailed(Exception):
    """It died or never came to the end; the message has its last words."""


@contextmanager
def ending_in_words() -> Iterator[None]:
    """Ends the program with 3 when a server can't be had or reached, with 1 when a contender failed, and says why."""
    try:
        yield
    except (ServerError, KafkaException, psycopg.OperationalError) as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    except ContenderFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)


@dataclass(frozen=True)
class Outcome:
    """Return the documents, lines, amounts and dead letters that the run left behind."""

    documents: int
    lines: int
    gross: Decimal
    dead_letters: int


@dataclass(frozen=True)
class Run:
    """One measured run."""

    events: int
    events_per_s: float
    seconds: float
    cpu_s: float
    rss_mb: float
    exact: bool
    outcome: Outcome


def run(contender: Contender, preloaded: Preloaded, postgres: Postgres) -> Run:
    """Runs it on a fresh database. Raises ContenderFailed."""
    with fresh_database(postgres) as url:
        task = new_task(contender, preloaded.kafka, preloaded.topic, url)
        with started(contender, task) as contestant:
            contestant.wait_until(lambda: has_begun(task))
            before = cpu_seconds(contestant.pid)
            contestant.wait_until(lambda: preloaded.done(task.group))
            cpu, rss = cpu_seconds(contestant.pid) - before, peak_rss_mb(contestant.pid)
        with psycopg.connect(libpq(url)) as connection:
            first, seconds = commit_times(connection)
            outcome = _outcome(connection, contender, len(preloaded.kafka.records(task.dead_letter_topic)))
    job = preloaded.job
    share = 1 - first / outcome.documents
    expected = Outcome(job.expected_delivered, job.expected_lines, job.expected_gross, job.expected_bad)
    events = len(job.records)
    return Run(events, events * share / seconds, seconds, cpu, rss, outcome == expected, outcome)


class Contestant:
    """A contender's process at work."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = folder / "log"

    def wait_until(self, holds: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        """Returns when `holds()` is true. Raises ContenderFailed when the process ends before, or after `timeout`."""
        deadline = time.monotonic() + timeout
        while not holds():
            if self._process.poll() is not None:
                raise ContenderFailed(f"it ended with exit code {self._process.returncode}\n{tail(self._log)}")
            if time.monotonic() > deadline:
                raise ContenderFailed(f"it was not done after {timeout:.0f} s\n{tail(self._log)}")
            time.sleep(0.1)


@contextmanager
def started(contender: Contender, task: Task) -> Iterator[Contestant]:
    """Its process, which does not outlive this."""
    with tempfile.TemporaryDirectory(prefix="tillstream-bench-") as name:
        process = contender.start(task, Path(name))
        guard = Guard(process.pid)
        try:
            yield Contestant(process, Path(name))
        finally:
            _end(process)
            guard.dismiss()


def new_task(contender: Contender, kafka: Topics, topic: str, url: str) -> Task:
    """To bring `topic` into the database at `url`, with a new group and a new topic for dead letters."""
    group = f"{topic}-{contender.name}-{uuid.uuid4().hex[:8]}"
    dead = f"{group}-dlq"
    kafka.create_topic(dead)
    return Task(kafka.bootstrap, topic, dead, group, url)


def libpq(url: str) -> str:
    """`url` as libpq, and so psycopg, takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def commit_times(connection: "psycopg.Connection[tuple[object, ...]]") -> tuple[int, float]:
    """(documents of the first commit, seconds from the first commit to the last)"""
    rows = connection.execute(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8, count(*) FROM documents "
        "GROUP BY xmin ORDER BY 1"
    ).fetchall()
    times: list[float] = [float(str(at)) for at, _ in rows]
    return int(str(rows[0][1])), times[-1] - times[0]


def _outcome(connection: "psycopg.Connection[tuple[object, ...]]", contender: Contender, dead_letters: int) -> Outcome:
    row = connection.execute("SELECT count(*), sum(gross) FROM documents").fetchone()
    lines = connection.execute(f"SELECT count(*) FROM {contender.lines}").fetchone()
    assert row is not None
    assert lines is not None
    return Outcome(int(str(row[0])), int(str(lines[0])), Decimal(str(row[1])), dead_letters)


def has_begun(task: Task) -> bool:
    """Whether the first document is there."""
    with psycopg.connect(libpq(task.database)) as connection:
        if connection.execute("SELECT to_regclass('documents')").fetchone() == (None,):
            return False
        return connection.execute("SELECT EXISTS (SELECT FROM documents)").fetchone() == (True,)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its children have used so far."""
    # The name, in parentheses, may contain anything; utime and stime are the 12th and 13th field after it.
    stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in family(pid)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid: int) -> float:
    """The most memory the process and each of its children ever had resident, in sum."""
    lines = [line for one in family(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def family(pid: int) -> list[int]:
    """The process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
