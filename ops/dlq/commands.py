"""`tillstream dlq …`: the options; the work has modules of its own."""

import asyncio
import getpass
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ops.dlq import close, render, replay_report
from ops.dlq.export import CannotExport, export
from ops.dlq.filters import DeadLetterFilter, NotAFilter, moment, with_parked_topic
from ops.dlq.listing import DeadLetterListing, history, list_dead_letters, read_audit
from ops.dlq.patch import BadPatch, ValuePatch, patchable
from ops.dlq.replay import NoSuchReplay, OnOutcomes, ReplayOrder, choose, dry_run, replay
from ops.dlq.stats import stats
from ops.inspect.commands import progress_bar
from ops.terminal.options import settings_from, with_broker, with_settings
from schemas.money import NotMoney, any_number
from streams.assembly import build_replay_pipeline, find_source, tune_interpreter
from streams.dead_letters.header import parse_header
from streams.dead_letters.reprocess import ReplayResult
from streams.kafka.reader import record_at
from streams.kafka.topics import partitions_of_topics
from streams.logs import set_up_logs
from streams.settings import Settings
from streams.sources.contracts import find_contract, load_contract

FAILED = 1
as_one_object = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
apply_option = click.option("--apply", is_flag=True, help="Do it; without this nothing is changed.")


