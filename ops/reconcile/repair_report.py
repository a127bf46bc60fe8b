"""The outcome of a repair on the screen."""

from collections import Counter
from collections.abc import Sequence

from ops.reconcile.repair import RepairResult, describe_unrepaired
from ops.reconcile.store_day import DayDifference
from ops.reconcile.verdict import counted


def repair_lines(
    result: RepairResult, differences: Sequence[DayDifference], *, applied: bool, revoke: bool, action: str
) -> list[str]:
    """Return the lines to print. `action` is the repair's id in the audit trail, empty for a dry run."""
    if not differences:
        return ["no differences: there is nothing to repair"]
    would = "" if applied else "would be "
    lines = [_summary(result, len(differences), applied=applied)]
    for reason, count in Counter(result.reasons).most_common():
        lines.append(f"{would}a dead letter: {reason} ({count:,})")
    if applied and result.refused:
        lines.append("the refused records are dead letters now: tillstream dlq list")
    if copies := result.taken_back - result.leftovers:
        lines.append(f"{counted(copies, 'copy', 'copies')} {would}taken back")
    if result.leftovers:
        lines.append(f"{counted(result.leftovers, 'leftover')} without a document {would}taken back")
    if result.changed:
        lines.append(
            f"{counted(result.changed, 'document')} changed in the ERP during the repair and left: reconcile again"
        )
    if applied and result.kept:
        saved = counted(result.kept, "document")
        lines.append(f"{saved} saved in the audit trail first: tillstream reconcile repair --undo {action}")
    if result.remembered:
        deleted = counted(result.remembered, "document")
        again = "it" if result.remembered == 1 else "them"
        lines.append(f"{deleted} delivered before and deleted in the ERP: --revoke books {again} again")
    lines += describe_unrepaired(differences, forget=revoke)
    return lines if applied else [*lines, _dry_run(result)]


def _summary(result: RepairResult, differences: int, *, applied: bool) -> str:
    would = "" if applied else "would be "
    article = "" if applied else "a "
    again = f"{article}dead letter" if result.rejected == 1 else "dead letters"
    return (
        f"{result.records:,} of {counted(differences, 'difference')}: {result.delivered:,} {would}booked, "
        f"{result.rejected:,} {would}{again} again, {result.refused:,} {would}refused, "
        f"{result.gone:,} no longer in the topic"
    )


def _dry_run(result: RepairResult) -> str:
    unchanged = "this was a dry run: nothing was changed"
    if result.repaired:
        return f"{unchanged}; --apply repairs {counted(result.repaired, 'difference')}"
    if result.refused:
        records = "record" if result.refused == 1 else "records"
        return f"{unchanged}; --apply would only write the refused {records} to the dead letters"
    return f"{unchanged}, and --apply would repair nothing"
