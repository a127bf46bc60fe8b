"""The findings as tables, for people."""

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.inspect.findings import describe_number_format

WIDTH = 120  # where there is no terminal


def console() -> Console:
    """Standard output, as wide as a terminal, or as a page."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def print_report(found: dict[str, Any], name: str) -> None:
    """Prints what was found about the file or topic."""
    out = console()
    out.print(f"[bold]{escape(name)}[/]  {escape(format_summary(found))}")
    fields: list[dict[str, Any]] = found["fields"]
    table = Table("field", "type", "missing", "distinct", "min", "max", "examples", box=None, header_style="bold")
    for field in fields:
        table.add_row(*map(escape, _row(field)))
    out.print(table)
    odd = [(field["path"], said) for field in fields for said in field.get("odd", ())]
    if odd:
        out.print("\n[bold]odd values[/]")
        for path, said in odd:
            out.print(f"  {escape(path)}: {escape(said)}", soft_wrap=True)
    out.print("\n[bold]the whole[/]")
    for said in record_remarks(found):
        out.print(f"  {escape(said)}", soft_wrap=True)


def format_summary(found: dict[str, Any]) -> str:
    """Format and size in a line."""
    parts = [found["format"]]
    if "delimiter" in found:
        parts.append({"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}[found["delimiter"]] + " between columns")
        parts.append("header" if found["header"] else "no header")
    if "encoding" in found:
        parts.append(found["encoding"] + (", gzip" if found["gzip"] else ""))
    if "record_element" in found:
        parts.append(f"a record is <{found['record_element']}>")
    return f"{', '.join(parts)}; {found['records']:,} records"


def record_remarks(found: dict[str, Any]) -> list[str]:
    """What concerns the records, in sentences."""
    said = [f"{found['exact_duplicates']:,} records are exact duplicates of an earlier one"]
    for path, counts in found["lists"].items():
        said.append(f"list {path}: {counts['items']:,} items in {counts['records']:,} records")
    said.append("one field that tells records apart: " + (", ".join(found["key_candidates"]) or "none"))
    said += found["remarks"]
    if found["personal"]:
        said.append(f"likely personal, never shown: {', '.join(found['personal'])}")
    return said


def _row(field: dict[str, Any]) -> list[str]:
    distinct = f"{field['distinct']:,}"
    shown = [field.get("min"), field.get("max"), ", ".join(field.get("examples", ()))]
    if field["personal"]:
        shown = ["", "", "personal (" + "; ".join(field["personal"]) + ")"]
    return [
        field["path"],
        _type(field),
        f"{field['missing_share']:.1%}" if field["missing"] else "",
        f"more than {distinct}" if field["distinct_is"] == "more_than" else distinct,
        *(text or "" for text in shown),
    ]


def _type(field: dict[str, Any]) -> str:
    kinds = field["types"]
    whole_numbers = field["type"] == "decimal"
    named = {kind: share for kind, share in kinds.items() if not (whole_numbers and kind == "integer")}
    several = ", ".join(f"{kind} {share:.1%}" for kind, share in named.items())
    text: str = several if len(named) > 1 else field["type"]
    if "number" in field and (how := describe_number_format(field["number"])):
        text += f" ({how})"
    if "time" in field:
        time = field["time"]
        zone = {"all": "with zone", "none": "no zone", "some": "some with zone"}[time["time_zone"]]
        text += f" ({' or '.join(time['formats'])}, {zone})"
    return text
