"""One import: all inputs are looked through, then each is sent or rehearsed, and reported on."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from ops.files.inputs import ImportInput, OpenedInput, as_file
from ops.files.layout import File, NotReadable
from ops.files.receipts import (
    FileFindings,
    FileReceipt,
    RejectedLines,
    check_file,
    columns_of,
    header_of,
    receipt_runs,
    receipts,
)
from ops.files.records import Progress
from ops.files.regroup import Key, RowGroup
from ops.importing.checkpoints import ImportCheckpoint
from ops.importing.dry_run import DryRunVerdict, verdicts
from ops.importing.sending import ReceiptSender, send
from ops.importing.split_receipts import SplitReceipts
from schemas.contract import Contract
from streams.kafka.topics import TopicMonitor, partitions_of_topics
from streams.settings import Settings
from streams.sources.source import Source

#: Bad lines that a report names.
_NAMED = 20


@dataclass(frozen=True)
class ReadOptions:
    """How inputs are read: by which contract (None: canonical JSON), encoding, delimiter and sheet (None: detected).

    `source` is the compiled contract, which distinguishes receipts that are in several files.
    """

    contract: Contract | None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    from_start: bool = False
    source: Source | None = None


@dataclass
class InputReport:
    """The result of one input.

    `sheet`: the workbook's sheet that was read; `left_out`: its others. `whole`: receipts without a bad line.
    `put_aside`: lines in the file `aside`: bad ones, and other rows of their receipts. `elsewhere`: receipts that
    another file of the import sends, complete; `one_of`: how many inputs the import has.
    """

    name: str
    found: FileFindings
    sheet: str = ""
    left_out: tuple[str, ...] = ()
    whole: int = 0
    sent: int = 0
    resumed: int = 0
    refused: int = 0
    reason: str = ""
    put_aside: int = 0
    aside: Path | None = None
    verdicts: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    one_of: int = 1

    @property
    def is_clean(self) -> bool:
        """Whether everything in the input was sent, or would be."""
        return not (self.refused or self.found.bad or any(word.startswith("dead letter") for word in self.verdicts))

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON, for machines and the history of schedules."""
        layout = self.found.layout
        return {
            "file": self.name,
            "format": layout.format,
            "encoding": layout.encoding,
            "gzip": layout.compressed,
            "delimiter": layout.delimiter,
            **({"sheet": self.sheet, "sheets_left_out": list(self.left_out)} if self.sheet else {}),
            "rows": self.found.rows,
            "rows_stand_together": self.found.together,
            "receipts": self.found.receipts,
            "whole": self.whole,
            "given_by_other_files": self.elsewhere,
            "sent": self.sent,
            "sent_before": self.resumed,
            "refused": self.refused,
            "reason": self.reason,
            "bad_lines": len(self.found.bad),
            "bad": [each._asdict() for each in self.found.bad[:_NAMED]],
            "put_aside": self.put_aside,
            "aside": str(self.aside) if self.aside is not None else None,
            **({"verdicts": dict(self.verdicts)} if self.verdicts else {}),
        }


class ImportObserver:
    """Receives the progress of an import; this one ignores it."""

    def heed(self, so_far: int) -> None:
        """Receive the position reached so far."""

    def checking(self, name: str, file: File) -> Progress:
        """Start checking an input; the returned callback receives positions in the file."""
        return lambda _: None

    def sending(self, name: str, file: File, found: FileFindings) -> tuple[Progress, Callable[[int], None]]:
        """Start sending an input; the returned callbacks receive the position, and the number of receipts sent."""
        return (lambda _: None), (lambda _: None)


@dataclass
class CheckedInput:
    """A checked input: the file `opened`, number `number` of the import."""

    one: ImportInput
    opened: OpenedInput
    found: FileFindings
    number: int
    whole: Callable[[RowGroup], RowGroup | None] | None = None
    among: str = ""
    one_of: int = 1
    elsewhere: int = 0

    def report(self) -> InputReport:
        """Return a report with the findings alone."""
        return InputReport(self.one.name, self.found, self.opened.sheet, self.opened.left_out, one_of=self.one_of)

    def receipts(self, options: ReadOptions, on_progress: Progress, aside: RejectedLines) -> Iterator[FileReceipt]:
        """Yield the receipts that this file sends in this import. Raises NotReadable."""
        return receipts(
            self.opened.file, self.found, options.contract, on_progress, aside, self._of_all if self.whole else None
        )

    def _of_all(self, run: RowGroup) -> RowGroup | None:
        given = self.whole(run) if self.whole is not None else run
        self.elsewhere += given is None
        return given


