"""The history of schedules: one row per due time, in SQLite in the data folder, shared by all processes."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

RUNNING, STOPPED, BROKEN_OFF, FAILED = "running", "stopped", "broken off", "failed"


class ScheduleRun(NamedTuple):
    """One due time of a schedule and its outcome. A run that is active or was killed has no `ended`."""

    name: str
    due: datetime
    begun: datetime
    ended: datetime | None
    outcome: str
    report: dict[str, Any]


class ScheduleHistory:
    """The history. Each call opens the file, so any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "schedules.sqlite"
        with self._open() as disk:
            disk.execute("PRAGMA journal_mode=WAL")
            disk.execute(
                "CREATE TABLE IF NOT EXISTS runs (name TEXT, due TEXT, begun TEXT, ended TEXT, outcome TEXT NOT NULL, "
                "report TEXT NOT NULL, PRIMARY KEY (name, due)) WITHOUT ROWID"
            )

    def claim(self, name: str, due: datetime, now: datetime) -> bool:
        """Claim a due time. Of several processes, only one gets True."""
        with self._open() as disk:
            done = disk.execute(
                "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, NULL, ?, '{}')",
                (name, _stored(due), _stored(now), RUNNING),
            )
            return done.rowcount == 1

    def end(self, name: str, due: datetime, now: datetime, outcome: str, report: dict[str, Any]) -> None:
        """Record the outcome of a run."""
        with self._open() as disk:
            disk.execute(
                "UPDATE runs SET ended = ?, outcome = ?, report = ? WHERE name = ? AND due = ?",
                (_stored(now), outcome, json.dumps(report, ensure_ascii=False), name, _stored(due)),
            )

    def mark_broken_off(self, name: str) -> bool:
        """Mark killed and stopped runs; return whether there were any. The caller must hold the schedule's lock."""
        with self._open() as disk:
            done = disk.execute(
                "UPDATE runs SET outcome = ? WHERE name = ? AND outcome IN (?, ?)", (BROKEN_OFF, name, RUNNING, STOPPED)
            )
            return done.rowcount > 0

    def last_due(self, name: str) -> datetime | None:
        """Return the last recorded due time, if any."""
        with self._open() as disk:
            (due,) = disk.execute("SELECT max(due) FROM runs WHERE name = ?", (name,)).fetchone()
        return datetime.fromisoformat(due) if due is not None else None

    def last_with_outcome(self, name: str, *outcomes: str) -> ScheduleRun | None:
        """Return the latest run whose outcome begins with one of these words."""
        begins = " OR ".join("outcome LIKE ? || '%'" for _ in outcomes)
        with self._open() as disk:
            row = disk.execute(
                f"SELECT * FROM runs WHERE name = ? AND ({begins}) ORDER BY due DESC LIMIT 1",  # noqa: S608 (constants)
                (name, *outcomes),
            ).fetchone()
        return _as_run(row) if row is not None else None

    def runs(self, name: str | None, limit: int) -> list[ScheduleRun]:
        """Return up to `limit` runs, the latest first."""
        with self._open() as disk:
            rows = disk.execute(
                "SELECT * FROM runs WHERE ? IS NULL OR name = ? ORDER BY due DESC, name LIMIT ?", (name, name, limit)
            ).fetchall()
        return [_as_run(row) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as disk, disk:
            yield disk


def _as_run(row: tuple[str, str, str, str | None, str, str]) -> ScheduleRun:
    name, due, begun, ended, outcome, report = row
    moment = datetime.fromisoformat
    return ScheduleRun(name, moment(due), moment(begun), moment(ended) if ended else None, outcome, json.loads(report))


def _stored(moment: datetime) -> str:
    """In UTC, so that texts sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
