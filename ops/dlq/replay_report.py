"""Reports of replays and dry runs, for people and machines."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
from rich.table import Table

from ops.dlq.render import advice, table_console
from ops.dlq.replay import PASSED, ReplayReport
from schemas.document import ErpDocument
from schemas.money import minor_digits
from streams.dead_letters.reprocess import ReplayResult

#: Fields without personal data, whose change somebody should see.
_COMPARED = ("kind", "revision", "business_date", "currency", "net", "tax", "rounding", "gross", "review", "mapping")


def changes(document: ErpDocument, held: ErpDocument | None) -> dict[str, list[str]]:
    """Return the changes of a document in the ERP by field: [held, new]; empty if nothing is held."""
    found = {}
    for name in _COMPARED:
        before = getattr(held, name) if held is not None else None
        after = getattr(document, name)
        if before != after:
            found[name] = [_said(before, document.currency), _said(after, document.currency)]
    return found


def _said(value: object, currency: str) -> str:
    if isinstance(value, Decimal):  # databases pad amounts with zeros
        return f"{value.quantize(Decimal(1).scaleb(-(minor_digits(currency) or 0))):f}"
    return "" if value is None else str(value)


def foreseen(report: ReplayReport, held: Mapping[str, ErpDocument]) -> dict[str, Any]:
    """Return a dry run as one JSON object. `held`: the ERP's current documents by reference."""
    return {
        "letters": report.letters,
        "would_pass": sum(report.ends[end] for end in PASSED),
        "would_fail": report.letters - sum(report.ends[end] for end in PASSED),
        "ends": dict(report.ends),
        "reasons": _reasons(report),
        "first": [_foreseen(each, held) for each in report.dry_run_results],
    }


def _foreseen(each: ReplayResult, held: Mapping[str, ErpDocument]) -> dict[str, Any]:
    head = each.again.head
    return {
        "place": head.location,
        "receipt": head.receipt,
        "was": head.reason,
        "end": each.end,
        "reason": each.reason,
        "detail": each.detail,
        "documents": [
            {
                "external_ref": document.external_ref,
                "in_the_erp": document.external_ref in held,
                "changes": changes(document, held.get(document.external_ref)),
            }
            for document in each.documents
        ],
    }


def report_foreseen(found: dict[str, Any]) -> None:
    """Print a dry run."""
    console = table_console()
    if not found["letters"]:
        console.print("no such open dead letters")
        return
    table = Table("place", "was", "would be", "detail", "document", "gross", "in the ERP", box=None)
    for each in found["first"]:
        documents = each["documents"] or [{"external_ref": each["receipt"], "in_the_erp": None, "changes": {}}]
        for document in documents:
            gross = document["changes"].get("gross", ["", ""])
            table.add_row(
                each["place"],
                each["was"],
                each["reason"] or each["end"],
                each["detail"],
                document["external_ref"],
                gross[1],
                {None: "", False: "not yet", True: _changed(document["changes"])}[document["in_the_erp"]],
            )
    console.print(table)
    if found["letters"] > len(found["first"]):
        console.print(f"… and {found['letters'] - len(found['first']):,} more; --json lists all")
    console.print()
    console.print(f"{found['would_pass']:,} of {found['letters']:,} would pass, {found['would_fail']:,} would not")
    _print_reasons(found["reasons"])


def _changed(found: dict[str, list[str]]) -> str:
    return "; ".join(f"{name}: {before} -> {after}" for name, (before, after) in found.items()) or "the same"


def done(report: ReplayReport) -> dict[str, Any]:
    """Return a replay as one JSON object."""
    return {
        "replay": report.id,
        "letters": report.letters,
        "drained": report.drained,
        "ends": dict(report.ends),
        "reasons": _reasons(report),
    }


def report_done(found: dict[str, Any]) -> None:
    """Print a replay."""
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(found["ends"].items())) or "nothing"
    click.echo(f"replay {found['replay']}: {ends} of {found['letters']:,}")
    _print_reasons(found["reasons"])
    if not found["drained"]:
        click.echo(f"stopped before the end; go on with: tillstream dlq replay --resume {found['replay']} --apply")


def _reasons(report: ReplayReport) -> list[dict[str, Any]]:
    return [{"end": end, "reason": reason, "letters": count} for (end, reason), count in report.reasons.most_common()]


def _print_reasons(reasons: Sequence[dict[str, Any]]) -> None:
    for each in reasons:
        word = _REFUSED.get(each["reason"]) if each["end"] == "refused" else advice(each["reason"])[1]
        click.echo(f"{each['letters']:>9,}  {each['end']}: {each['reason']}. {word or ''}".rstrip())


#: Why a letter is not taken through the line at all.
_REFUSED = {
    "not_json": "Its value is no JSON, so a patch can't be applied.",
    "does_not_apply": "The patch does not fit its value.",
    "changes_identity": "The patch would make another event or receipt of it; that takes --new-identity.",
    "truncated_and_gone": "The dead-letter topic has a part of it only, and the source topic has it no more.",
}
