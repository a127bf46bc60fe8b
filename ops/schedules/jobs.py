"""The jobs of schedules: imports and reconciliations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops.files.inputs import QueryInput, inputs
from ops.importing.commands import as_object, how_to_read
from ops.importing.job import ImportObserver, import_all
from ops.importing.sending import ReceiptSender
from ops.importing.watch_folder import WatchedFolder, work_off
from ops.reconcile.metrics import summary_of
from ops.reconcile.run import first_unsettled_day, reconcile, update_states
from streams.settings import ReconciliationSettings, ScheduleSettings, Settings

#: Runs a schedule and returns its outcome in a word, and its report. The watcher stops it on request.
Run = Callable[[Settings, ScheduleSettings, ImportObserver], tuple[str, dict[str, object]]]

DONE, BAD_LINES, DIFFERS, UNREADABLE = "done", "bad lines", "differs", "unreadable files"
#: The books agree, and not everything of days that are over is booked, or can be proved.
INCOMPLETE = "incomplete"
#: Who noted the states that a schedule found.
_BY = "tillstream schedule"


def run(settings: Settings, schedule: ScheduleSettings, watcher: ImportObserver) -> tuple[str, dict[str, object]]:
    """As `Run`. Raises what importing and reconciling raise."""
    if schedule.reconcile is not None:
        return _reconciliation(settings, schedule.reconcile, watcher)
    return _import(settings, schedule, watcher)


def _reconciliation(
    settings: Settings, how: ReconciliationSettings, watcher: ImportObserver
) -> tuple[str, dict[str, object]]:
    first = first_unsettled_day(settings, datetime.now(UTC).date() - timedelta(days=how.days))
    found = reconcile(settings, first=first, deep=how.deep, progress=watcher.heed)
    if found.late is not None:  # all of that day has to be read
        found = reconcile(settings, first=found.late, deep=how.deep, progress=watcher.heed)
    now = update_states(settings, found, _BY, save=True)
    summary = summary_of(found, now)
    left = summary.incomplete and not how.allow_open
    return (DIFFERS if summary.differs else INCOMPLETE if left else DONE), summary.model_dump(mode="json")


def _import(settings: Settings, schedule: ScheduleSettings, watcher: ImportObserver) -> tuple[str, dict[str, object]]:
    given = {"contract": schedule.contract, "topic": schedule.topic}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    how = how_to_read(settings, schedule.encoding, sheet=schedule.sheet)
    sender = ReceiptSender(settings)
    if schedule.folder is not None:
        folder = WatchedFolder(schedule.folder)
        with folder.alone():
            found = list(work_off(settings, folder, how, watcher, sender))
    else:
        found = list(import_all(settings, inputs(schedule.files, _query(schedule)), how, watcher, sender))
    faults = [each for each in found if isinstance(each, str)]
    reports = [each for each in found if not isinstance(each, str)]
    word = UNREADABLE if faults else BAD_LINES if any(not each.is_clean for each in reports) else DONE
    return word, as_object(settings, reports, faults)


def _query(schedule: ScheduleSettings) -> QueryInput | None:
    if schedule.sql is None or schedule.query is None:
        return None
    password = Path(schedule.password_file).read_text(encoding="utf-8").strip() if schedule.password_file else None
    return QueryInput(schedule.sql, schedule.query, password)
