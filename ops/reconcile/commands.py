"""`tillstream reconcile …`: the options; the work has modules of its own."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from ops.dlq.close import audited_action
from ops.dlq.commands import apply_option, as_one_object, with_operator
from ops.dlq.filters import DeadLetterFilter
from ops.inspect.commands import bar
from ops.reconcile import certificate, explain, render, undo
from ops.reconcile.certificate_page import page
from ops.reconcile.day_states import now_is, sign
from ops.reconcile.metrics import summary_of, write_metrics
from ops.reconcile.repair import repair, what_is_left
from ops.reconcile.run import ReconciliationResult, reconcile, states_now
from ops.reconcile.store_day import DayReport
from ops.reconcile.verdict import counted, is_right
from ops.terminal.options import settings_from, with_broker, with_settings
from streams.dead_letters.day_states import read_day_states, write_day_states
from streams.kafka.topics import ensure_desk_topics
from streams.settings import Settings, SettingsError

DIFFERS = 1
K = TypeVar("K")


class _DayParam(click.ParamType):
    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date such as 2026-03-10", param, ctx)


_day_option = click.option("--day", type=_DayParam(), metavar="DATE", help="This business day alone.")
_since_option = click.option("--since", type=_DayParam(), metavar="DATE", help="Business days from this one on.")
_store_option = click.option("--store", help="This store alone.")
_allow_open_option = click.option(
    "--allow-open",
    is_flag=True,
    help="Exit code 0 if the books agree, although not everything is booked, or can be proved.",
)


def _one_day(command: Callable[..., Any]) -> Callable[..., Any]:
    store = click.option("--store", required=True, help="The store.")
    return store(
        click.option("--day", type=_DayParam(), metavar="DATE", required=True, help="The business day.")(command)
    )


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
@_day_option
@_since_option
@_store_option
@click.option(
    "--deep", is_flag=True, help="Compare digests of every field that comes from the tills, not the sums alone."
)
@click.option("--all", "everything", is_flag=True, help="Show every store-day, also where there are many.")
@click.option(
    "--metrics", type=click.Path(path_type=Path), help="Write what was found for Prometheus into this .prom file."
)
@click.option("--no-save", is_flag=True, help="Do not keep the states that were found in the audit topic.")
@_allow_open_option
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
    """Prove that tills and ERP agree, store by store and business day by business day, from the facts.

    What the tills sent (the topic, by event time) = what is in the ERP + duplicates + replaced revisions + dead letters
    + what is held + what waits. Each difference is told to the record, with the command that repairs it.

    The verdict answers two questions: do the books agree, and is everything booked? What is in dead letters, held,
    parked, or waits for the worker is NOT BOOKED, with its amount.

    \b
    States: open (the day is not over), differs, unproved (the topic has lost records of it),
    incomplete (the books agree, and not everything is booked), balanced, signed off.
    Late events, or changes in the ERP, reopen a day.

    Exit code 1 when the books of a day differ, or it is not complete or proved, and it is not signed off like that.
    With --allow-open only when books differ.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    if day is not None and since is not None:
        raise click.UsageError("give --day or --since, not both")
    found = _found(settings, store=store, first=day or since, last=day, deep=deep)
    now = states_now(settings, found, by, keep=not no_save)
    if metrics is not None:
        write_metrics(summary_of(found, now), metrics)
    if as_json:
        for piece in render.as_json(found, now):
            click.echo(piece, nl=False)
    else:
        render.report(found, now, everything=everything or day is not None or store is not None)
    sys.exit(0 if is_right(found, now, allow_open=allow_open) else DIFFERS)


def _found(settings: Settings, **wanted: Any) -> ReconciliationResult:
    with bar(f"reading {settings.topic}", None) as told:
        return reconcile(settings, progress=told, **wanted)


@reconcile_group.command(
    name="sign",
    epilog="\b\nExample:\n  tillstream reconcile sign --store S17 --day 2026-03-10 --comment 'two receipts on paper'",
)
@with_settings
@_one_day
@click.option("--comment", default="", help="What is to be known of it; needed where the day is not balanced.")
@with_operator
def sign_command(
    config: Path | None, broker: str | None, sink_url: str | None, store: str, day: date, comment: str, by: str
) -> None:
    """Sign a store's day off as it is now: its differences, and what is not booked. What comes or changes later reopens
    it."""
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    found = _found(settings, store=store, first=day, last=day, deep=True)
    one = _only(found, store, day)
    if one.state == "open" or one.count("waiting"):
        what = "open" if one.state == "open" else f"waiting for the worker ({one.unbooked['waiting'].in_words()})"
        raise click.UsageError(f"the day is {what}: it can be signed off when all of it is in")
    if one.is_wrong and not comment:
        raise click.UsageError(f"the day is not balanced ({_of_day(one)}): say --comment it is signed off like this")
    ensure_desk_topics(settings)
    state = sign(one, datetime.now(UTC), by, comment)
    write_day_states(settings, [state])
    as_it_is = f", with {_of_day(one)}" if one.is_wrong else ""
    click.echo(f"store {store}, {day}: signed off by {by} at {state.at:%Y-%m-%d %H:%M:%S} UTC{as_it_is}")


