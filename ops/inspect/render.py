"""Print the findings as tables."""

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.inspect.findings import describe_number_format

WIDTH = 120  # if there is no terminal


def console() -> Console:
    """Return a console on standard output, as wide as the terminal, or `WIDTH` without one."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def print_report(findings: dict[str, Any], name: str) -> None:
    """Print the findings about the file or topic."""
    terminal = console()
    terminal.print(f"[bold]{escape(name)}[/]  {escape(format_summary(findings))}")
    fields: list[dict[str, Any]] = findings["fields"]
    table = Table("field", "type", "missing", "distinct", "min", "max", "examples", box=None, header_style="bold")
    for field in fields:
        table.add_row(*map(escape, _row(field)))
    terminal.print(table)
    odd_values = [(field["path"], remark) for field in fields for remark in field.get("odd", ())]
    if odd_values:
        terminal.print("\n[bold]odd values[/]")
        for path, remark in odd_values:
            terminal.print(f"  {escape(path)}: {escape(remark)}", soft_wrap=True)
    terminal.print("\n[bold]all records[/]")
    for remark in record_remarks(findings):
        terminal.print(f"  {escape(remark)}", soft_wrap=True)


def format_summary(findings: dict[str, Any]) -> str:
    """Describe format and size in one line."""
    parts = [findings["format"]]
    if "delimiter" in findings:
        parts.append(
            {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}[findings["delimiter"]] + " between columns"
        )
        parts.append("header" if findings["header"] else "no header")
    if "encoding" in findings:
        parts.append(findings["encoding"] + (", gzip" if findings["gzip"] else ""))
    if "record_element" in findings:
        parts.append(f"a record is <{findings['record_element']}>")
    return f"{', '.join(parts)}; {findings['records']:,} records"


def record_remarks(findings: dict[str, Any]) -> list[str]:
    """Return the remarks about the records as a whole."""
    remarks = [f"{findings['exact_duplicates']:,} records are exact duplicates of an earlier one"]
    for path, counts in findings["lists"].items():
        remarks.append(f"list {path}: {counts['items']:,} items in {counts['records']:,} records")
    remarks.append("fields that identify a record: " + (", ".join(findings["key_candidates"]) or "none"))
    remarks += findings["remarks"]
    if findings["personal"]:
        remarks.append(f"probably personal data, never shown: {', '.join(findings['personal'])}")
    return remarks


def _row(field: dict[str, Any]) -> list[str]:
    distinct = f"{field['distinct']:,}"
    values = [field.get("min"), field.get("max"), ", ".join(field.get("examples", ()))]
    if field["personal"]:
        values = ["", "", "personal (" + "; ".join(field["personal"]) + ")"]
    return [
        field["path"],
        _type(field),
        f"{field['missing_share']:.1%}" if field["missing"] else "",
        f"more than {distinct}" if field["distinct_is"] == "more_than" else distinct,
        *(text or "" for text in values),
    ]


def _type(field: dict[str, Any]) -> str:
    shares = field["types"]
    is_decimal = field["type"] == "decimal"
    named = {kind: share for kind, share in shares.items() if not (is_decimal and kind == "integer")}
    several = ", ".join(f"{kind} {share:.1%}" for kind, share in named.items())
    text: str = several if len(named) > 1 else field["type"]
    if "number" in field and (how := describe_number_format(field["number"])):
        text += f" ({how})"
    if "time" in field:
        time = field["time"]
        zone = {"all": "with zone", "none": "no zone", "some": "some with zone"}[time["time_zone"]]
        text += f" ({' or '.join(time['formats'])}, {zone})"
    return text
