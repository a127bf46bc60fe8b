"""The commands for connecting a source: `inspect`, `map …`. Each one's work has its own module."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ops.files.as_imported import records_of
from ops.files.layout import FORMATS, FileFormat, NotReadable
from ops.inspect.commands import LAST, bar, inspect
from ops.inspect.topic import last_records
from ops.maps.diff import difference, report_difference
from ops.maps.examples import report_examples, run_examples, write_junit
from ops.maps.outcome import BookingRules, FileRecord, books
from ops.maps.render import report_try
from ops.maps.try_record import try_record
from ops.publish import json_schema
from ops.terminal.options import as_one_object, settings_from, with_broker, with_config
from schemas.contract import Contract
from streams.sources.contracts import find, load
from streams.sources.rows import RowsUnreadable, rows_to_records
from streams.sources.source import ready

FAILED = 1


@click.command(
    name="inspect",
    epilog="\b\nExamples:\n  tillstream inspect sales.csv.gz\n  tillstream inspect sales.csv --draft shop.yaml\n"
    "  tillstream inspect pos.sales --sample 1000 --broker kafka:9092\n"
    "  tillstream inspect orders.jsonl --json | jq '.fields[] | {path, type, personal}'",
)
@click.argument("what", metavar="FILE|TOPIC")
@with_broker
@click.option("--sample", type=click.IntRange(1), help=f"Only so many records (a topic: the last; default {LAST:,}).")
@click.option("--format", "wanted", type=click.Choice(FORMATS), help="Do not guess the format of a file.")
@click.option("--draft", type=click.Path(path_type=Path), help="Write a contract with what was found, which loads.")
@as_one_object
def inspect_command(
    what: str,
    config: Path | None,
    broker: str | None,
    sample: int | None,
    wanted: FileFormat | None,
    draft: Path | None,
    as_json: bool,
) -> None:
    """Describe an unknown file or topic.

    Its format, every field, oddities, and the fields that are likely personal.

    Values of likely personal fields are never shown. Of a topic nothing is committed: other readers don't notice.
    """
    settings = settings_from(config, broker=broker)
    inspect(settings, what, sample=sample, wanted=wanted, draft_to=draft, as_json=as_json)


@click.group(name="map")
def map_group() -> None:
    """Test, try and compare contracts."""


@map_group.command(epilog="\b\nExamples:\n  tillstream map test\n  tillstream map test shop.yaml --junit report.xml")
@click.argument("contracts", nargs=-1, metavar="[CONTRACT]…")
@with_config
@click.option("--junit", type=click.Path(path_type=Path), help="Write the result as JUnit XML too.")
@as_one_object
def test(contracts: tuple[str, ...], config: Path | None, junit: Path | None, as_json: bool) -> None:
    """Run the examples in contracts.

    Name files or built-in contracts; without names, all built-in contracts run.

    Exit code 1 when one does not become what it says.
    """
    tested = run_examples(contracts, BookingRules(settings_from(config).find_stores()).zone_of)
    if junit is not None:
        write_junit(tested, junit)
    report_examples(tested, as_json=as_json)
    sys.exit(FAILED if any(each.difference is not None for each in tested) else 0)


@map_group.command(
    name="try",
    epilog="\b\nExamples:\n  tillstream map try shop.yaml record.json\n"
    "  kcat -C -t shop.sales -c 1 | tillstream map try shop.yaml -\n"
    "  tillstream map try shopify order.json --header X-Shopify-Topic=orders/paid",
)
@click.argument("contract")
@click.argument("record", type=click.File("rb"), metavar="FILE|-")
@with_config
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A Kafka header of the record.")
@click.option("--key", help="The record's key.")
@as_one_object
def try_command(
    contract: str, record: Any, config: Path | None, headers: tuple[str, ...], key: str | None, as_json: bool
) -> None:
    """Show every step of one record.

    The record as read, its kind, the conversions of each field, the event, the document.

    The document has the codes of the settings' mapping, if there is one. Personal texts are stars, wherever they
    stand. Exit code 1 when the record becomes a dead letter.
    """
    wrong = [header for header in headers if "=" not in header]
    if wrong:
        raise click.UsageError("a header is NAME=VALUE")
    pairs = [(name, os.fsencode(value)) for name, _, value in (header.partition("=") for header in headers)]
    path = find(contract)
    try:
        value = _first_receipt(load(path), record.read())
    except RowsUnreadable as error:
        raise NotReadable(f"{record.name}: {error}") from None
    bare = FileRecord(value, os.fsencode(key) if key is not None else None, pairs)
    found = try_record(path, books(settings_from(config)), bare, datetime.now(UTC))
    click.echo(json.dumps(found, ensure_ascii=False)) if as_json else report_try(found)
    bad = [part for part in (found, *found["parts"]) if "rejected" in part or "faults" in part]
    sys.exit(FAILED if bad else 0)


def _first_receipt(contract: Contract, value: bytes) -> bytes:
    """The record as it would be imported, if it is CSV as it stands in a file."""
    if contract.format != "csv" or value.lstrip()[:1] in (b"{", b"["):
        return value
    lines = value.splitlines(keepends=True)
    made = rows_to_records(lines, contract.group_by, fill_down=contract.fill_down, skip_lines=contract.skip_lines)
    return next((receipt for _, receipt in made), value)


@map_group.command(
    epilog="\b\nExamples:\n  tillstream map diff shop.yaml shop-2.yaml --from-topic shop.sales\n"
    "  tillstream map diff shop.yaml shop-2.yaml --from-file sales.csv --json"
)
@click.argument("old")
@click.argument("new")
@with_broker
@click.option("--from-topic", "topic", metavar="TOPIC", help="On the last records of this topic.")
@click.option("--limit", type=click.IntRange(1), default=LAST, show_default=True, help="So many of them.")
@click.option("--from-file", "file", type=click.Path(path_type=Path), help="On the records of this file.")
@as_one_object
def diff(
    old: str,
    new: str,
    config: Path | None,
    broker: str | None,
    topic: str | None,
    limit: int,
    file: Path | None,
    as_json: bool,
) -> None:
    """Compare two contracts on a topic's records.

    Lists the records with another outcome by the contract NEW than by OLD, and how the money changes.

    Both book by the settings' mapping, if there is one. Exit code 1 when a record comes to a worse end: a dead letter
    is new, or other money is booked, or under another receipt. What was a dead letter and is booked now is no worse,
    nor is a receipt of nothing that is left out.
    """
    if (topic is None) == (file is None):
        raise click.UsageError("name either --from-topic or --from-file")
    settings = settings_from(config, broker=broker)
    by = books(settings)
    before, after = ready(find(old), by.zone_of), ready(find(new), by.zone_of)
    if file is not None:
        with bar(f"reading {file.name}", file.stat().st_size if file.is_file() else None) as told:
            values = records_of(file, after.contract, told)
            named = ((f"record {n}", FileRecord(value, key)) for n, (key, value) in enumerate(values, 1))
            found = difference(before, after, by, named, datetime.now(UTC))
    elif topic is not None:
        with bar(f"reading {topic}", limit) as told:
            records = last_records(settings, topic, limit, told)
        places = ((f"{record.partition}:{record.offset}", record) for record in records)
        found = difference(before, after, by, places, datetime.now(UTC))
    report_difference(found, as_json=as_json)
    sys.exit(FAILED if found.worse else 0)


@map_group.command(epilog="\b\nExample:\n  tillstream map schema > contract.schema.json")
def schema() -> None:
    """Print the JSON Schema of contracts, for editors."""
    click.echo(json.dumps(json_schema(Contract), indent=2, ensure_ascii=False))


COMMANDS = (inspect_command, map_group)
