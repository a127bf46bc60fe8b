"""Prints the result of `map try`."""

import json
from collections import Counter
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape

from ops.inspect.render import console


def report_try(result: dict[str, Any]) -> None:
    """Print every step."""
    out = console()
    _title(out, f"the record, read as {result['format']} by {result['contract']}")
    if "rejected" in result:
        _rejected(out, result["rejected"])
        return
    out.print(result["record"], markup=False, soft_wrap=True)
    for number, part in enumerate(result["parts"], 1):
        if len(result["parts"]) > 1:
            _title(out, f"part {number} of {len(result['parts'])}")
        _report_part(out, part)


def _report_part(out: Console, part: dict[str, Any]) -> None:
    _title(out, "which kind")
    for kind in part["kinds"]:
        mark = "[green]taken[/]" if kind["taken"] else "not   "
        out.print(f"  {mark} kinds.{kind['kind']} ({escape(kind['becomes'])}){_conditions(kind)}", soft_wrap=True)
    if part["fields"]:
        _title(out, "fields")
        _fields(out, part["fields"])
    if "event" in part:
        _title(out, "the event")
        out.print(json.dumps(part["event"], indent=2, ensure_ascii=False), markup=False, soft_wrap=True)
    if "skipped" in part:
        out.print(f"\n[bold]skipped[/]: {escape(part['skipped'])}")
    if "faults" in part:
        _title(out, "[red]not valid[/] (dead letter: schema_mismatch)", markup=True)
        for fault in part["faults"]:
            out.print(f"  {fault['field']}: {fault['fault']}", markup=False, soft_wrap=True)
    if "cleaning" in part:
        out.print(f"\n[bold]cleaning[/]: {escape(', '.join(part['cleaning']))}")
    if "rejected" in part:
        _rejected(out, part["rejected"])
    if "document" in part:
        out.print(f"\n[bold]checks[/]: [green]{part['checks']}[/]")
        _title(out, "the document")
        out.print(json.dumps(part["document"], indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def _conditions(kind: dict[str, Any]) -> str:
    conditions = []
    for condition in kind["conditions"]:
        if condition["step"] == "found":
            path = condition["place"].partition(".when.")[2]
            conditions.append(f"when.{path} sees {_value(condition)}")
    return escape(": " + ", ".join(conditions)) if conditions else ""


def _fields(out: Console, steps: list[dict[str, Any]]) -> None:
    times: Counter[str] = Counter()
    for place, group in groupby(steps, key=lambda step: step["place"]):
        chain = list(group)
        starts = sum(step["step"] == "found" for step in chain) or 1
        times[place] += starts
        number = f" #{times[place]}" if place.startswith(("lines", "tenders")) or ".lines." in place else ""
        out.print(f"  {place}{number}: {_chain(chain)}", markup=False, soft_wrap=True)


def _chain(steps: list[dict[str, Any]]) -> str:
    texts: list[str] = []
    last = ""
    for step in steps:
        value = _value(step)
        if step["step"] == "found":
            texts.append(value)
        elif step["step"] != "result":
            texts.append(f"{step['step']} → {value}")
        elif value != last and not last.startswith("FAULT"):
            texts.append(f"default → {value}")
        last = value
    return "  ".join(texts)


def _value(step: dict[str, Any]) -> str:
    if "fault" in step:
        return f"FAULT {step['fault']}"
    value = step["value"]
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _rejected(out: Console, fault: dict[str, str]) -> None:
    out.print(f"\n[bold red]dead letter[/]: {fault['reason']}: {escape(fault['detail'])}", soft_wrap=True)
    out.print(f"  {escape(fault['advice'])}", soft_wrap=True)


def _title(out: Console, text: str, *, markup: bool = False) -> None:
    out.print(f"\n[bold]{text if markup else escape(text)}[/]")
