"""`tillstream post` and `tillstream ledger`: the second stage of a Tryton sink, and the state of each document."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.terminal.options import settings_from, with_config
from sinks.base import SinkMisconfigured, SinkUnavailable
from sinks.registry import open_sink
from streams.settings import Settings
from streams.sink_retry import BackOff

if TYPE_CHECKING:
    from sinks.tryton.sink import TrytonSink

_SINK = click.option("--sink", "sink_url", metavar="URL", help="The ERP (settings: sink_url).")


@click.command(
    epilog="\b\nExamples:\n  tillstream post\n  tillstream post --every 60\n  tillstream post --json | jq .refused"
)
@with_config
@_SINK
@click.option("--batch", type=click.IntRange(1, 1000), default=50, show_default=True, help="Sales per call.")
@click.option("--every", type=click.FloatRange(1), metavar="SECONDS", help="Repeat forever, with pauses this long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def post(config: Path | None, sink_url: str | None, batch: int, every: float | None, as_json: bool) -> None:
    """Post delivered sales to the ERP's stock and ledger.

    The second stage of a Tryton sink. Runs next to the workers, from cron or with --every, at its own pace. The next
    run continues where an interrupted one stopped. Sales that the ERP refuses to post hold nothing up: the ledger
    (`tillstream ledger`) has the reason, and the next run tries them again. Exit code 1: some sales were refused.
    """
    settings = settings_from(config, sink_url=sink_url)
    sink = _open(settings)
    try:
        while every is not None:
            try:
                post_once(sink, batch, as_json=as_json)
            except SinkUnavailable as error:
                click.echo(f"tillstream: {error}; trying again in {every:g} s", err=True)
            time.sleep(every)
        refused = post_once(sink, batch, as_json=as_json)
    finally:
        sink.close()
    sys.exit(1 if refused else 0)


def post_once(sink: "TrytonSink", batch: int, *, as_json: bool) -> int:
    """Post once and print the counts. Return how many sales were refused. Waits for an ERP that is busy."""
    from sinks.tryton import posting

    posted = refused = locked = 0
    details: set[str] = set()
    while True:
        try:
            for progress in posting.post(sink, batch):
                posted, locked = posted + progress.posted, 0
                refused += progress.refused
                details |= {progress.detail} if progress.detail is not None else set()
            break
        except SinkUnavailable as error:
            if error.kind != "lock" or locked >= 20:
                raise
            locked += 1
            time.sleep(error.retry_after or BackOff().wait(locked))
            refused = 0  # the retry tries them again
    left = posting.left(sink)
    if as_json:
        click.echo(json.dumps({"posted": posted, "refused": refused, "left": left, "details": sorted(details)}))
    else:
        click.echo(f"{posted} posted, {refused} refused, {left} left")
        for detail in sorted(details):
            click.echo(f"  refused: {detail}")
    return refused


@click.command(epilog="\b\nExamples:\n  tillstream ledger\n  tillstream ledger --rebuild\n  tillstream ledger RECEIPT…")
@with_config
@_SINK
@click.option("--rebuild", is_flag=True, help="First rebuild the ledger from the ERP's documents.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.argument("receipts", nargs=-1)
def ledger(config: Path | None, sink_url: str | None, rebuild: bool, as_json: bool, receipts: tuple[str, ...]) -> None:
    """Show the states of documents in an ERP behind an API.

    Without RECEIPTS the number of documents in each state, otherwise the state of each receipt. Name a receipt by its
    reference, source/store/register/number/type. Exit code 1: a receipt is unknown.
    """
    settings = settings_from(config, sink_url=sink_url)
    sink = _open(settings)
    try:
        if rebuild:
            sink.ledger.rebuild(sink.entries())
        if receipts:
            rows = [
                {
                    "receipt": entry.external_ref,
                    "revision": entry.revision,
                    "state": entry.state,
                    "number": entry.number,
                    "attempts": entry.attempts,
                    "last_error": entry.last_error,
                }
                for entry in sink.ledger.find(receipts)
            ]
        else:
            rows = [{"state": state, "documents": count} for state, count in sorted(sink.ledger.counts().items())]
    finally:
        sink.close()
    unknown = set(receipts).difference(row.get("receipt") for row in rows)
    for row in rows:
        click.echo(json.dumps(row) if as_json else "  ".join(str(value) for value in row.values() if value is not None))
    for receipt in sorted(unknown):
        click.echo(f"tillstream: {receipt} is unknown; name a receipt as source/store/register/number/type", err=True)
    if unknown:
        sys.exit(1)


def _open(settings: Settings) -> "TrytonSink":
    from sinks.tryton.sink import TrytonSink

    sink = open_sink(settings.sink_url, password=settings.password())
    if not isinstance(sink, TrytonSink):
        sink.close()
        raise SinkMisconfigured("This sink has no second stage and no ledger: its documents are complete once written.")
    return sink
