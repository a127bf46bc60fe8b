"""Schedules: when they are due, and what becomes of due times that nobody saw."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ops.files.layout import NotReadable
from ops.schedules.history import ScheduleHistory
from ops.schedules.scheduler import JobScheduler, due_after, run_all
from streams.settings import ScheduleSettings, Settings, SettingsError, load_settings

T0 = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class World:
    """A clock to be set, runs that take so long as they are told, and one schedule for every minute."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        schedule = ScheduleSettings(cron="* * * * *", files=["sales.csv"], **policy)
        self.settings = Settings(data_folder=folder, schedules={"every": schedule})
        self.history = ScheduleHistory(folder)
        self.now = T0
        self.ran: list[datetime] = []
        self.takes = timedelta(0)
        self.fault: Exception | None = None
        self.stop = threading.Event()

    def run(self, *_: Any) -> tuple[str, dict[str, object]]:
        self.ran.append(self.now)
        self.now += self.takes
        if self.fault is not None:
            raise self.fault
        return "done", {"confirmed": 3}

    def scheduler(self, run: Callable[..., Any] | None = None) -> JobScheduler:
        return JobScheduler("every", self.settings, self.history, lambda: self.now, self.stop, run or self.run)

    def outcomes(self) -> list[tuple[int, str]]:
        """(minutes after the beginning, what became of it)"""
        return [((run.due - T0) // MINUTE, run.outcome) for run in reversed(self.history.runs(None, 100))]


def started(world: World, minutes: int) -> datetime:
    """As if the schedule had been kept until then, and once more at the start after that pause."""
    world.history.claim("every", T0, T0)
    world.history.end("every", T0, T0, "done", {})
    world.now = T0 + minutes * MINUTE + timedelta(seconds=1)
    return world.scheduler()._catch_up_after_start()


@pytest.mark.parametrize(
    ("cron", "zone", "since", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),  # 02:30 is not
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),  # comes twice
        ("0 8 * * 0", "UTC", "2026-03-02T00:00", ["2026-03-08T08:00", "2026-03-15T08:00"]),
        ("0 8 * * 7", "UTC", "2026-03-02T00:00", ["2026-03-08T08:00", "2026-03-15T08:00"]),
        ("0 8 * * mon", "Asia/Shanghai", "2026-03-02T00:00", ["2026-03-09T00:00", "2026-03-16T00:00"]),
    ],
)
def test_due_times_are_those_of_the_zone_and_come_once(cron: str, zone: str, since: str, expected: list[str]) -> None:
    schedule = ScheduleSettings(cron=cron, timezone=zone, files=["x"])
    found = islice(due_after(schedule, datetime.fromisoformat(since).replace(tzinfo=UTC)), 2)
    assert [due.strftime("%Y-%m-%dT%H:%M") for due in found] == expected


def test_due_time_runs_once_however_often_it_is_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path)
    scheduler = world.scheduler()
    world.now += MINUTE
    since = scheduler.step(T0)
    assert scheduler.step(since) == since == T0 + MINUTE
    assert scheduler.step(T0) == T0 + MINUTE  # another process with the same data folder
    assert (world.outcomes(), len(world.ran)) == ([(1, "done")], 1)
    assert world.history.runs("every", 1)[0].report == {"confirmed": 3}


@pytest.mark.parametrize(
    ("policy", "ran", "outcomes"),
    [("once", 1, [(0, "done"), (28, "missed"), (29, "done")]), ("skip", 0, [(0, "done"), (29, "missed")])],
)
def test_missed_due_times_are_one_run_or_none(
    tmp_path: Path, policy: str, ran: int, outcomes: list[tuple[int, str]]
) -> None:
    world = World(tmp_path, missed=policy)
    since = started(world, 30)
    assert (len(world.ran), world.outcomes()) == (ran, outcomes)
    assert since == T0 + 29 * MINUTE  # the one of this minute is on time
    world.scheduler().step(since)
    assert world.outcomes()[-1] == (30, "done")


def test_schedule_that_is_new_has_missed_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.scheduler()._catch_up_after_start() == T0
    assert world.outcomes() == []


