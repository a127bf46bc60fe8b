"""A file's receipts, in two readings: one that looks through all of it, and one that gives them.

The first tells the encoding, the digest, how many rows and receipts there are, which lines are bad, and whether the
rows of every receipt stand together. If they do, the second reading gives each receipt as its last row has passed; if
not, they are brought together on disk (`ops.files.regroup`). Neither holds more than a receipt.
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
from ops.files.regroup import RepeatedNumbers, RowGroup, brought_together
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
#: Of bad lines; when there are more, it is not they that are wrong.
MOST_BAD = 10_000
_KEEPING = "surrogateescape"


class FileReceipt(NamedTuple):
    """A record for the topic, and the line (of JSON arrays and XML: the number) where it begins."""

    key: bytes | None
    value: bytes
    line: int


class BadLine(NamedTuple):
    """A line that is no row or record, and why."""

    line: int
    fault: str


@dataclass
class FileFindings:
    """The findings about a file. `together`: no receipt's rows stand apart. `held`: receipts that are not sent.

    These are those that a bad line may belong to. `first` and `last` are the receipts of the first row and the last
    that name one; `begins_bad` and `ends_bad` say that bad lines stand before the one and behind the other.
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
        """Notes it. Raises NotReadable when there are too many."""
        self.bad.append(BadLine(line, fault))
        if len(self.bad) > MOST_BAD:
            first = self.bad[0]
            raise NotReadable(f"more than {MOST_BAD:,} bad lines, the first: line {first.line}: {first.fault}")


class RejectedLines:
    """Where lines go that are not sent, with the header above the first of them; text as it stood, in UTF-8."""

    def __init__(self, header: str, put: Callable[[str], None]) -> None:
        self._header = header
        self._put = put
        self.lines = 0

    def take(self, text: str) -> None:
        """A line."""
        if not self.lines and self._header:
            self._put(self._header)
        self.lines += 1
        self._put(text if text.endswith(("\n", "\r")) else f"{text}\n")


def look_through(
    file: File,
    contract: Contract | None,
    told: Progress,
    encoding: str | None = None,
    delimiter: str | None = None,
    on_receipt: Callable[[ReceiptKey], None] | None = None,
) -> FileFindings:
    """Read all of the file and return what it holds; `on_receipt` hears of each receipt's rows. Raises NotReadable."""
    is_table = contract is not None and contract.format == "csv"
    named = contract.group_by if contract is not None and is_table else ()
    layout = look(file, "csv" if is_table else None, encoding, delimiter, named)
    if layout.format == "csv" and not is_table:
        raise NotReadable(f"{file} is CSV, and the contract is not: it needs `format: csv`")
    found = FileFindings(layout, _digest(file))
    try:
        if contract is not None and is_table:
            _look_at_rows(file, found, columns_of(layout, contract), told, on_receipt)
        else:
            for one in _json_or_xml(file, layout, told):
                found.rows += 1
                if isinstance(one, BadRow):
                    found.is_bad(one.line, one.fault)
                else:
                    found.receipts += 1
    except (RowsUnreadable, NotReadable) as error:
        if isinstance(error, RowsUnreadable) and not layout.header:
            error = RowsUnreadable(
                f"{error}: the first line has numbers, or a name twice or none, so it names no columns"
            )
        raise NotReadable(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from None
    return found


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
    found: FileFindings,
    columns: TableColumns,
    told: Progress,
    on_receipt: Callable[[ReceiptKey], None] | None,
) -> None:
    if columns.key is None:
        for some in _rows(file, found.layout, columns, told):
            if isinstance(some, BadRow):
                found.rows += 1
                found.is_bad(some.line, some.fault)
            else:
                found.rows += len(some.rows)
                found.receipts += len(some.rows)
        return
    with closing(RepeatedNumbers()) as repeats:
        for run in group_rows(_rows(file, found.layout, columns, told), columns):
            if isinstance(run, BadRow):
                found.rows += 1
                found.is_bad(run.line, run.fault)
                found.held.update(_may_be_of(run, found.last, columns))
                found.begins_bad |= found.last is None
                found.ends_bad = True
                continue
            found.rows += len(run.rows)
            if found.ends_bad:
                found.held.add(run.key)
                found.ends_bad = False
            if run.key != found.last:
                found.last = run.key
                found.first = run.key if found.first is None else found.first
                found.receipts += 1
                repeats.add(hash(run.key))
                if on_receipt is not None:
                    on_receipt(run.key)
        found.together = not repeats.found()
        if not found.together:
            found.receipts = repeats.different()


