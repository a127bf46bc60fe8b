"""`tillstream import`: options, progress and reports."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ops.files.inputs import ImportInput, QueryInput, inputs
from ops.files.layout import File
from ops.files.receipts import FileFindings
from ops.files.records import Progress as Told
from ops.importing.dry_run import DryRunVerdict
from ops.importing.job import ImportObserver, InputReport, ReadOptions, import_all, rehearse
from ops.importing.sending import ReceiptSender
from ops.importing.watch_folder import WatchedFolder, stopping
from ops.importing.watch_folder import watch as watch_folder
from ops.terminal.options import as_one_object, settings_from, with_settings
from streams.settings import Settings
from streams.sources.contracts import find_contract
from streams.sources.source import load_source

WRONG_IN_DATA, WRONG_USAGE = 1, 2
_PASSWORD = "TILLSTREAM_SQL_PASSWORD"  # noqa: S105 (the name of a variable)
#: Bad lines that are shown of a file.
_SHOWN = 10


@click.command(
    name="import",
    epilog="\b\nExamples:\n  tillstream import sales.csv --contract shop.yaml\n"
    "  tillstream import exports/ more.csv.gz sales.xlsx --contract shop.yaml --broker kafka:9092 --topic shop.sales\n"
    "  ssh till cat sales.csv | tillstream import - --contract shop.yaml --encoding gb18030\n"
    "  tillstream import sales.csv --contract shop.yaml --dry-run\n"
    "  tillstream import --watch /var/spool/sales --contract shop.yaml\n"
    "  tillstream import --sql postgresql://reader@db/pos --query 'SELECT * FROM sales ORDER BY bon' --contract shop",
)
@click.argument("files", nargs=-1, metavar="[FILE|FOLDER|-]…")
@with_settings
@click.option(
    "--contract", "--source", metavar="FILE|NAME", help="The source's contract (settings: contract; else sale events)."
)
@click.option("--topic", help="Where to (settings: topic); it is created if it is missing.")
@click.option("--encoding", help="Do not guess the encoding: utf-8, utf-16, gb18030, cp1252, latin-1, …")
@click.option("--delimiter", help="Do not guess what separates the columns.")
@click.option("--sheet", metavar="NAME", help="Of workbooks this sheet, not the first one.")
@click.option("--sql", metavar="URL", help=f"Import a query's rows; the password comes from {_PASSWORD}.")
@click.option("--query", metavar="SELECT", help="With --sql: the query, or @FILE.")
@click.option(
    "--watch",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Import what comes into this folder, until SIGTERM or Ctrl-C; what is done goes to DIR/done or DIR/failed.",
)
@click.option("--dry-run", is_flag=True, help="Send nothing: say what the line would make of each receipt.")
@click.option("--from-start", is_flag=True, help="Send all again, also what an import that ended early has sent.")
@as_one_object
def import_command(
    files: tuple[str, ...],
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    contract: str | None,
    topic: str | None,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    sql: str | None,
    query: str | None,
    watch: Path | None,
    dry_run: bool,
    from_start: bool,
    as_json: bool,
) -> None:
    """Send files to the topic.

    CSV, Excel, JSON, JSON Lines and XML; also gzip and zip files, folders, and standard input (-).

    The rows of a receipt become one record, wherever they are in the table. Importing a file again does no harm: its
    receipts are recognised as duplicates. An interrupted import continues after the last receipt that the broker has
    confirmed. Bad lines are kept in FILE.bad.csv, with the other rows of their receipts: repair that file and import
    it. Exit code 1 if there are any.
    """
    if (sql is None) != (query is None):
        raise click.UsageError("--sql and --query belong together")
    asked = (
        QueryInput(sql, _text_of(query), os.environ.get(_PASSWORD)) if sql is not None and query is not None else None
    )
    if bool(files) + (asked is not None) + (watch is not None) != 1 or (watch is not None and dry_run):
        raise click.UsageError("name files, folders or -, or --sql and --query, or --watch DIR")
    settings = settings_from(config, broker=broker, sink_url=sink_url, topic=topic, contract=contract)
    options = how_to_read(settings, encoding, delimiter, sheet, from_start=from_start)
    if watch is not None:
        watch_folder(settings, WatchedFolder(watch), options, _telling(settings, as_json=as_json), stopping())
        return
    todo = inputs(files, asked)
    if dry_run:
        _rehearse(settings, todo, options, as_json=as_json)
    reports: list[InputReport] = []
    faults: list[str] = []
    sender = ReceiptSender(settings)
    with shown() as observer:
        for each in import_all(settings, todo, options, observer, sender):
            if isinstance(each, str):
                faults.append(each)
                click.echo(f"tillstream: {each}", err=True)
            else:
                reports.append(each)
                if not as_json:
                    tell(each)
    if as_json:
        click.echo(json.dumps(as_object(settings, reports, faults), ensure_ascii=False))
    elif reports:
        click.echo(f"{sender.confirmed:,} records in {settings.topic}")
    _end(reports, faults)


def _telling(settings: Settings, *, as_json: bool) -> Callable[[InputReport | str], None]:
    def say(each: InputReport | str) -> None:
        if as_json:
            one = as_object(settings, *(([], [each]) if isinstance(each, str) else ([each], [])))
            click.echo(json.dumps(one, ensure_ascii=False))
        elif isinstance(each, str):
            click.echo(f"tillstream: {each}", err=True)
        else:
            tell(each)
            click.echo(f"{each.sent:,} records in {settings.topic}")

    return say


def how_to_read(
    settings: Settings,
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
    *,
    from_start: bool = False,
) -> ReadOptions:
    """Return how to read by the settings' contract. Raises ContractError, also for one that no worker could use."""
    if settings.contract is None:
        return ReadOptions(None, encoding, delimiter, sheet, from_start)
    stores = settings.find_stores()

    def zone_of(name: str) -> ZoneInfo | None:
        store = stores.find(name)
        return store.zone if store is not None else None

    source = load_source(find_contract(settings.contract), zone_of)
    return ReadOptions(source.contract, encoding, delimiter, sheet, from_start, source)