@pytest.mark.parametrize(
    ("policy", "ran", "outcomes"),
    [("once", 2, [(1, "done"), (3, "overlapped"), (4, "done")]), ("skip", 1, [(1, "done"), (4, "overlapped")])],
)
def test_due_times_during_a_run_are_one_more_run_or_none(
    tmp_path: Path, policy: str, ran: int, outcomes: list[tuple[int, str]]
) -> None:
    world = World(tmp_path, overlap=policy)
    world.takes = 3 * MINUTE
    world.now = T0 + MINUTE
    world.scheduler().step(T0)
    assert (len(world.ran), world.outcomes()) == (ran, outcomes)


@pytest.mark.parametrize("outcome", ["running", "stopped"])
def test_run_that_was_killed_or_stopped_is_run_again(tmp_path: Path, outcome: str) -> None:
    world = World(tmp_path)
    world.history.claim("every", T0, T0)
    world.history.end("every", T0, T0, outcome, {})
    world.now += timedelta(seconds=20)
    world.scheduler()._catch_up_after_start()
    assert [outcome for _, outcome in world.outcomes()] == ["broken off", "done"]


def test_run_elsewhere_is_not_overlapped(tmp_path: Path) -> None:
    world = World(tmp_path)

    def meanwhile(*_: Any) -> tuple[str, dict[str, object]]:
        with pytest.raises(NotReadable, match="running already"):
            world.scheduler().run_now()
        world.scheduler().step(T0 + MINUTE)
        return "done", {}

    world.now = T0 + 2 * MINUTE
    world.history.claim("every", T0 + MINUTE, T0)
    assert world.scheduler(meanwhile).run_now() == "done"
    assert world.ran == []


def test_fault_is_in_the_history_and_the_next_due_time_is_tried(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fault = NotReadable("sales.csv: no such file")
    world.now += MINUTE
    since = world.scheduler().step(T0)
    world.fault = None
    world.now += MINUTE
    world.scheduler().step(since)
    assert world.outcomes() == [(1, "failed: sales.csv: no such file"), (2, "done")]


def test_bug_is_no_outcome(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fault = ZeroDivisionError()
    world.now += MINUTE
    with pytest.raises(ZeroDivisionError):
        world.scheduler().step(T0)


def test_jitter_is_waited_for_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, jitter_seconds=30)
    waited: list[float] = []
    monkeypatch.setattr(world.stop, "wait", lambda seconds: waited.append(seconds))
    random.seed(1)
    world.now += MINUTE
    world.scheduler().step(T0)
    (seconds,) = waited
    assert 0 < seconds <= 30


def test_stop_ends_a_keeper(tmp_path: Path) -> None:
    world = World(tmp_path)
    thread = threading.Thread(target=world.scheduler().run_until_stopped)
    thread.start()
    world.stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{cron: every day, files: [a]}", "cron: 'every day'"),
        ("{cron: '0 8 * * *'}", "name either files, or a folder, or sql and query"),
        ("{cron: '0 8 * * *', files: [a], folder: b}", "name either files"),
        ("{cron: '0 8 * * *', files: [a], reconcile: {}}", "name either files"),
        ("{cron: '0 8 * * *', reconcile: {}, topic: b}", "by the contract and the topic of the settings"),
        ("{cron: '0 8 * * *', sql: 'sqlite:///a'}", "sql and query belong together"),
        ("{cron: '0 8 * * *', sql: 'postgresql://a:b@c/d', query: SELECT 1}", "contains a password"),
        ("{cron: '0 8 * * *', files: [a], timezone: Europe/Bonn}", "is not a time zone"),
    ],
)
def test_wrong_schedule_is_told(tmp_path: Path, schedule: str, message: str) -> None:
    path = tmp_path / "tillstream.yaml"
    path.write_text(f"schedules:\n  nightly: {schedule}\n")
    with pytest.raises(SettingsError, match=message) as fault:
        load_settings(path)
    assert "schedules.nightly" in str(fault.value)


def test_all_schedules_are_kept_until_they_are_told_to_stop(tmp_path: Path) -> None:
    world = World(tmp_path)
    thread = threading.Thread(target=run_all, args=(world.settings, world.stop, lambda _: None))
    thread.start()
    world.stop.set()
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(SettingsError, match="no schedules"):
        run_all(Settings(data_folder=tmp_path), world.stop, lambda _: None)


def test_bug_in_one_schedule_ends_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)

    def broken(scheduler: JobScheduler) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(JobScheduler, "run_until_stopped", broken)
    with pytest.raises(ZeroDivisionError):
        run_all(world.settings, world.stop, lambda _: None)
    assert world.stop.is_set()