def _of_day(day: DayReport) -> str:
    """Return why the day is not balanced."""
    words = [counted(len(day.differences), "difference")] if day.differences else []
    words += [f"not booked: {day.not_booked.in_words()}"] if day.not_booked else []
    words += [f"not proved: {day.unproved.in_words()}"] if day.lost else []
    return "; ".join(words) or "its sums changed meanwhile"


def _only(found: ReconciliationResult, store: str, day: date) -> DayReport:
    for one in found.days:
        if (one.store, one.day) == (store, day.isoformat()):
            return one
    raise click.UsageError(f"store {store} has nothing on {day}, neither sent nor in the ERP")


@reconcile_group.command(name="history", epilog="\b\nExample:\n  tillstream reconcile history --store S17")
@with_broker
@_day_option
@_store_option
@as_one_object
def history_command(
    config: Path | None, broker: str | None, day: date | None, store: str | None, as_json: bool
) -> None:
    """Show the states that days have had: since when, by whom, and why."""
    noted_days = read_day_states(settings_from(config, broker=broker))
    states = [
        state
        for (its_store, its_day), of_day in sorted(noted_days.items())
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
@_day_option
@_store_option
@click.option(
    "--revoke",
    is_flag=True,
    help="Documents that were deleted or changed in the ERP's tables too: what is left of them is taken back, and "
    "booked again as it was sent. Copies of documents, and parts of none, are taken back. The audit trail keeps them.",
)
@click.option("--undo", "undone", metavar="ID", help="Put back what this repair has taken back; `dlq audit` names it.")
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
    undone: str | None,
    apply: bool,
    by: str,
    as_json: bool,
) -> None:
    """Take the records that are missing in the ERP through the line again. Without --apply it is a dry run.

    The ERP takes each event once, so nothing is booked twice. What is refused becomes a dead letter. Exit code 1 when
    something is left, or refused.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    if undone is not None:
        if revoke or day is not None or store is not None:
            raise click.UsageError("--undo takes back a whole repair: give it without --revoke, --day and --store")
        sys.exit(undo.report(settings, undone, by, go=apply, as_json=as_json))
    made = ""
    found = _found(settings, store=store, first=day, last=day, deep=True)
    differences = [each for one in found.days for each in one.differences]
    if apply:
        said = {"store": store, "day": None if day is None else day.isoformat(), "forget": revoke}
        with audited_action(settings, "repair", by, DeadLetterFilter(), "", **said) as (trail, action):
            done = repair(settings, differences, keep=partial(trail.write_removed, action.id), forget=revoke)
            action.counts.update(done.as_json())
            made = action.id
    else:
        done = repair(settings, differences, keep=None, forget=revoke)
    if as_json:
        click.echo(json.dumps(done.as_json() | {"done": apply, "action": made, "reasons": done.reasons}))
    else:
        would = "" if apply else "would be "
        click.echo(
            f"{done.records:,} of {counted(len(differences), 'difference')}: {done.delivered:,} {would}booked, "
            f"{done.rejected:,} {would}dead {'letter' if done.rejected == 1 else 'letters'} again, "
            f"{done.refused:,} {would}refused, {done.gone:,} not in the topic any more"
        )
        for reason, count in Counter(done.reasons).most_common():
            click.echo(f"{would}a dead letter: {reason} ({count:,})")
        if apply and done.refused:
            click.echo("what was refused is in the dead letters now: tillstream dlq list")
        if copies := done.taken_back - done.leftovers:
            click.echo(f"{counted(copies, 'copy', 'copies')} {would}taken back")
        if done.leftovers:
            click.echo(f"{counted(done.leftovers, 'leftover')} of no document {would}taken back")
        if done.changed:
            click.echo(f"changed in the ERP meanwhile, and left: {done.changed:,}; reconcile again")
        if apply and done.kept:
            told = counted(done.kept, "document")
            click.echo(f"{told} kept in the audit trail first: tillstream reconcile repair --undo {made}")
        if done.remembered:
            click.echo(f"delivered before and deleted in the ERP: {done.remembered:,}; --revoke books them again")
        for line in what_is_left(differences, forget=revoke):
            click.echo(line)
        if not apply:
            click.echo("this was a dry run: nothing was changed; --apply repairs them")
    left = len(differences) - done.delivered - done.rejected - done.taken_back
    sys.exit(DIFFERS if left else 0)


@reconcile_group.command(
    name="certificate",
    epilog="\b\nExample:\n  tillstream reconcile certificate --store S17 --day 2026-03-10 --to S17.json --html S17.htm",
)
@with_settings
@_one_day
@click.option("--to", type=click.Path(path_type=Path), help="Write the JSON here instead of to the screen.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page for people as well.")
@_allow_open_option
@with_operator
def certificate_command(
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    store: str,
    day: date,
    to: Path | None,
    html: Path | None,
    allow_open: bool,
    by: str,
) -> None:
    """Write what was found of a store's day, with its totals and digests, signed with the settings' certificate_key.

    Exit code 1 when the day's books differ, or it is not complete or proved; the certificate says so. With --allow-open
    only when they differ.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    key = _key(settings, certificate.private_key)
    found = _found(settings, store=store, first=day, last=day, deep=True)
    one = _only(found, store, day)
    state = now_is(one, found.noted.get((store, day.isoformat()), []), found.at, by)
    tills = f"topic {settings.topic} at {settings.broker}"
    erp = settings.sink_url.partition("?")[0]  # behind it may stand what is nobody's business
    said = render.day_as_json(one, state)
    if found.unplaced is not None:
        said["without_a_day"] = render.answers_as_json(found.unplaced)
    made = certificate.made(said, found.at, by, key, tills=tills, erp=erp, compared=found.compared)
    text = certificate.as_text(made)
    if to is None:
        click.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")
    if html is not None:
        html.write_text(page(made), encoding="utf-8")
    wrong = [day for day in found.all if (day.differences if allow_open else day.is_wrong)]
    sys.exit(DIFFERS if wrong else 0)


