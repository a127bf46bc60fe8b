"""`tillstream schedule list|run|history`."""

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.importing.commands import WRONG_IN_DATA
from ops.importing.watch_folder import stopping
from ops.reconcile.content import format_amount
from ops.schedules.history import ScheduleHistory
from ops.schedules.metrics_server import serve_metrics
from ops.schedules.scheduler import JobScheduler, due_after, run_all
from ops.terminal.options import as_one_object, settings_from, with_broker, with_config
from streams.settings import ScheduleSettings, Settings, SettingsError


@click.group(name="schedule")
def schedule_group() -> None:
    """Run imports and reconciliations on schedule.

    The settings have the times (`schedules`).
    """


@schedule_group.command(name="list", epilog="\b\nExample:\n  tillstream schedule list")
@with_config
@as_one_object
def list_command(config: Path | None, as_json: bool) -> None:
    """List schedules with their next due time and last outcome."""
    settings = settings_from(config)
    history = ScheduleHistory(settings.data_folder)
    found: list[dict[str, object]] = []
    for name, schedule in settings.schedules.items():
        limit = next(iter(history.runs(name, 1)), None)
        found.append(
            {
                "name": name,
                "cron": schedule.cron,
                "timezone": schedule.timezone,
                "what": _what(schedule),
                "next": _local(next(due_after(schedule, datetime.now(UTC))), schedule),
                "last": _local(limit.due, schedule) if limit is not None else None,
                "outcome": limit.outcome if limit is not None else None,
            }
        )
    if as_json:
        click.echo(json.dumps({"schedules": found}, ensure_ascii=False))
        return
    _print(found, ("name", "cron", "timezone", "what", "next", "last", "outcome"))


@schedule_group.command(
    epilog="\b\nExamples:\n  tillstream schedule run\n  tillstream schedule run nightly\n"
    "  tillstream schedule history nightly --json | jq '.runs[0]'"
)
@click.argument("name", required=False)
@with_broker
def run(name: str | None, config: Path | None, broker: str | None) -> None:
    """Run all schedules until SIGTERM or Ctrl-C, or one NAME now.

    Several may keep them side by side, on one data folder: each due time is done once. Meanwhile /metrics is served, at
    http_host and schedules_port. Exit code 1 when the run by hand did not go well, tills and ERP differ, or not
    everything is booked.
    """
    settings = settings_from(config, broker=broker)
    if name is None:
        _keep(settings)
        return
    _known(settings, name)
    history = ScheduleHistory(settings.data_folder)
    outcome = JobScheduler(name, settings, history, lambda: datetime.now(UTC), Event()).run_now()
    click.echo(f"{name}: {outcome}")
    sys.exit(0 if outcome == "done" else WRONG_IN_DATA)


def _keep(settings: Settings) -> None:
    def log(text: str) -> None:
        click.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", err=True)

    with serve_metrics(settings, ScheduleHistory(settings.data_folder)) as port:
        log(f"http://{settings.http_host}:{port}/metrics")
        run_all(settings, stopping(), log)


@schedule_group.command(epilog="\b\nExamples:\n  tillstream schedule history\n  tillstream schedule history nightly")
@click.argument("name", required=False)
@with_config
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The most runs to show.")
@as_one_object
def history(name: str | None, config: Path | None, limit: int, as_json: bool) -> None:
    """Show the outcome of each due time.

    done, bad lines, differs, incomplete, unreadable files, failed (with the reason), broken off, missed, or overlapped.
    """
    settings = settings_from(config)
    if name is not None:
        _known(settings, name)
    found: list[dict[str, object]] = [
        {
            "name": each.name,
            "due": each.due.isoformat(),
            "begun": each.begun.isoformat(),
            "seconds": round((each.ended - each.begun).total_seconds(), 1) if each.ended is not None else None,
            "outcome": each.outcome,
            "sent": each.report.get("confirmed"),
            "differences": _differences(each.report),
            "not_booked": _not_booked(each.report),
            "report": each.report,
        }
        for each in ScheduleHistory(settings.data_folder).runs(name, limit)
    ]
    if as_json:
        click.echo(json.dumps({"runs": found}, ensure_ascii=False))
        return
    _print(found, ("name", "due", "begun", "seconds", "outcome", "sent", "differences", "not_booked"))


def _known(settings: Settings, name: str) -> None:
    if name not in settings.schedules:
        there = ", ".join(settings.schedules) or "none"
        raise SettingsError(f"there is no schedule {name!r} in the settings; there are: {there}")


def _differences(report: dict[str, Any]) -> int | None:
    """Of a reconciliation."""
    return sum(report["differences"].values()) if "differences" in report else None


def _not_booked(report: dict[str, Any]) -> str | None:
    """Of a reconciliation, the gross that is not booked; None of one that did not ask."""
    if "unbooked_gross" not in report:
        return None
    left = {currency: Decimal(gross) for currency, gross in report["unbooked_gross"].items()}
    return ", ".join(f"{format_amount(gross, currency)} {currency}" for currency, gross in left.items() if gross)


def _what(schedule: ScheduleSettings) -> str:
    if schedule.reconcile is not None:
        return f"reconcile, {schedule.reconcile.days} days{' deep' if schedule.reconcile.deep else ''}"
    if schedule.folder is not None:
        return f"folder {schedule.folder}"
    return ", ".join(schedule.files) or "a query"


def _local(moment: datetime, schedule: ScheduleSettings) -> str:
    return moment.astimezone(ZoneInfo(schedule.timezone)).isoformat(timespec="seconds")


def _print(rows: list[dict[str, object]], columns: tuple[str, ...]) -> None:
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
