"""Put back the documents that a repair took back from the ERP's tables, from the audit trail."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import click

from ops.dlq.close import audited_action
from ops.dlq.filters import DeadLetterFilter
from ops.reconcile.verdict import counted
from sinks.base import ReferenceSnapshot, Restored, SinkMisconfigured, SupportsRevoke
from streams.assembly import build_replay_pipeline
from streams.dead_letters.header import printable
from streams.dead_letters.removed_documents import erp_url, read_removed
from streams.settings import Settings


def report(settings: Settings, action: str, by: str, *, apply: bool, as_json: bool) -> int:
    """Undo the repair, print the outcome and return the exit code. Without `apply` this is a dry run.

    Raises as `undo`, and BrokerUnreachable.
    """
    kept, lost, erp = read_removed(settings, action)
    if erp and erp != erp_url(settings):
        raise click.UsageError(f"repair {action} changed {erp}: give --sink, or the settings of that ERP")
    if not erp:
        raise click.UsageError(f"no repair {action} has taken anything back; `tillstream dlq audit` lists all repairs")
    if apply:
        with audited_action(settings, "undo", by, DeadLetterFilter(), "", repair=action) as (_, entry):
            outcomes = undo(settings, kept, apply=True)
            entry.counts.update(Counter(outcomes.values()))
    else:
        outcomes = undo(settings, kept, apply=False)
    counts = {name: list(outcomes.values()).count(name) for name in ("restored", "there", "occupied")}
    if as_json:
        click.echo(json.dumps(counts | {"done": apply, "lost": lost, "receipts": outcomes}, ensure_ascii=False))
    else:
        for line in _lines(outcomes, counts, lost, documents=len(kept), applied=apply):
            click.echo(line)
    return 1 if counts["occupied"] or lost else 0


def _lines(
    outcomes: Mapping[str, Restored], counts: Mapping[str, int], lost: Sequence[str], *, documents: int, applied: bool
) -> list[str]:
    would = "" if applied else "would be "
    restored, there = counts["restored"], counts["there"]
    lines = [f"{restored:,} of {counted(documents, 'document')} {would}put back, {there:,} already in the ERP"]
    reason = "the ERP now holds another document under this reference, or its event under another"
    lines += [f"not put back: {printable(ref)}: {reason}" for ref, outcome in outcomes.items() if outcome == "occupied"]
    lines += [f"not put back: {printable(ref)}: the audit topic has lost part of it" for ref in lost]
    if not applied:
        would_do = (
            f"; --apply puts {'it' if restored == 1 else 'them'} back" if restored else ", and --apply would not either"
        )
        lines.append(f"this was a dry run: nothing was changed{would_do}")
    return lines


def undo(settings: Settings, kept: Sequence[ReferenceSnapshot], *, apply: bool) -> dict[str, Restored]:
    """Put back the documents that a repair took back, and return the outcome by reference. Without `apply`: a dry run.

    Running it twice changes nothing more, and a document that the ERP holds now is never touched. Raises
    SinkMisconfigured for sinks that can't put documents back, and as `build_replay_pipeline`.
    """
    desk = build_replay_pipeline(settings)
    try:
        if not isinstance(desk.sink, SupportsRevoke):
            raise SinkMisconfigured("this sink never takes documents back, so it can't put any back")
        return desk.sink.restore(kept, rehearse=not apply)
    finally:
        desk.sink.close()
