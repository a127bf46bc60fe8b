"""`tillstream reconcile`: the commands that reconcile, sign off, show the history and repair."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from ops.dlq.close import audited_action
from ops.dlq.commands import apply_option, as_one_object, with_operator
from ops.dlq.filters import DeadLetterFilter
from ops.reconcile import render, undo
from ops.reconcile.certificate_commands import certificate_command, verify_command
from ops.reconcile.day_states import sign
from ops.reconcile.metrics import summary_of, write_metrics
from ops.reconcile.options import (
    DIFFERS,
    allow_open_option,
    day_option,
    find_day,
    reconcile_with_progress,
    since_option,
    store_option,
    with_one_day,
)
from ops.reconcile.repair import RepairResult, repair
from ops.reconcile.repair_report import repair_lines
from ops.reconcile.run import update_states
from ops.reconcile.store_day import DayDifference, DayReport
from ops.reconcile.verdict import counted, is_settled
from ops.terminal.options import settings_from, with_broker, with_settings
from streams.dead_letters.day_states import read_day_states, write_day_states
from streams.kafka.topics import ensure_dead_letter_topics
from streams.settings import Settings


@click.group(
    name="reconcile",
    invoke_without_command=True,
    epilog="\b\nExamples:\n  tillstream reconcile\n  tillstream reconcile --day 2026-03-10 --deep\n"
    "  tillstream reconcile --since 2026-03-03 --metrics /var/lib/node_exporter/tillstream.prom\n"
    "  tillstream reconcile --store S17 --json | jq '.days[] | select(.differences != [])'\n"
    "  tillstream reconcile repair --store S17 --day 2026-03-10 --apply\n"
    "  tillstream reconcile sign --store S17 --day 2026-03-10 --comment 'agreed with the store'\n"
    "  tillstream reconcile certificate --store S17 --day 2026-03-10 --to S17.json --html S17.html",
)
@with_settings
@day_option
@since_option
@store_option
@click.option("--deep", is_flag=True, help="Compare digests of every field that comes from the tills, not only sums.")
@click.option("--all", "everything", is_flag=True, help="Show every store-day, however many there are.")
@click.option("--metrics", type=click.Path(path_type=Path), help="Write the result for Prometheus to this .prom file.")
@click.option("--no-save", is_flag=True, help="Do not save the days' states in the audit topic.")
@allow_open_option
@with_operator
@as_one_object
@click.pass_context
def reconcile_group(
    ctx: click.Context,
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    day: date | None,
    since: date | None,
    store: str | None,
    deep: bool,
    everything: bool,
    metrics: Path | None,
    no_save: bool,
    allow_open: bool,
    by: str,
    as_json: bool,
) -> None:
    """Check that tills and ERP agree, by store and business day.

    Events sent by the tills (the topic, by event time) = documents in the ERP + duplicates + replaced revisions + dead
    letters + held events + waiting events. Each difference is listed with its record and the command that repairs it.

    The verdict answers two questions: do the books agree, and is everything booked? Receipts in dead letters, held,
    parked or waiting for the worker are NOT BOOKED, and listed with their amount.

    \b
    States: open (the day is not over), differs, unproved (the topic has lost records of it),
    incomplete (the books agree, but not everything is booked), balanced, signed off.
    Late events, or changes in the ERP, reopen a day.

    Exit code 1 if a day differs, is incomplete or unproved, and nobody has signed it off as it is.
    With --allow-open only if the books of a day differ.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    if day is not None and since is not None:
        raise click.UsageError("give --day or --since, not both")
    found = reconcile_with_progress(settings, store=store, first=day or since, last=day, deep=deep)
    now = update_states(settings, found, by, save=not no_save)
    if metrics is not None:
        write_metrics(summary_of(found, now), metrics)
    if as_json:
        for piece in render.as_json(found, now):
            click.echo(piece, nl=False)
    else:
        render.report(found, now, everything=everything or day is not None or store is not None)
    sys.exit(0 if is_settled(found, now, allow_open=allow_open) else DIFFERS)