def as_object(settings: Settings, reports: Sequence[InputReport], faults: Sequence[str]) -> dict[str, Any]:
    """Return the results as JSON."""
    return {
        "topic": settings.topic,
        "confirmed": sum(report.sent for report in reports),
        "failed": sum(report.refused for report in reports),
        "reason": next((report.reason for report in reports if report.reason), ""),
        "files": [report.as_json() for report in reports],
        "unreadable": list(faults),
    }


def tell(report: InputReport) -> None:
    """Print the findings about a file and the outcome, in sentences."""
    layout = report.found.layout
    detected = [layout.format, layout.encoding, *(["gzip"] if layout.compressed else [])]
    if layout.delimiter:
        detected.append(f"delimiter {layout.delimiter!r}")
    what = "rows" if layout.format == "csv" else "records"
    apart = "" if report.found.together else ", whose rows stand apart"
    counts = f"{report.found.rows:,} {what}, {report.found.receipts:,} receipts{apart}"
    click.echo(f"{report.name}: {', '.join(detected)}: {counts}", err=True)
    if report.left_out:
        names = ", ".join(map(repr, report.left_out))
        click.echo(f"  the sheet {report.sheet!r} alone; left out: {names} (--sheet NAME)", err=True)
    if report.elsewhere:
        click.echo(f"  {report.elsewhere:,} of the receipts go with another file, in whole", err=True)
    if report.resumed:
        click.echo(f"  went on behind {report.resumed:,} receipts that were confirmed before", err=True)
    if report.refused:
        click.echo(f"  {report.refused:,} records refused by the broker: {report.reason}", err=True)
    for bad in report.found.bad[:_SHOWN]:
        click.echo(f"  line {bad.line:,}: {bad.fault}", err=True)
    if len(report.found.bad) > _SHOWN:
        click.echo(f"  … and {len(report.found.bad) - _SHOWN:,} more bad lines", err=True)
    if report.put_aside:
        them = "that file" if report.one_of == 1 else "that file, together with such files of the others"
        where = f" in {report.aside}: repair them, and import {them}" if report.aside is not None else ""
        click.echo(
            f"  {report.put_aside:,} lines were not sent, bad ones and others of the same receipts{where}", err=True
        )


def _rehearse(settings: Settings, todo: Sequence[ImportInput], options: ReadOptions, *, as_json: bool) -> NoReturn:
    def say(verdict: DryRunVerdict) -> None:
        if as_json:
            click.echo(json.dumps(verdict._asdict(), ensure_ascii=False))
        else:
            said = f"{verdict.word}: {verdict.detail}" if verdict.detail else verdict.word
            click.echo(f"line {verdict.line:,}  {verdict.key}  {said}")

    with shown() as observer:
        found = rehearse(settings, todo, options, observer, say)
    reports = [each for each in found if not isinstance(each, str)]
    faults = [each for each in found if isinstance(each, str)]
    for fault in faults:
        click.echo(f"tillstream: {fault}", err=True)
    if as_json:
        listed = {"files": [report.as_json() for report in reports], "unreadable": faults}
        click.echo(json.dumps(listed, ensure_ascii=False))
        _end(reports, faults)
    for report in reports:
        tell(report)
        for word, count in report.verdicts.most_common():
            click.echo(f"{count:>9,}  {word}")
    click.echo("nothing was sent")
    _end(reports, faults)


def _end(reports: Sequence[InputReport], faults: Sequence[str]) -> NoReturn:
    sys.exit(WRONG_USAGE if faults else WRONG_IN_DATA if any(not report.is_clean for report in reports) else 0)


def _text_of(query: str) -> str:
    return Path(query[1:]).read_text(encoding="utf-8") if query.startswith("@") else query


class ProgressBars(ImportObserver):
    """A bar for the input at hand, with rate and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def checking(self, name: str, file: File) -> Told:
        """As Watcher."""
        return self._bar(f"looking through {Path(name).name}", file)

    def sending(self, name: str, file: File, found: FileFindings) -> tuple[Told, Callable[[int], None]]:
        """As Watcher."""
        on_progress = self._bar(f"importing {Path(name).name}", file)
        task = self._task
        begun = self._progress.get_time()

        def counted(receipts: int) -> None:
            rate = receipts / max(self._progress.get_time() - begun, 0.001)
            if task is not None:
                self._progress.update(task, rate=f"{receipts:,} of {found.receipts:,} receipts, {rate:,.0f}/s")

        return on_progress, counted

    def _bar(self, what: str, file: File) -> Told:
        if self._task is not None:
            self._progress.remove_task(self._task)
        task = self._task = self._progress.add_task(escape(what), total=size_of(file), rate="")
        return lambda position: self._progress.update(task, completed=position)


def size_of(file: File) -> int:
    """Return the input's size in the bytes in which positions are counted: unpacked, for a member of an archive."""
    return file.stat().st_size if isinstance(file, Path) else file.root.getinfo(file.at).file_size


@contextmanager
def shown() -> Iterator[ImportObserver]:
    """Progress bars at a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield ImportObserver()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressBars(progress)
