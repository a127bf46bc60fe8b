"""Run schedules at their due times, catch up on missed ones, one run of each at a time.

A due time is claimed in the history before anything is done, so of several processes with the same data folder one does
it. A due time that passed while nobody was there was *missed*; one that passed while the run before was still at work
*overlaps*. The schedule decides on both: `once` runs one time for all of them, `skip` does not run.
"""

import fcntl
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from ops.files.layout import NotReadable
from ops.importing.watch_folder import ImportStopped, StoppableObserver
from ops.schedules import jobs
from ops.schedules.history import FAILED, STOPPED, ScheduleHistory
from sinks.base import SinkMisconfigured, SinkUnavailable
from streams.kafka.errors import BrokerUnreachable, TopicsUnusable
from streams.settings import ScheduleSettings, Settings, SettingsError
from streams.sources.contracts import ContractError
from streams.sources.rows import RowsUnreadable

Clock = Callable[[], datetime]
#: A due time up to this old is on time, not missed.
_ON_TIME = timedelta(seconds=60)
#: The longest wait, so that a clock that is set or a machine that slept is noticed.
_NAP = 20.0
#: Failures of a run that are not bugs.
_FAULTS = (
    NotReadable,
    RowsUnreadable,
    ContractError,
    SettingsError,
    TopicsUnusable,
    BrokerUnreachable,
    SinkUnavailable,
    SinkMisconfigured,
    OSError,
)


def due_after(schedule: ScheduleSettings, moment: datetime) -> Iterator[datetime]:
    """Yield the due times after a moment, endlessly, in UTC."""
    for due in CronSim(schedule.cron, moment.astimezone(ZoneInfo(schedule.timezone))):
        yield due.astimezone(UTC)


def due_between(schedule: ScheduleSettings, since: datetime, now: datetime) -> list[datetime]:
    """Return the due times after `since`, up to `now`."""
    found: list[datetime] = []
    for due in due_after(schedule, since):
        if due > now:
            return found
        found.append(due)
    return found


class JobScheduler:
    """Waits for the due times of one schedule and runs its job."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        history: ScheduleHistory,
        clock: Clock,
        stop: threading.Event,
        run: jobs.Run = jobs.run,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._schedule = settings.schedules[name]
        self._settings = settings
        self._history = history
        self._clock = clock
        self._stop = stop
        self._run = run
        self._log = log

    def run_until_stopped(self) -> None:
        """Run the schedule until the stop event is set."""
        since = self._catch_up_after_start()
        while not self._stop.is_set():
            since = self.step(since)
            pause = (next(due_after(self._schedule, since)) - self._clock()).total_seconds()
            self._stop.wait(max(0.0, min(pause, _NAP)))

    def _catch_up_after_start(self) -> datetime:
        """Catch up on missed due times and return the moment from which due times count."""
        now = self._clock()
        last = self._history.last_due(self._name)
        if last is None:
            return now
        with self._lock(wait=False) as free:
            mark_broken_off = free and self._history.mark_broken_off(self._name)
        due = due_between(self._schedule, last, now)
        missed = [each for each in due if now - each > _ON_TIME]
        if missed:
            self._catch_up(missed, "missed", self._schedule.missed)
        elif mark_broken_off and self._schedule.missed == "once":
            self._run_due(now)
        return missed[-1] if missed else last

    def step(self, since: datetime) -> datetime:
        """Run the job if it is due; return the last due time that is done."""
        due = due_between(self._schedule, since, self._clock())
        if not due:
            return since
        self._stop.wait(random.uniform(0, self._schedule.jitter_seconds))  # noqa: S311 (no secret)
        if self._stop.is_set():
            return since
        *_, last = due
        self._run_due(last)
        late = due_between(self._schedule, last, self._clock())  # while it ran
        self._catch_up(late, "overlapped", self._schedule.overlap)
        return late[-1] if late else last

    def _catch_up(self, due: list[datetime], word: str, policy: str) -> None:
        """Run the last due time, or none, by policy; record the others in one row with `word`."""
        one = due[-1:] if policy == "once" else []
        others = due[: len(due) - len(one)]
        if others and self._history.claim(self._name, others[-1], self._clock()):
            self._history.end(self._name, others[-1], self._clock(), word, {"due_times": len(others)})
        for each in one:
            self._run_due(each)

    def _run_due(self, due: datetime) -> None:
        if not self._history.claim(self._name, due, self._clock()):
            return  # another process has it
        with self._lock(wait=self._schedule.overlap == "once") as free:
            if free:
                self._execute(due)
            else:
                self._history.end(self._name, due, self._clock(), "overlapped", {})

    def _execute(self, due: datetime) -> None:
        self._log(f"{self._name}: begins")
        report: dict[str, object] = {}
        try:
            outcome, report = self._run(self._settings, self._schedule, StoppableObserver(self._stop))
        except ImportStopped:
            outcome = STOPPED
        except _FAULTS as error:
            outcome = f"{FAILED}: {error}"
        self._history.end(self._name, due, self._clock(), outcome, report)
        self._log(f"{self._name}: {outcome}")

    def run_now(self) -> str:
        """Run the job now and return its outcome. Raises NotReadable if it is running already."""
        due = self._clock()
        with self._lock(wait=False) as free:
            if not free:
                raise NotReadable(f"the schedule {self._name} is running already; see `tillstream schedule history`")
            self._history.claim(self._name, due, due)
            self._execute(due)
        return next(run.outcome for run in self._history.runs(self._name, 1))

    @contextmanager
    def _lock(self, *, wait: bool) -> Iterator[bool]:
        """Yield whether this process alone, of all with this data folder, runs the schedule."""
        folder = self._settings.data_folder / "schedules"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{self._name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True


def run_all(settings: Settings, stop: threading.Event, log: Callable[[str], None]) -> None:
    """Run every schedule in its own thread until `stop` is set. A bug in one ends all.

    Raises SettingsError if there are no schedules.
    """
    if not settings.schedules:
        raise SettingsError("no schedules in the settings; see docs/how-to/schedule-jobs.md")
    history = ScheduleHistory(settings.data_folder)
    bugs: list[BaseException] = []

    def run_until_stopped(name: str) -> None:
        try:
            JobScheduler(name, settings, history, lambda: datetime.now(UTC), stop, log=log).run_until_stopped()
        except BaseException as bug:
            bugs.append(bug)
            stop.set()

    threads = [threading.Thread(target=run_until_stopped, args=(name,), name=name) for name in settings.schedules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]
