"""One contender's run, and what it is measured by: the same for all.

The clock is the database's own. PostgreSQL keeps the time of every commit (track_commit_timestamp), so when all is
done it tells when the first document and when the last one became visible, and how many became visible with the
first commit. The rate is the share of the job that came after the first commit, over the time from the first commit
to the last. So starting up counts for nobody, nothing has to be polled that would slow the database down, and neither
has an idle commit at the end any weight. A run counts only when the group has committed every record.

CPU seconds (user and system) are those of the contender's process alone, from when its first document was seen to
when its lag was zero. RSS is the process's peak.

Exact: as many documents and lines, worth as much, and as many dead letters as the job says.
"""

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from bench.contenders import Contender
from bench.rivals.receipt import Task
from bench.servers import fresh_database
from bench.topics import Preloaded
from deploy.processes import Guard, tail
from tests.support.postgres_server import Postgres

TIMEOUT = 600.0


class ContenderFailed(Exception):
    """It died or never came to the end; the message has its last words."""


@dataclass(frozen=True)
class Outcome:
    """What it left behind."""

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
    group = f"{preloaded.topic}-{contender.name}-{uuid.uuid4().hex[:8]}"
    dead = f"{group}-dlq"
    preloaded.kafka.create_topic(dead)
    with fresh_database(postgres) as url, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as name:
        task = Task(preloaded.kafka.bootstrap, preloaded.topic, dead, group, url)
        process = contender.start(task, Path(name))
        guard = Guard(process.pid)
        try:
            libpq = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            _await(process, Path(name), lambda: _has_begun(libpq))
            before = cpu_seconds(process.pid)
            _await(process, Path(name), lambda: preloaded.done(group))
            cpu, rss = cpu_seconds(process.pid) - before, peak_rss_mb(process.pid)
        finally:
            _end(process)
            guard.dismiss()
        with psycopg.connect(libpq) as connection:
            first, seconds = commit_times(connection)
            outcome = _outcome(connection, contender, len(preloaded.kafka.records(dead)))
    job = preloaded.job
    share = 1 - first / outcome.documents
    expected = Outcome(job.expected_delivered, job.expected_lines, job.expected_gross, job.expected_bad)
    events = len(job.records)
    return Run(events, events * share / seconds, seconds, cpu, rss, outcome == expected, outcome)


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


def _has_begun(database: str) -> bool:
    with psycopg.connect(database) as connection:
        if connection.execute("SELECT to_regclass('documents')").fetchone() == (None,):
            return False
        return connection.execute("SELECT EXISTS (SELECT FROM documents)").fetchone() == (True,)


def _await(process: "subprocess.Popen[bytes]", folder: Path, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        if process.poll() is not None:
            raise ContenderFailed(f"it ended with exit code {process.returncode}\n{tail(folder / 'log')}")
        if time.monotonic() > deadline:
            raise ContenderFailed(f"it was not done after {TIMEOUT:.0f} s\n{tail(folder / 'log')}")
        time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used so far."""
    # The name, in parentheses, may contain anything; utime and stime are the 12th and 13th field after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid: int) -> float:
    """The most memory the process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