def _parsed(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def callback(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else read(text)
        except (NotAFilter, BadPatch) as error:
            raise click.BadParameter(str(error)) from None

    return callback


def _amount(text: str) -> Decimal:
    try:
        return any_number(text)
    except NotMoney:
        raise NotAFilter(f"{text!r} is no amount") from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0.1 <= rate <= 1e6:
        raise NotAFilter(f"{text!r} is no rate; give letters a second, from 0.1 on")
    return rate


def _when(text: str) -> datetime:
    return moment(text, render.now_utc())


_FILTERS = (
    click.option("--reason", "reasons", multiple=True, help="Such as unmapped_item, or 'held_*'."),
    click.option("--store", "stores", multiple=True, help="The store, as the till names it."),
    click.option("--source", "sources", multiple=True, help="The source that sent it."),
    click.option("--event", "event_ids", multiple=True, help="The event's id."),
    click.option("--receipt", "receipts", multiple=True, help="The receipt's number, or its whole reference."),
    click.option("--location", "places", multiple=True, metavar="P:O[-O]", help="Its place in the dead-letter topic."),
    click.option("--since", callback=_parsed(_when), help="Failed last since then: 2026-03-10T12:00, or 90m, 2h, 3d."),
    click.option("--until", callback=_parsed(_when), help="Failed last before then."),
    click.option("--text", help="Has this text in its key or value, in whichever case."),
    click.option("--min-amount", callback=_parsed(_amount), help="The receipt's gross is at least this."),
    click.option("--parked", is_flag=True, help="Of the parked topic."),
)


def with_filter(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select dead letters; the command receives them as `wanted`."""

    @wraps(command)  # with the options that the command has already
    def filtered(*args: Any, **given: Any) -> Any:
        wanted = DeadLetterFilter(
            **{name: given.pop(name) for name in DeadLetterFilter.model_fields if name not in ("closed", "over")}
        )
        try:
            wanted.matcher()
        except NotAFilter as error:
            raise click.UsageError(str(error)) from None
        return command(*args, wanted=wanted, **given)

    made: Callable[..., Any] = filtered
    for option in reversed(_FILTERS):
        made = option(made)
    return made


def with_operator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who does it, for the audit trail."""
    return click.option(
        "--by", default=_operator, show_default="TILLSTREAM_OPERATOR, or the user's name", help="For the audit trail."
    )(command)


def _operator() -> str:
    try:
        return os.environ.get("TILLSTREAM_OPERATOR") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return f"uid {os.getuid()}"


@click.group(name="dlq")
def dlq_group() -> None:
    """Inspect, replay, park and resolve dead letters.

    All commands read the dead-letter topic itself, and commit nothing that is not done.
    """


@dlq_group.command(
    name="stats",
    epilog="\b\nExamples:\n  tillstream dlq stats\n  tillstream dlq stats --store S17 --since 2d\n"
    "  tillstream dlq stats --json | jq '.by.reason[] | {name, letters, money}'",
)
@with_broker
@with_filter
@as_one_object
def stats_command(config: Path | None, broker: str | None, wanted: DeadLetterFilter, as_json: bool) -> None:
    """Count open dead letters by reason, store, source and day.

    With their ages and the money in them.

    Exit code 1 while there are some.
    """
    shelf = _surveyed(_opened(wanted, config, broker=broker), wanted)
    if as_json:
        click.echo(json.dumps(stats(shelf.letters, render.now_utc()), ensure_ascii=False))
    else:
        render.report_stats(shelf.letters, render.now_utc())
    sys.exit(FAILED if shelf.letters else 0)


@dlq_group.command(
    name="list",
    epilog="\b\nExamples:\n  tillstream dlq list --reason unmapped_item --since 2h\n"
    "  tillstream dlq list --text SKU-9 --min-amount 1000 --json | jq '.letters[].place'",
)
@with_broker
@with_filter
@click.option("--all", "closed", is_flag=True, help="Those that were dealt with as well.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Show so many.")
@as_one_object
def list_command(
    config: Path | None, broker: str | None, wanted: DeadLetterFilter, closed: bool, limit: int, as_json: bool
) -> None:
    """List dead letters, one per line.

    The content of their records is not shown.
    """
    shelf = _surveyed(_opened(wanted, config, broker=broker), wanted.model_copy(update={"closed": closed}))
    ledger = shelf.trail.ledger
    if as_json:
        rows = [render.row(head, ledger) for head in shelf.letters[:limit]]
        click.echo(json.dumps({"found": len(shelf.letters), "letters": rows}, ensure_ascii=False))
    else:
        render.report_list(shelf.letters, ledger, limit)


@dlq_group.command(
    name="show",
    epilog="\b\nExamples:\n  tillstream dlq show 3:1741\n  tillstream dlq show 3:1741 --json | jq .attempts_so_far\n"
    "  tillstream dlq show 3:1741 --reveal --raw > record.json",
)
@click.argument("place", metavar="PARTITION:OFFSET")
@with_broker
@click.option("--parked", is_flag=True, help="Of the parked topic.")
@click.option("--reveal", is_flag=True, help="Show personal data too, if the settings allow it; this is audited.")
@click.option("--raw", is_flag=True, help="Only the value, byte for byte. Takes --reveal.")
@with_operator
@as_one_object
def show_command(
    place: str,
    config: Path | None,
    broker: str | None,
    parked: bool,
    reveal: bool,
    raw: bool,
    by: str,
    as_json: bool,
) -> None:
    """Show one dead letter with its history and its record.

    Why and how often it failed, the actions on it, its headers and its record.

    Personal data are masked with stars, and unreadable values are not shown.
    """
    wanted = _meant(DeadLetterFilter(places=(place,), parked=parked))
    settings = _opened(wanted, config, broker=broker)
    if raw and not reveal:
        raise click.UsageError("--raw shows all that the record says: it takes --reveal")
    partition, _, offset = place.partition(":")
    there = partitions_of_topics(settings.kafka_access).get(settings.dead_letter_topic, 0)
    known = offset.isdigit() and int(partition) < there
    record = (
        record_at(settings.kafka_access, settings.dead_letter_topic, int(partition), int(offset)) if known else None
    )
    if record is None:
        raise click.UsageError(f"{settings.dead_letter_topic} has no record at {place}")
    if reveal:
        _allow(settings)
        with close.audited_action(settings, "reveal", by, wanted, ""):
            pass
    if raw:
        sys.stdout.buffer.write(record.value or b"")
        return
    head = parse_header(record, settings.dead_letter_topic)
    past, done = history(settings, head.origin)
    source = find_source(settings)
    asyncio.run(source.prepare([record]))
    value = render.value_of(record, source, reveal=reveal)
    found = render.letter(head, record, past, done, value, reveal=reveal)
    click.echo(json.dumps(found, ensure_ascii=False)) if as_json else render.report_letter(found)


@dlq_group.command(
    name="replay",
    epilog="\b\nExamples:\n  tillstream dlq replay --reason unmapped_item\n"
    "  tillstream dlq replay --reason unmapped_item --apply\n  tillstream dlq replay --only-passing --apply\n"
    "  tillstream dlq replay --reason 'held_*' --store S17 --release --apply\n"
    '  tillstream dlq replay --location 3:1741 --patch \'{"currency": "EUR"}\' --apply\n'
    "  tillstream dlq replay --reason totals_mismatch --rate 100 --limit 1000 --apply\n"
    "  tillstream dlq replay --resume 20260310-120000-a1b2 --apply",
)
@with_settings
@with_filter
@apply_option
@click.option("--only-passing", is_flag=True, help="Only those that would pass now.")
@click.option("--release", is_flag=True, help="Book what the cleaning rules would hold, with a remark in its review.")
@click.option(
    "--patch",
    callback=_parsed(ValuePatch),
    help="Change each record first: a JSON Patch ([…]) or a merge patch ({…}). The dead letter stays as it is.",
)
@click.option("--new-identity", is_flag=True, help="The patch may make another event or receipt of a record.")
@click.option("--rate", callback=_parsed(_rate), help="At most so many letters a second.")
@click.option("--limit", type=click.IntRange(1), help="At most so many letters, those that failed longest ago first.")
@click.option("--resume", metavar="ID", help="Go on with a replay that was stopped or killed.")
@click.option("--comment", default="", help="Why it is done, for the audit trail.")
@with_operator
@as_one_object
def replay_command(
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    wanted: DeadLetterFilter,
    apply: bool,
    only_passing: bool,
    release: bool,
    patch: ValuePatch | None,
    new_identity: bool,
    rate: float | None,
    limit: int | None,
    resume: str | None,
    comment: str,
    by: str,
    as_json: bool,
) -> None:
    """Run dead letters through the line again.

    By today's contract, mapping and rules, into the same ERP.

    Without --apply it is a dry run: it shows which would pass, which would not and why, and the changes in the ERP.
    The ERP takes each event once, so a replay that is repeated, or killed and resumed, changes nothing more. A record
    that fails again keeps its bytes and gains an attempt. Ctrl-C stops between two batches.

    Exit code 1 if a dead letter fails (or would), or if the replay was stopped before its end.
    """
    settings = _opened(wanted, config, broker=broker, sink_url=sink_url)
    if (
        patch is not None
        and settings.contract is not None
        and not patchable(load_contract(find_contract(settings.contract)))
    ):
        raise click.UsageError("patches are for records in JSON; the contract's format is another")
    if resume is not None and not apply:
        raise click.UsageError("--resume goes on with a replay: it takes --apply")
    if resume is not None and (
        patch is not None
        or only_passing
        or limit is not None
        or new_identity
        or wanted.model_copy(update=_OWN) != DeadLetterFilter()
    ):
        raise click.UsageError(
            "--resume goes on as it was begun: only --rate, --text, --parked and --release beside it"
        )
    order = ReplayOrder(wanted, by, comment, patch, rate, limit, only_passing, new_identity, release)
    if apply:
        sys.exit(_replayed(settings, order, resume, as_json=as_json))
    sys.exit(_dry_run(settings, order, as_json=as_json))


#: The filter options that may be given with --resume.
_OWN = {"text": None, "parked": False}
#: Dead letters that a dry run prints; --json lists all.
_SHOWN = 20


def _dry_run(settings: Settings, order: ReplayOrder, *, as_json: bool) -> int:
    with progress_bar("reading dead letters", None) as told:
        _, chosen = choose(settings, order, told)
    tune_interpreter()
    set_up_logs("console", "warning")
    desk = build_replay_pipeline(settings.model_copy(update={"apply_migrations": False}), release=order.release)
    try:
        with progress_bar("trying them", len(chosen)) as told:
            shown = len(chosen) if as_json else _SHOWN
            report = asyncio.run(dry_run(settings, desk, order, chosen, _counting(told), shown))
        refs = sorted({d.external_ref for each in report.dry_run_results for d in each.documents})
        held = {d.external_ref: d for d in desk.sink.read(refs)} if refs else {}
    finally:
        desk.sink.close()
    found = replay_report.foreseen(report, held)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        replay_report.report_foreseen(found)
        click.echo("this was a dry run: nothing was changed; --apply replays them")
    return FAILED if found["would_fail"] else 0


def _replayed(settings: Settings, order: ReplayOrder, resume: str | None, *, as_json: bool) -> int:
    tune_interpreter()
    set_up_logs("console", "warning")
    desk = build_replay_pipeline(settings, release=order.release)

    async def run() -> Any:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with progress_bar("replaying", None) as told:
            return await replay(settings, desk, order, stop, _counting(told), resume)

    try:
        report = asyncio.run(run())
    finally:
        desk.sink.close()
    found = replay_report.done(report)
    click.echo(json.dumps(found, ensure_ascii=False)) if as_json else replay_report.report_done(found)
    failed = sum(report.ends[end] for end in ("failed", "refused", "parked"))
    return FAILED if failed or not report.drained else 0


def _counting(told: Callable[[int], None]) -> OnOutcomes:
    count = 0

    def note(redone: Sequence[ReplayResult]) -> None:
        nonlocal count
        count += len(redone)
        told(count)

    return note


@dlq_group.command(
    name="park",
    epilog="\b\nExample:\n  tillstream dlq park --reason invalid_json --until 30d --comment 'old till, gone' --apply",
)
@with_broker
@with_filter
@apply_option
@click.option("--comment", required=True, help="Why, for the audit trail.")
@with_operator
def park_command(
    config: Path | None, broker: str | None, wanted: DeadLetterFilter, apply: bool, comment: str, by: str
) -> None:
    """Move dead letters to the parked topic.

    A copy of each, byte for byte, goes to the parked topic, and they are closed here.
    """
    if wanted.parked:
        raise click.UsageError("they are parked already")
    settings = _opened(wanted, config, broker=broker)
    _close(settings, wanted, apply, "parked", lambda: close.park(settings, wanted, by, comment))


@dlq_group.command(
    name="resolve",
    epilog="\b\nExample:\n  tillstream dlq resolve --location 3:1741 --comment 'booked by hand, voucher 4711' --apply",
)
@with_broker
@with_filter
@apply_option
@click.option("--comment", required=True, help="How it was resolved, for the audit trail.")
@with_operator
def resolve_command(
    config: Path | None, broker: str | None, wanted: DeadLetterFilter, apply: bool, comment: str, by: str
) -> None:
    """Close dead letters without a replay.

    They stay in the topic; the audit trail has the reason.
    """
    settings = _opened(wanted, config, broker=broker)
    _close(settings, wanted, apply, "resolved", lambda: close.resolve(settings, wanted, by, comment))


def _close(settings: Settings, wanted: DeadLetterFilter, apply: bool, word: str, close: Callable[[], int]) -> None:
    if apply:
        click.echo(f"{render.letters_of(close())} {word}")
        return
    shelf = _surveyed(settings, wanted)
    render.report_list(shelf.letters, shelf.trail.ledger, 20)
    click.echo(f"{render.letters_of(len(shelf.letters))} would be {word}; --apply does it")


@dlq_group.command(
    name="export",
    epilog="\b\nExamples:\n  tillstream dlq export letters.jsonl --reason 'held_*'\n"
    "  tillstream dlq export letters.parquet --all",
)
@click.argument("to", type=click.Path(path_type=Path), metavar="FILE.jsonl|.csv|.parquet")
@with_broker
@with_filter
@click.option("--all", "closed", is_flag=True, help="Those that were dealt with as well.")
@click.option("--reveal", is_flag=True, help="With personal data, if the settings allow it; this is audited.")
@with_operator
def export_command(
    to: Path, config: Path | None, broker: str | None, wanted: DeadLetterFilter, closed: bool, reveal: bool, by: str
) -> None:
    """Write dead letters to a file.

    All that is known of each, and its record with stars for personal data.
    """
    settings = _opened(wanted, config, broker=broker)
    source = find_source(settings)
    if reveal:
        _allow(settings)
        with close.audited_action(settings, "export", by, wanted, ""):
            pass
    shelf = _surveyed(settings, wanted.model_copy(update={"closed": closed}))
    with progress_bar(f"writing {to.name}", len(shelf.letters)) as told:
        ledger = shelf.trail.ledger
        count = asyncio.run(export(settings, shelf.letters, ledger, to, source, told, reveal=reveal))
    click.echo(f"{render.letters_of(count)} in {to}")


@dlq_group.command(
    name="purge",
    epilog="\b\nExample:\n  tillstream dlq purge --older-than 90d --apply",
)
@with_broker
@click.option("--older-than", "before", required=True, callback=_parsed(_when), help="Failed last before: 90d, a date.")
@apply_option
@with_operator
def purge_command(config: Path | None, broker: str | None, before: datetime, apply: bool, by: str) -> None:
    """Delete old closed dead letters.

    From the beginning of each partition up to the first that is still open.
    """
    settings = settings_from(config, broker=broker)
    spans = close.purge(settings, before, by, go=apply)
    for number, (begin, end) in sorted(spans.items()):
        click.echo(f"partition {number}: offsets {begin} to {end - 1}")
    total = sum(end - begin for begin, end in spans.values())
    click.echo(f"{total:,} offsets {'purged' if apply else 'would be purged; --apply does it'}")


@dlq_group.command(
    name="audit",
    epilog="\b\nExamples:\n  tillstream dlq audit\n  tillstream dlq audit --json | jq '.[] | .by'",
)
@with_broker
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The last so many.")
@as_one_object
def audit_command(config: Path | None, broker: str | None, limit: int, as_json: bool) -> None:
    """Show the actions on dead letters.

    Who acted, when, on which dead letters, for which reason, and the outcome.
    """
    trail = read_audit(settings_from(config, broker=broker))
    actions = sorted(trail.actions.values(), key=lambda action: action.id)[-limit:]
    if as_json:
        click.echo(json.dumps([action.model_dump(mode="json") for action in actions], ensure_ascii=False))
    else:
        render.report_audit(actions)


def _opened(wanted: DeadLetterFilter, config: Path | None, **given: Any) -> Settings:
    settings = settings_from(config, **given)
    return with_parked_topic(settings) if wanted.parked else settings


def _surveyed(settings: Settings, wanted: DeadLetterFilter) -> DeadLetterListing:
    with progress_bar("reading dead letters", None) as told:
        return list_dead_letters(settings, wanted, told)


def _meant(wanted: DeadLetterFilter) -> DeadLetterFilter:
    try:
        wanted.matcher()
    except NotAFilter as error:
        raise click.UsageError(str(error)) from None
    return wanted


def _allow(settings: Settings) -> None:
    if not settings.reveal_personal:
        raise click.UsageError("the settings don't allow to show personal data; reveal_personal: true does")


FAULTS = (NoSuchReplay, CannotExport, NotAFilter)