@reconcile_group.command(
    name="verify",
    epilog="\b\nExamples:\n  tillstream reconcile verify S17.html --key finance.pub.pem\n"
    "  tillstream reconcile verify S17.json",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    help="The public key (PEM); without it, that of the settings' key.",
)
@with_broker
def verify_command(file: Path, key_file: Path | None, config: Path | None, broker: str | None) -> None:
    """Say whether a certificate (JSON, or the page) is as it was signed. Exit code 1 when it is not.

    The public key is all that is needed: no settings, no broker and no ERP.
    """
    if key_file is None:
        key = _key(settings_from(config, broker=broker), certificate.public_key)
    else:
        key = _as_key(_read(key_file), certificate.public_key, str(key_file))
    text = _read(file)
    fault = certificate.fault(text, key)
    if fault is not None:
        click.echo(f"{file}: {fault}", err=True)
        sys.exit(DIFFERS)
    click.echo(f"{file}: as it was signed, with key {certificate.name_of(key)}")
    if certificate.is_of_books_alone(text):
        click.echo(
            "it says whether the books agreed, and not whether everything was booked, and its digests are made of "
            "fewer fields than those of today: make a new one for that"
        )


@click.command(
    name="explain",
    epilog="\b\nExamples:\n  tillstream explain 48121\n  tillstream explain S001:0199-7f3a\n"
    "  tillstream explain pos/S001/2/48121/sale --json | jq '.[].steps'",
)
@click.argument("target", metavar="RECEIPT|EVENT|DOCUMENT")
@with_settings
@as_one_object
def explain_command(target: str, config: Path | None, broker: str | None, sink_url: str | None, as_json: bool) -> None:
    """Tell a receipt's whole way, with times: sold, arrived, dead letters and replays, and what the ERP holds.

    It is meant by its number, by its reference (the document's, SOURCE/STORE/REGISTER/RECEIPT/TYPE), or by the id of an
    event. Nothing personal is shown. Exit code 1 when nothing is known of it.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    with bar(f"reading {settings.topic}", None) as told:
        ways = explain.explain(settings, target, told)
    if as_json:
        click.echo(json.dumps([way.as_json() for way in ways], ensure_ascii=False))
    elif ways:
        explain.report(ways)
    else:
        click.echo(f"no receipt and no event is called {target}", err=True)
    known = any(way.document is not None or len(way.steps) > 1 for way in ways)
    sys.exit(0 if known else DIFFERS)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None


def _key(settings: Settings, read: Callable[[str], K]) -> K:
    key = settings.certificate_secret()
    if not key:
        raise SettingsError(
            f"certificates are signed: set certificate_key_file, or TILLSTREAM_CERTIFICATE_KEY; {certificate.HOW}"
        )
    return _as_key(key, read, "certificate_key")


def _as_key(pem: str, read: Callable[[str], K], where: str) -> K:
    try:
        return read(pem)
    except certificate.NoKey as error:
        raise SettingsError(f"{where}: {error}") from None