def _may_be_of(row: BadRow, last: ReceiptKey | None, columns: TableColumns) -> Iterator[ReceiptKey]:
    """The receipts that a bad line may be a part of: that of the row before, and the one that its own cells name."""
    if last is not None:
        yield last
    with suppress(csv.Error, StopIteration, IndexError, NoReceipt):
        if columns.key is not None:
            yield columns.receipt(columns.key(next(csv.reader([row.text], delimiter=columns.delimiter))))


def receipts(
    file: File,
    found: FileFindings,
    contract: Contract | None,
    told: Progress,
    aside: RejectedLines,
    whole: Callable[[RowGroup], RowGroup | None] | None = None,
) -> Iterator[FileReceipt]:
    """Give the receipts that are whole, in the order in which they begin, in the same way whenever the file is read.

    A receipt that a bad line may belong to is not sent without it: its rows go aside with the line. `whole` gives for a
    receipt of this file that of all files, or None where another file gives it. Raises NotReadable.
    """
    layout = found.layout
    if contract is None or contract.format != "csv":
        for one in _json_or_xml(file, layout, told):
            if isinstance(one, BadRow):
                aside.take(one.text)
            else:
                yield one
        return
    columns = columns_of(layout, contract)
    runs = receipt_runs(file, found, columns, told, aside)
    for run in runs if found.together else brought_together(runs):
        given = run if whole is None else whole(run)
        if given is not None:
            yield FileReceipt(*receipt_record(given.key, given.rows), given.line)


def receipt_runs(
    file: File, found: FileFindings, columns: TableColumns, told: Progress, aside: RejectedLines
) -> Iterator[RowGroup]:
    """Give the rows of one receipt that stand together, but for receipts that are not sent. Raises NotReadable."""
    as_json, held = columns.as_json, found.held
    key: ReceiptKey | None = None
    begins = 0
    made: list[str] = []
    for run in group_rows(_rows(file, found.layout, columns, told), columns):
        if isinstance(run, BadRow):
            aside.take(run.text)
            continue
        if held and run.key in held:
            for cells in run.rows:
                aside.take(columns.as_csv(cells))
            continue
        if run.key != key:
            if key is not None:
                yield RowGroup(key, begins, made)
            key, begins, made = run.key, run.line, []
        made += map(as_json, run.rows)
        if len(made) > MAX_PARTS:
            raise NotReadable(
                f"{file}: line {run.line}: a receipt of more than {MAX_PARTS:,} rows; does group_by name receipts?"
            )
    if key is not None:
        yield RowGroup(key, begins, made)


def header_of(layout: FileLayout) -> str:
    """The line above a table that has these columns."""
    return (
        TableColumns(layout.columns, (), (), layout.delimiter).as_csv(layout.columns) if layout.format == "csv" else ""
    )


def _rows(file: File, layout: FileLayout, columns: TableColumns, told: Progress) -> Iterator[TableRows | BadRow]:
    """The rows of a table, without its header."""
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as text:
        lines = blank_lines(iter(text), columns.skip_lines, layout.above)
        found = read_rows(lines, layout.delimiter, layout.encoding, len(layout.columns), _AT_ONCE)
        waits_for_header = layout.header
        for some in found:
            told(position(raw))
            if waits_for_header and isinstance(some, TableRows):
                waits_for_header = False
                some = TableRows(some.line + 1, some.rows[1:])
            yield some


def _json_or_xml(file: File, layout: FileLayout, told: Progress) -> Iterator[FileReceipt | BadRow]:
    if layout.format != "json_lines":
        for number, text in enumerate(texts(file, layout, told, _KEEPING), 1):
            yield FileReceipt(None, text.encode(errors=_KEEPING), number)
        return
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as lines:
        for number, line in enumerate(lines, 1):
            if number % _EVERY == 0:
                told(position(raw))
            if not line.strip():
                continue
            try:
                json.loads(line)
                yield FileReceipt(None, line.strip().encode(), number)
            except RecursionError:
                yield BadRow(number, line, "nested too deeply")
            except ValueError as error:  # no JSON, or half of a character
                yield BadRow(number, line, f"not JSON: {getattr(error, 'msg', 'not UTF-8')}")
