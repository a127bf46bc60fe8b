"""What a repair has taken back from the ERP's tables, put back from the audit trail."""

import json
from collections import Counter
from collections.abc import Sequence

import click

from ops.dlq.close import audited_action
from ops.dlq.filters import DeadLetterFilter
from ops.reconcile.verdict import counted
from sinks.base import ReferenceSnapshot, Restored, SinkMisconfigured, SupportsRevoke
from streams.assembly import build_desk
from streams.dead_letters.header import printable
from streams.dead_letters.removed_documents import erp_url, read_removed
from streams.settings import Settings


def report(settings: Settings, action: str, by: str, *, go: bool, as_json: bool) -> int:
    """Put back what the repair took back, print what came of it, and return the exit code.

    Raises as `undo`, and BrokerUnreachable.
    """
    kept, lost, erp = read_removed(settings, action)
    if erp and erp != erp_url(settings):
        raise click.UsageError(f"repair {action} was of {erp}: give --sink, or the settings of that ERP")
    if not erp:
        raise click.UsageError(
            f"no repair {action} has taken anything back; `tillstream dlq audit` names those there were"
        )
    if go:
        with audited_action(settings, "undo", by, DeadLetterFilter(), "", repair=action) as (_, noting):
            outcomes = undo(settings, kept, go=True)
            noting.counts.update(Counter(outcomes.values()))
    else:
        outcomes = undo(settings, kept, go=False)
    counts = {name: list(outcomes.values()).count(name) for name in ("restored", "there", "occupied")}
    if as_json:
        click.echo(json.dumps(counts | {"done": go, "lost": lost, "receipts": outcomes}, ensure_ascii=False))
    else:
        would = "" if go else "would be "
        told = f"{counts['restored']:,} of {counted(len(kept), 'document')} {would}put back"
        click.echo(f"{told}, {counts['there']:,} there already")
        for ref in (ref for ref, outcome in outcomes.items() if outcome == "occupied"):
            click.echo(
                f"not put back: {printable(ref)}: the ERP holds something else of it now, or its event elsewhere"
            )
        for ref in lost:
            click.echo(f"not put back: {printable(ref)}: the audit topic has lost a part of it")
        if not go:
            click.echo("this was a dry run: nothing was changed; --apply puts them back")
    return 1 if counts["occupied"] or lost else 0


def undo(settings: Settings, kept: Sequence[ReferenceSnapshot], *, go: bool) -> dict[str, Restored]:
    """Put back what a repair has taken back and return by reference what came of it; without `go` what would.

    Twice is as good as once. What stands under a reference now is never touched. Raises SinkMisconfigured for sinks
    that can't, and as `build_desk`.
    """
    desk = build_desk(settings)
    try:
        if not isinstance(desk.sink, SupportsRevoke):
            raise SinkMisconfigured("this sink can't put documents back: it never takes any back")
        return desk.sink.restore(kept, rehearse=not go)
    finally:
        desk.sink.close()