@contextmanager
def checked_inputs(
    todo: Sequence[ImportInput], options: ReadOptions, observer: ImportObserver
) -> Iterator[list[CheckedInput | str]]:
    """Check all inputs of an import, which decides which file sends which receipt.

    Yields an entry for each input: an error message, or the findings. Raises BrokerUnreachable, and for queries
    SinkUnavailable and SinkMisconfigured.
    """
    contract = options.contract
    with ExitStack() as stack:
        spread = None
        if options.source is not None and contract is not None and contract.format == "csv" and contract.group_by:
            spread = stack.enter_context(closing(SplitReceipts(options.source)))
        checked: list[CheckedInput | str] = []
        sheets: list[tuple[int, Path, str]] = []  # that are looked at alone
        for one in todo:
            number = len(checked) + len(sheets)
            inner = stack.enter_context(ExitStack())
            try:
                opened = inner.enter_context(as_file(one, contract, options.encoding, options.sheet))
            except NotReadable as error:
                checked.append(str(error))
                continue
            heard = spread.listener(number) if spread is not None and (len(todo) > 1 or opened.alike) else None
            try:
                on_progress = observer.checking(one.name, opened.file)
                found = check_file(opened.file, contract, on_progress, options.encoding, options.delimiter, heard)
            except NotReadable as error:
                checked.append(opened.rephrase(str(error)))
                inner.close()
                continue
            checked.append(CheckedInput(one, opened, found, number))
            for path, name in opened.alike:
                sheets.append((len(checked) + len(sheets), path, name))
            if opened.file is one.file:
                inner.close()  # nothing had to be written for it
        if spread is not None and len(checked) + len(sheets) > 1:
            try:
                checked = _judged(checked, sheets, spread, options, observer)
            except NotReadable as error:
                checked = [each if isinstance(each, str) else f"{each.one.name}: not sent: {error}" for each in checked]
        yield checked


def _judged(
    checked: list[CheckedInput | str],
    sheets: list[tuple[int, Path, str]],
    spread: SplitReceipts,
    options: ReadOptions,
    observer: ImportObserver,
) -> list[CheckedInput | str]:
    """Decide which file gives which receipts; those that are in doubt are held back in all of them."""
    contract = options.contract
    tables = [each for each in checked if isinstance(each, CheckedInput)]
    assert contract is not None
    beside = [
        (
            number,
            name,
            path,
            check_file(path, contract, lambda _: None, delimiter=",", on_receipt=spread.listener(number)),
        )
        for number, path, name in sheets
    ]
    held = _held(tables)
    for each in tables:
        each.found.held = held
    numbers = set(spread.find())
    names = {each.number: each.one.name for each in tables} | {number: name for number, name, *_ in beside}
    files = [(each.number, each.opened.file, each.found, each.one.name) for each in tables]
    files += [(number, path, found, name) for number, name, path, found in beside]
    for number, file, found, name in sorted(files, key=itemgetter(0)):
        if number in numbers:
            on_progress = observer.checking(name, file)
            aside = RejectedLines("", lambda _: None)
            spread.gather(number, receipt_runs(file, found, columns_of(found.layout, contract), on_progress, aside))
    by_number = {each.number: each for each in tables}
    unsent = frozenset(number for number, *_ in beside)
    for doubt in spread.judge(unsent):
        held.add(doubt.key)
        for part in doubt.parts:
            if part.file in by_number:
                others = ", ".join(f"{names[each.file]}, line {each.line:,}" for each in doubt.parts if each != part)
                by_number[part.file].found.is_bad(
                    part.line, f"its receipt has rows in {others} too: {doubt.why}; put all rows of it into one file"
                )
    unreadable = next((each for each in checked if isinstance(each, str)), None)
    if unreadable is not None and spread.reaches_over:
        why = "not sent, as receipts of this import reach over its files, and one of them can't be read"
        return [each if isinstance(each, str) else f"{each.one.name}: {why}" for each in checked]
    among = _digest_of(tables) if numbers or held else ""
    for each in tables:
        each.whole, each.among, each.one_of = spread.given_by(each.number), among, len(checked)
    return checked


def _held(tables: Sequence[CheckedInput]) -> set[Key]:
    """Return the receipts that a bad line of any file may belong to, also over the ends of files."""
    held = set[Key]().union(*(each.found.held for each in tables))
    for before, behind in pairwise(tables):
        if before.found.ends_bad and behind.found.first is not None:
            held.add(behind.found.first)
        if behind.found.begins_bad and before.found.last is not None:
            held.add(before.found.last)
    return held


def _digest_of(tables: Sequence[CheckedInput]) -> str:
    return hashlib.sha256("".join(each.found.digest for each in tables).encode()).hexdigest()


