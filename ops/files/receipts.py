"""A file's receipts, in two passes: the first checks the whole file, the second yields the receipts.

The first pass finds the encoding, the digest, the numbers of rows and receipts, the bad lines, and whether the rows of
every receipt are adjacent. If they are, the second pass yields each receipt after its last row; if not, the rows are
regrouped on disk (`ops.files.regroup`). Neither pass holds more than one receipt in memory.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ops.files.layout import File, FileLayout, NotReadable, as_text, look, opened
from ops.files.records import Progress, position, texts
from ops.files.regroup import RepeatedNumbers, RowGroup, regrouped
from schemas.contract import Contract
from streams.sources.rows import (
    BadRow,
    NoReceipt,
    ReceiptKey,
    RowsUnreadable,
    TableColumns,
    TableRows,
    blank_lines,
    group_rows,
    read_rows,
    receipt_record,
)
from streams.sources.source import MAX_PARTS

_EVERY = 2_000
_PIECE = 2**20
#: Lines that are read together.
_AT_ONCE = 500
#: With more bad lines than this, the contract or the file as a whole is wrong.
MOST_BAD = 10_000
_KEEPING = "surrogateescape"


class FileReceipt(NamedTuple):
    """A record for the topic, and the line (of JSON arrays and XML: the number) where it begins."""

    key: bytes | None
    value: bytes
    line: int


class BadLine(NamedTuple):
    """A line that is not a valid row or record, and its fault."""

    line: int
    fault: str


@dataclass
class FileFindings:
    """The findings about a file. `together`: the rows of every receipt are adjacent. `held`: receipts that are not
    sent,

    because a bad line may belong to them. `first` and `last` are the receipts of the first and the last row that name
    one; `begins_bad` and `ends_bad` say whether bad lines come before or after them.
    """

    layout: FileLayout
    digest: str
    rows: int = 0
    receipts: int = 0
    together: bool = True
    bad: list[BadLine] = field(default_factory=list)
    held: set[ReceiptKey] = field(default_factory=set)
    first: ReceiptKey | None = None
    last: ReceiptKey | None = None
    begins_bad: bool = False
    ends_bad: bool = False

    def is_bad(self, line: int, fault: str) -> None:
        """Record a bad line. Raises NotReadable when there are too many."""
        self.bad.append(BadLine(line, fault))
        if len(self.bad) > MOST_BAD:
            first = self.bad[0]
            raise NotReadable(f"more than {MOST_BAD:,} bad lines, the first: line {first.line}: {first.fault}")


class RejectedLines:
    """Receives the lines that are not sent, with the header above the first of them; text unchanged, in UTF-8."""

    def __init__(self, header: str, put: Callable[[str], None]) -> None:
        self._header = header
        self._put = put
        self.lines = 0

    def take(self, text: str) -> None:
        """Write a line."""
        if not self.lines and self._header:
            self._put(self._header)
        self.lines += 1
        self._put(text if text.endswith(("\n", "\r")) else f"{text}\n")


def check_file(
    file: File,
    contract: Contract | None,
    on_progress: Progress,
    encoding: str | None = None,
    delimiter: str | None = None,
    on_receipt: Callable[[ReceiptKey], None] | None = None,
) -> FileFindings:
    """Read the whole file and return the findings; `on_receipt` is called for each group of adjacent rows. Raises
    NotReadable."""
    is_table = contract is not None and contract.format == "csv"
    named = contract.group_by if contract is not None and is_table else ()
    layout = look(file, "csv" if is_table else None, encoding, delimiter, named)
    if layout.format == "csv" and not is_table:
        raise NotReadable(f"{file} is CSV, and the contract is not: it needs `format: csv`")
    findings = FileFindings(layout, _digest(file))
    try:
        if contract is not None and is_table:
            _look_at_rows(file, findings, columns_of(layout, contract), on_progress, on_receipt)
        else:
            for item in _json_or_xml(file, layout, on_progress):
                findings.rows += 1
                if isinstance(item, BadRow):
                    findings.is_bad(item.line, item.fault)
                else:
                    findings.receipts += 1
    except (RowsUnreadable, NotReadable) as error:
        if isinstance(error, RowsUnreadable) and not layout.header:
            error = RowsUnreadable(
                f"{error}: the first line has numbers, or a name twice or none, so it names no columns"
            )
        raise NotReadable(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from None
    return findings


def _digest(file: File) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as raw:
        while piece := raw.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def columns_of(layout: FileLayout, contract: Contract) -> TableColumns:
    """Return the columns of a table, read by the contract. Raises RowsUnreadable."""
    return TableColumns(layout.columns, contract.group_by, contract.fill_down, layout.delimiter, contract.skip_lines)


def _look_at_rows(
    file: File,
    findings: FileFindings,
    columns: TableColumns,
    on_progress: Progress,
    on_receipt: Callable[[ReceiptKey], None] | None,
) -> None:
    if columns.key is None:
        for chunk in _rows(file, findings.layout, columns, on_progress):
            if isinstance(chunk, BadRow):
                findings.rows += 1
                findings.is_bad(chunk.line, chunk.fault)
            else:
                findings.rows += len(chunk.rows)
                findings.receipts += len(chunk.rows)
        return
    with closing(RepeatedNumbers()) as repeats:
        for run in group_rows(_rows(file, findings.layout, columns, on_progress), columns):
            if isinstance(run, BadRow):
                findings.rows += 1
                findings.is_bad(run.line, run.fault)
                findings.held.update(_may_be_of(run, findings.last, columns))
                findings.begins_bad |= findings.last is None
                findings.ends_bad = True
                continue
            findings.rows += len(run.rows)
            if findings.ends_bad:
                findings.held.add(run.key)
                findings.ends_bad = False
            if run.key != findings.last:
                findings.last = run.key
                findings.first = run.key if findings.first is None else findings.first
                findings.receipts += 1
                repeats.add(hash(run.key))
                if on_receipt is not None:
                    on_receipt(run.key)
        findings.together = not repeats.found()
        if not findings.together:
            findings.receipts = repeats.different()


def _may_be_of(row: BadRow, last: ReceiptKey | None, columns: TableColumns) -> Iterator[ReceiptKey]:
    """Yield the receipts that a bad line may belong to: the previous row's, and the one that its own cells name."""
    if last is not None:
        yield last
    with suppress(csv.Error, StopIteration, IndexError, NoReceipt):
        if columns.key is not None:
            yield columns.receipt(columns.key(next(csv.reader([row.text], delimiter=columns.delimiter))))


