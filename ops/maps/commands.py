"""The commands for connecting a source: `inspect`, `map …`. Each has a module of its own that does the work."""

import json
import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from ops.files.as_imported import records_of
from ops.files.layout import FORMATS, FileFormat, NotReadable
from ops.inspect.commands import DEFAULT_LIMIT, inspect, progress_bar
from ops.inspect.topic import last_records
from ops.json_schema import json_schema
from ops.maps.diff import difference, report_difference
from ops.maps.examples import report_examples, run_examples, write_junit
from ops.maps.outcome import FileRecord
from ops.maps.render import report_try
from ops.maps.try_record import try_record
from ops.terminal.options import as_one_object, settings_from, with_broker, with_config
from schemas.contract import Contract
from streams.assembly import find_master_data
from streams.mapping.mapper import IdentityMapper, store_zone
from streams.sources.contracts import find_contract, load_contract
from streams.sources.rows import RowsUnreadable, rows_to_records
from streams.sources.source import load_source

FAILED = 1


@click.command(
    name="inspect",
    epilog="\b\nExamples:\n  tillstream inspect sales.csv.gz\n  tillstream inspect sales.csv --draft shop.yaml\n"
    "  tillstream inspect pos.sales --sample 1000 --broker kafka:9092\n"
    "  tillstream inspect orders.jsonl --json | jq '.fields[] | {path, type, personal}'",
)
@click.argument("what", metavar="FILE|TOPIC")
@with_broker
@click.option(
    "--sample", type=click.IntRange(1), help=f"Number of records (of a topic: the last {DEFAULT_LIMIT:,} by default)."
)
@click.option("--format", "wanted", type=click.Choice(FORMATS), help="The format of a file, instead of guessing it.")
@click.option("--draft", type=click.Path(path_type=Path), help="Write a draft contract from the findings.")
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
    """Describe a file or topic: format, fields, oddities.

    Shows which fields are likely personal, and never their values. Commits nothing of a topic, so other readers are
    not affected.
    """
    settings = settings_from(config, broker=broker)
    inspect(settings, what, sample=sample, file_format=wanted, draft_to=draft, as_json=as_json)


@click.group(name="map")
def map_group() -> None:
    """Test contracts, try one on a record, compare two."""


@map_group.command(epilog="\b\nExamples:\n  tillstream map test\n  tillstream map test shop.yaml --junit report.xml")
@click.argument("contracts", nargs=-1, metavar="[CONTRACT]…")
@with_config
@click.option("--junit", type=click.Path(path_type=Path), help="Also write the results as JUnit XML.")
@as_one_object
def test(contracts: tuple[str, ...], config: Path | None, junit: Path | None, as_json: bool) -> None:
    """Run the examples in contracts.

    Contracts are files or names of built-in ones; without any, all built-in ones are tested. Exit code 1 when a result
    differs from the expected one.
    """
    results = run_examples(contracts, partial(store_zone, IdentityMapper(settings_from(config).find_stores())))
    if junit is not None:
        write_junit(results, junit)
    report_examples(results, as_json=as_json)
    sys.exit(FAILED if any(result.difference is not None for result in results) else 0)


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
    """Show every step of one record, up to its document.

    Steps are the record as read, its kind, the conversions of each field, the event and the document, with the codes of
    the settings' mapping, if there is one. Personal texts are masked everywhere. Exit code 1 when the record becomes a
    dead letter.
    """
    wrong = [header for header in headers if "=" not in header]
    if wrong:
        raise click.UsageError("a header is NAME=VALUE")
    pairs = [(name, os.fsencode(value)) for name, _, value in (header.partition("=") for header in headers)]
    path = find_contract(contract)
    try:
        value = _first_receipt(load_contract(path), record.read())
    except RowsUnreadable as error:
        raise NotReadable(f"{record.name}: {error}") from None
    bare = FileRecord(value, os.fsencode(key) if key is not None else None, pairs)
    result = try_record(path, find_master_data(settings_from(config)).load(), bare, datetime.now(UTC))
    click.echo(json.dumps(result, ensure_ascii=False)) if as_json else report_try(result)
    bad = [part for part in (result, *result["parts"]) if "rejected" in part or "faults" in part]
    sys.exit(FAILED if bad else 0)


def _first_receipt(contract: Contract, value: bytes) -> bytes:
    """Return the first receipt as it would be imported, if the record is CSV from a file; else the record."""
    if contract.format != "csv" or value.lstrip()[:1] in (b"{", b"["):
        return value
    lines = value.splitlines(keepends=True)
    receipts = rows_to_records(lines, contract.group_by, fill_down=contract.fill_down, skip_lines=contract.skip_lines)
    return next((receipt for _, receipt in receipts), value)


@map_group.command(
    epilog="\b\nExamples:\n  tillstream map diff shop.yaml shop-2.yaml --from-topic shop.sales\n"
    "  tillstream map diff shop.yaml shop-2.yaml --from-file sales.csv --json"
)
@click.argument("old")
@click.argument("new")
@with_broker
@click.option("--from-topic", "topic", metavar="TOPIC", help="Compare on the last records of this topic.")
@click.option(
    "--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="Number of its records."
)
@click.option("--from-file", "file", type=click.Path(path_type=Path), help="Compare on the records of this file.")
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
    """Compare the outcomes of records by two contracts.

    Reports the records whose outcome by NEW differs from that by OLD, and how the booked amounts change. Both use the
    settings' mapping, if there is one. Exit code 1 when an outcome is worse: there is a new dead letter, or other
    amounts are booked, or the same under another receipt. A dead letter that is booked now is not worse, and neither is
    a missing receipt with a gross of zero.
    """
    if (topic is None) == (file is None):
        raise click.UsageError("name either --from-topic or --from-file")
    settings = settings_from(config, broker=broker)
    mapper = find_master_data(settings).load()
    before, after = (load_source(find_contract(contract), partial(store_zone, mapper)) for contract in (old, new))
    if file is not None:
        with progress_bar(f"reading {file.name}", file.stat().st_size if file.is_file() else None) as on_progress:
            values = records_of(file, after.contract, on_progress)
            named = ((f"record {n}", FileRecord(value, key)) for n, (key, value) in enumerate(values, 1))
            result = difference(before, after, mapper, named, datetime.now(UTC))
    elif topic is not None:
        with progress_bar(f"reading {topic}", limit) as on_progress:
            records = last_records(settings, topic, limit, on_progress)
        located = ((f"{record.partition}:{record.offset}", record) for record in records)
        result = difference(before, after, mapper, located, datetime.now(UTC))
    report_difference(result, as_json=as_json)
    sys.exit(FAILED if result.worse else 0)


@map_group.command(epilog="\b\nExample:\n  tillstream map schema > contract.schema.json")
def schema() -> None:
    """Print the JSON Schema of contracts, for editors."""
    click.echo(json.dumps(json_schema(Contract), indent=2, ensure_ascii=False))


COMMANDS = (inspect_command, map_group)
