"""`tillstream explain`: the options; `ops.reconcile.explain` has the work."""

import json
import sys
from pathlib import Path

import click

from ops.dlq.commands import as_one_object
from ops.inspect.commands import progress_bar
from ops.reconcile import explain
from ops.reconcile.options import DIFFERS
from ops.terminal.options import settings_from, with_settings


@click.command(
    name="explain",
    epilog="\b\nExamples:\n  tillstream explain 48121\n  tillstream explain S001:0199-7f3a\n"
    "  tillstream explain pos/S001/2/48121/sale --json | jq '.[].steps'",
)
@click.argument("target", metavar="RECEIPT|EVENT|DOCUMENT")
@with_settings
@as_one_object
def explain_command(target: str, config: Path | None, broker: str | None, sink_url: str | None, as_json: bool) -> None:
    """Trace a receipt from till to ERP.

    The trace has times for the sale, its arrival, dead letters and replays, and the document that the ERP holds now.
    Name the receipt by its number, by its reference (the document's, SOURCE/STORE/REGISTER/RECEIPT/TYPE), or by the id
    of an event. Personal data are not shown. Exit code 1 if nothing is known of it.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    with progress_bar(f"reading {settings.topic}", None) as progress:
        traces = explain.explain(settings, target, progress)
    if as_json:
        click.echo(json.dumps([trace.as_json() for trace in traces], ensure_ascii=False))
    elif traces:
        explain.report(traces)
    else:
        click.echo(f"no receipt and no event matches {target}", err=True)
    known = any(trace.document is not None or len(trace.steps) > 1 for trace in traces)
    sys.exit(0 if known else DIFFERS)
