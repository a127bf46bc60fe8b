"""`tillstream map test`: do the examples in contracts become what they say?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import click
from rich.markup import escape

from ops.files.layout import NotReadable
from ops.inspect.render import console
from streams.sources.contracts import built_in_contracts, find_contract
from streams.sources.examples import run_example
from streams.sources.rules import ZoneOf
from streams.sources.source import load_source


class ExampleResult(NamedTuple):
    """An example and its difference; None: it is as expected."""

    contract: str
    example: str
    difference: str | None


def run_examples(names: Sequence[str], zone_of: ZoneOf) -> list[ExampleResult]:
    """Runs the examples of the contracts, or of all built-in ones. Raises ContractError."""
    tested = []
    for name in names or built_in_contracts():
        path = find_contract(name)
        source = load_source(path, zone_of)
        for example in source.contract.examples:
            tested.append(ExampleResult(name, example.name, run_example(source, path.parent, example)))
    return tested


def report_examples(tested: Sequence[ExampleResult], *, as_json: bool) -> None:
    """Says what passed and shows what did not."""
    failed = [each for each in tested if each.difference is not None]
    if as_json:
        examples = [{"contract": t.contract, "example": t.example, "difference": t.difference} for t in tested]
        click.echo(json.dumps({"ok": not failed, "passed": len(tested) - len(failed), "examples": examples}))
        return
    out = console()
    for each in tested:
        mark = "[green]ok    [/]" if each.difference is None else "[red]failed[/]"
        out.print(f"{mark} {escape(f'{each.contract}: {each.example}')}", soft_wrap=True)
        for line in (each.difference or "").splitlines():
            style = "green" if line.startswith("-") else "red" if line.startswith("+") else None
            out.print(f"         {line}", style=style, markup=False, soft_wrap=True)
    if not tested:
        out.print("no examples: add some under `examples:`, each with a record and what becomes of it")
    else:
        out.print(f"{len(tested) - len(failed)} passed, {len(failed)} failed")


def write_junit(tested: Sequence[ExampleResult], to: Path) -> None:
    """The result as build servers read it. Raises NotReadable."""
    failed = sum(each.difference is not None for each in tested)
    suite = ElementTree.Element(
        "testsuite", name="tillstream map test", tests=str(len(tested)), failures=str(failed), errors="0"
    )
    for each in tested:
        case = ElementTree.SubElement(suite, "testcase", classname=each.contract, name=each.example)
        if each.difference is not None:
            failure = ElementTree.SubElement(case, "failure", message="not as expected")
            failure.text = each.difference
    try:
        ElementTree.ElementTree(suite).write(to, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise NotReadable(f"{to}: {error.strerror}") from None