def receipts(
    file: File,
    findings: FileFindings,
    contract: Contract | None,
    on_progress: Progress,
    rejected: RejectedLines,
    whole: Callable[[RowGroup], RowGroup | None] | None = None,
) -> Iterator[FileReceipt]:
    """Yield the complete receipts in the order of their first rows; the order is the same for every pass.

    A receipt that a bad line may belong to is not sent without it: its rows are rejected with the line. `whole` returns
    a receipt's rows from all files, or None if another file sends it. Raises NotReadable.
    """
    layout = findings.layout
    if contract is None or contract.format != "csv":
        for item in _json_or_xml(file, layout, on_progress):
            if isinstance(item, BadRow):
                rejected.take(item.text)
            else:
                yield item
        return
    columns = columns_of(layout, contract)
    runs = receipt_runs(file, findings, columns, on_progress, rejected)
    for run in runs if findings.together else regrouped(runs):
        given = run if whole is None else whole(run)
        if given is not None:
            yield FileReceipt(*receipt_record(given.key, given.rows), given.line)


def receipt_runs(
    file: File, findings: FileFindings, columns: TableColumns, on_progress: Progress, rejected: RejectedLines
) -> Iterator[RowGroup]:
    """Yield groups of adjacent rows of one receipt, except for receipts that are not sent. Raises NotReadable."""
    as_json, held = columns.as_json, findings.held
    key: ReceiptKey | None = None
    begins = 0
    rows: list[str] = []
    for run in group_rows(_rows(file, findings.layout, columns, on_progress), columns):
        if isinstance(run, BadRow):
            rejected.take(run.text)
            continue
        if held and run.key in held:
            for cells in run.rows:
                rejected.take(columns.as_csv(cells))
            continue
        if run.key != key:
            if key is not None:
                yield RowGroup(key, begins, rows)
            key, begins, rows = run.key, run.line, []
        rows += map(as_json, run.rows)
        if len(rows) > MAX_PARTS:
            raise NotReadable(
                f"{file}: line {run.line}: a receipt of more than {MAX_PARTS:,} rows; does group_by name receipts?"
            )
    if key is not None:
        yield RowGroup(key, begins, rows)


def header_of(layout: FileLayout) -> str:
    """Return the header line of a table with these columns."""
    return (
        TableColumns(layout.columns, (), (), layout.delimiter).as_csv(layout.columns) if layout.format == "csv" else ""
    )


def _rows(file: File, layout: FileLayout, columns: TableColumns, on_progress: Progress) -> Iterator[TableRows | BadRow]:
    """Yield the rows of a table, without its header."""
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as text:
        lines = blank_lines(iter(text), columns.skip_lines, layout.above)
        findings = read_rows(lines, layout.delimiter, layout.encoding, len(layout.columns), _AT_ONCE)
        waits_for_header = layout.header
        for chunk in findings:
            on_progress(position(raw))
            if waits_for_header and isinstance(chunk, TableRows):
                waits_for_header = False
                chunk = TableRows(chunk.line + 1, chunk.rows[1:])
            yield chunk


def _json_or_xml(file: File, layout: FileLayout, on_progress: Progress) -> Iterator[FileReceipt | BadRow]:
    if layout.format != "json_lines":
        for number, text in enumerate(texts(file, layout, on_progress, _KEEPING), 1):
            yield FileReceipt(None, text.encode(errors=_KEEPING), number)
        return
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as lines:
        for number, line in enumerate(lines, 1):
            if number % _EVERY == 0:
                on_progress(position(raw))
            if not line.strip():
                continue
            try:
                json.loads(line)
                yield FileReceipt(None, line.strip().encode(), number)
            except RecursionError:
                yield BadRow(number, line, "nested too deeply")
            except ValueError as error:  # not JSON, or half of a character
                yield BadRow(number, line, f"not JSON: {getattr(error, 'msg', 'not UTF-8')}")