@reconcile_group.command(
    name="sign",
    epilog="\b\nExample:\n  tillstream reconcile sign --store S17 --day 2026-03-10 --comment 'two receipts on paper'",
)
@with_settings
@with_one_day
@click.option("--comment", default="", help="Why the day is signed off; required unless it is balanced.")
@with_operator
def sign_command(
    config: Path | None, broker: str | None, sink_url: str | None, store: str, day: date, comment: str, by: str
) -> None:
    """Sign off a store's day as it is now.

    The sign-off covers its differences and the receipts that are not booked. Any later event or change reopens the day.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    found = reconcile_with_progress(settings, store=store, first=day, last=day, deep=True)
    report = find_day(found, store, day)
    if report.state == "open":
        raise click.UsageError("the day is still open: it can be signed off after it is over")
    if report.count("waiting"):
        waiting = report.unbooked["waiting"].in_words()
        raise click.UsageError(f"the day still waits for the worker ({waiting}): it can be signed off after that")
    if report.is_wrong and not comment:
        raise click.UsageError(
            f"the day is not balanced ({_describe_imbalance(report)}): give the reason with --comment"
        )
    ensure_dead_letter_topics(settings.kafka_access, settings.topic_plan)
    state = sign(report, datetime.now(UTC), by, comment)
    write_day_states(settings, [state])
    as_it_is = f", with {_describe_imbalance(report)}" if report.is_wrong else ""
    click.echo(f"store {store}, {day}: signed off by {by} at {state.at:%Y-%m-%d %H:%M:%S} UTC{as_it_is}")


def _describe_imbalance(day: DayReport) -> str:
    """Return why the day is not balanced."""
    reasons = [counted(len(day.differences), "difference")] if day.differences else []
    reasons += [f"not booked: {day.not_booked.in_words()}"] if day.not_booked else []
    reasons += [f"not proved: {day.unproved.in_words()}"] if day.lost else []
    return "; ".join(reasons) or "its sums changed during the run"


@reconcile_group.command(name="history", epilog="\b\nExample:\n  tillstream reconcile history --store S17")
@with_broker
@day_option
@store_option
@as_one_object
def history_command(
    config: Path | None, broker: str | None, day: date | None, store: str | None, as_json: bool
) -> None:
    """Show the past states of business days.

    Since when, by whom, and why.
    """
    states_by_day = read_day_states(settings_from(config, broker=broker))
    states = [
        state
        for (its_store, its_day), of_day in sorted(states_by_day.items())
        for state in of_day
        if store in (None, its_store) and (day is None or its_day == day.isoformat())
    ]
    if as_json:
        click.echo(json.dumps([state.model_dump(mode="json") for state in states], ensure_ascii=False))
    else:
        render.report_history(states)


@reconcile_group.command(
    name="repair",
    epilog="\b\nExamples:\n  tillstream reconcile repair --store S17 --day 2026-03-10\n"
    "  tillstream reconcile repair --store S17 --day 2026-03-10 --apply\n"
    "  tillstream reconcile repair --store S17 --day 2026-03-10 --revoke --apply\n"
    "  tillstream reconcile repair --undo 20260311-070000-1232a --apply",
)
@with_settings
@day_option
@store_option
@click.option(
    "--revoke",
    is_flag=True,
    help="Also repair documents that were deleted or changed in the ERP's tables: take back their remains and book "
    "them again as sent. Take back copies, and parts without a document. The audit trail keeps all of them.",
)
@click.option(
    "--undo",
    "undo_id",
    metavar="ID",
    help="Put back the documents that this repair took back; `dlq audit` lists its ID.",
)
@apply_option
@with_operator
@as_one_object
def repair_command(
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    day: date | None,
    store: str | None,
    revoke: bool,
    undo_id: str | None,
    apply: bool,
    by: str,
    as_json: bool,
) -> None:
    """Process records that are missing in the ERP again.

    Without --apply this is a dry run.

    The ERP takes each event once, so nothing is booked twice. Refused records become dead letters. Exit code 1 if a
    difference is left, or a record refused.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    if undo_id is not None:
        if revoke or day is not None or store is not None:
            raise click.UsageError("--undo takes back a whole repair: give it without --revoke, --day and --store")
        sys.exit(undo.report(settings, undo_id, by, apply=apply, as_json=as_json))
    found = reconcile_with_progress(settings, store=store, first=day, last=day, deep=True)
    differences = [difference for report in found.days for difference in report.differences]
    if apply:
        options = {"store": store, "day": None if day is None else day.isoformat(), "forget": revoke}
        result, action = _repair_and_record(settings, differences, by, options)
    else:
        result, action = repair(settings, differences, save=None, forget=revoke), ""
    if as_json:
        click.echo(json.dumps(result.as_json() | {"done": apply, "action": action, "reasons": result.reasons}))
    else:
        for line in repair_lines(result, differences, applied=apply, revoke=revoke, action=action):
            click.echo(line)
    sys.exit(DIFFERS if len(differences) > result.repaired else 0)


def _repair_and_record(
    settings: Settings, differences: Sequence[DayDifference], by: str, options: dict[str, Any]
) -> tuple[RepairResult, str]:
    """Repair the differences and record it in the audit trail. Return the outcome and the id of the entry."""
    with audited_action(settings, "repair", by, DeadLetterFilter(), "", **options) as (trail, action):
        result = repair(settings, differences, save=partial(trail.write_removed, action.id), forget=options["forget"])
        action.counts.update(result.as_json())
    return result, action.id


reconcile_group.add_command(certificate_command)
reconcile_group.add_command(verify_command)