def _import_one(
    settings: Settings,
    one: CheckedInput,
    options: ReadOptions,
    observer: ImportObserver,
    sender: ReceiptSender,
    checkpoint: ImportCheckpoint,
) -> InputReport:
    """Send this file's receipts, continuing after those that an earlier import of the same file had confirmed."""
    confirmed, refused = sender.confirmed, sender.failed
    report = one.report()
    if not options.from_start:
        report.resumed = checkpoint.read(lambda: _ends(settings))
    on_progress, counted = observer.sending(report.name, one.opened.file, one.found)
    with _put_aside(one.one, report) as aside:
        made = one.receipts(options, on_progress, aside)
        report.whole = send(report.name, made, sender, checkpoint, report.resumed, counted)
    report.sent, report.refused = sender.confirmed - confirmed, sender.failed - refused
    report.reason = sender.reason if report.refused else ""
    report.elsewhere = one.elsewhere
    return report


def import_all(
    settings: Settings,
    todo: Sequence[ImportInput],
    options: ReadOptions,
    observer: ImportObserver,
    sender: ReceiptSender,
) -> Iterator[InputReport | str]:
    """Send the receipts of all inputs, as one import; yield a report for each, or an error message.

    All of them are checked before anything is sent. Continues after the receipts that an interrupted import of the same
    bytes had confirmed. Raises BrokerUnreachable, and for queries SinkUnavailable and SinkMisconfigured.
    """
    done: list[ImportCheckpoint] = []
    with checked_inputs(todo, options, observer) as checked:
        for each in checked:
            if isinstance(each, str):
                yield each
                continue
            checkpoint = ImportCheckpoint(settings, each.found, options.contract, each.among)
            try:
                report = _import_one(settings, each, options, observer, sender, checkpoint)
            except NotReadable as error:  # the others can still be imported
                yield each.opened.rephrase(str(error))
                continue
            if not report.refused:
                done.append(checkpoint)
                if len(checked) > 1:
                    checkpoint.write(report.name, report.whole, sender.offsets)
            yield report
        for checkpoint in done:
            checkpoint.remove()


def rehearse(
    settings: Settings,
    todo: Sequence[ImportInput],
    options: ReadOptions,
    observer: ImportObserver,
    say: Callable[[DryRunVerdict], None],
) -> list[InputReport | str]:
    """Say the line's verdict on each receipt of an import; nothing is sent or written. Raises as `import_all`."""
    reports: list[InputReport | str] = []
    owners: deque[InputReport] = deque()

    with checked_inputs(todo, options, observer) as checked:

        def made() -> Iterator[FileReceipt]:
            for each in checked:
                if isinstance(each, str):
                    reports.append(each)
                    continue
                report = each.report()
                on_progress, counted = observer.sending(report.name, each.opened.file, each.found)
                aside = RejectedLines(header_of(each.found.layout), lambda _: None)
                try:
                    for report.whole, receipt in enumerate(each.receipts(options, on_progress, aside), 1):
                        owners.append(report)
                        counted(report.whole)
                        yield receipt
                except NotReadable as error:
                    reports.append(each.opened.rephrase(str(error)))
                    continue
                report.put_aside, report.elsewhere = aside.lines, each.elsewhere
                reports.append(report)

        for verdict in verdicts(settings, made()):
            owners.popleft().verdicts[verdict.word] += 1
            say(verdict)
    return reports


def _ends(settings: Settings) -> dict[int, int]:
    partitions = partitions_of_topics(settings.kafka_access)[settings.topic]
    ends = TopicMonitor(settings.kafka_access, settings.topic, partitions).ends(range(partitions))
    return {partition: end.stable for partition, end in ends.items()}


@contextmanager
def _put_aside(one: ImportInput, report: InputReport) -> Iterator[RejectedLines]:
    """Where bad lines go: a file that is there when the import is done, and only if there were any."""
    ending = {"csv": "csv", "json_lines": "jsonl"}.get(report.found.layout.format, "txt")
    growing = one.bad_rows_prefix.with_name(f".{one.bad_rows_prefix.name}.bad.part")
    opened: list[IO[str]] = []

    def put(text: str) -> None:
        if not opened:
            opened.append(growing.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
        opened[0].write(text)

    aside = RejectedLines(header_of(report.found.layout), put)
    try:
        yield aside
    finally:
        for file in opened:
            file.close()
    report.put_aside = aside.lines
    if opened:
        report.aside = _free(one.bad_rows_prefix, ending, growing.read_bytes())
        growing.replace(report.aside)


def _free(bad_rows_prefix: Path, ending: str, content: bytes) -> Path:
    """Return a name that is free, or whose file is the same: what somebody has begun to repair is not written over."""
    number = 1
    while True:
        path = bad_rows_prefix.with_name(f"{bad_rows_prefix.name}.bad{f'-{number}' if number > 1 else ''}.{ending}")
        if not path.exists() or path.read_bytes() == content:
            return path
        number += 1
