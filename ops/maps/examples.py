"""`tillstream map test`: runs the examples in contracts and compares the results with the expected ones."""

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
    """An example and how its result differs from the expected one; None if it does not."""

    contract: str
    example: str
    difference: str | None


def run_examples(names: Sequence[str], zone_of: ZoneOf) -> list[ExampleResult]:
    """Run the examples of the contracts, or of all built-in ones. Raises ContractError."""
    results = []
    for name in names or built_in_contracts():
        path = find_contract(name)
        source = load_source(path, zone_of)
        for example in source.contract.examples:
            results.append(ExampleResult(name, example.name, run_example(source, path.parent, example)))
    return results


def report_examples(results: Sequence[ExampleResult], *, as_json: bool) -> None:
    """Print the number of examples that passed, and the differences of those that failed."""
    failed = [result for result in results if result.difference is not None]
    if as_json:
        examples = [result._asdict() for result in results]
        click.echo(json.dumps({"ok": not failed, "passed": len(results) - len(failed), "examples": examples}))
        return
    out = console()
    for result in results:
        mark = "[green]ok    [/]" if result.difference is None else "[red]failed[/]"
        out.print(f"{mark} {escape(f'{result.contract}: {result.example}')}", soft_wrap=True)
        for line in (result.difference or "").splitlines():
            style = "green" if line.startswith("-") else "red" if line.startswith("+") else None
            out.print(f"         {line}", style=style, markup=False, soft_wrap=True)
    if not results:
        out.print("no examples: add some under `examples:`, each with a record and its expected result")
    else:
        out.print(f"{len(results) - len(failed)} passed, {len(failed)} failed")


def write_junit(results: Sequence[ExampleResult], to: Path) -> None:
    """Write the results as JUnit XML. Raises NotReadable."""
    failed = sum(result.difference is not None for result in results)
    suite = ElementTree.Element(
        "testsuite", name="tillstream map test", tests=str(len(results)), failures=str(failed), errors="0"
    )
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname=result.contract, name=result.example)
        if result.difference is not None:
            failure = ElementTree.SubElement(case, "failure", message="not as expected")
            failure.text = result.difference
    try:
        ElementTree.ElementTree(suite).write(to, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise NotReadable(f"{to}: {error.strerror}") from None
