"""Options, exit code and helpers shared by the commands of `tillstream reconcile`."""

from collections.abc import Callable
from datetime import date
from typing import Any

import click

from ops.inspect.commands import progress_bar
from ops.reconcile.run import ReconciliationResult, reconcile
from ops.reconcile.store_day import DayReport
from streams.settings import Settings

#: The exit code when tills and ERP differ, or something is left to do.
DIFFERS = 1


class DateParam(click.ParamType):
    """A date such as 2026-03-10."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the date; fail for anything else."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2026-03-10", param, ctx)


day_option = click.option("--day", type=DateParam(), metavar="DATE", help="Only this business day.")
since_option = click.option("--since", type=DateParam(), metavar="DATE", help="Business days from this one on.")
store_option = click.option("--store", help="Only this store.")
allow_open_option = click.option(
    "--allow-open",
    is_flag=True,
    help="Exit with 0 if the books agree, even if not everything is booked or can be proved.",
)


def with_one_day(command: Callable[..., Any]) -> Callable[..., Any]:
    """Require `--store` and `--day`."""
    store = click.option("--store", required=True, help="The store.")
    day = click.option("--day", type=DateParam(), metavar="DATE", required=True, help="The business day.")
    return store(day(command))


def reconcile_with_progress(settings: Settings, **scope: Any) -> ReconciliationResult:
    """Reconcile with a progress bar. Takes the keywords of `ops.reconcile.run.reconcile` and raises as it does."""
    with progress_bar(f"reading {settings.topic}", None) as progress:
        return reconcile(settings, progress=progress, **scope)


def find_day(result: ReconciliationResult, store: str, day: date) -> DayReport:
    """Return the store's day. Raises UsageError if nothing was sent and the ERP holds nothing."""
    for report in result.days:
        if (report.store, report.day) == (store, day.isoformat()):
            return report
    raise click.UsageError(f"store {store} has nothing on {day}, neither sent nor in the ERP")
