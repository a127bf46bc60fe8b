"""Turn a CSV file into records, one per receipt with its rows, as a contract's format `csv` reads them.

A record's value is `{"rows": [{column: text, …}, …]}`; its key is the values of the columns that name the receipt,
joined with slashes (`schemas.reference.join_names`). The file is read row by row, never as a whole, so here only
adjacent rows become one receipt; `ops.importing` gathers receipts whose rows are scattered.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, NamedTuple

from schemas.codes import bare_code, is_damaged
from schemas.reference import join_names

#: Column delimiters, the likeliest first.
DELIMITERS = ",;\t|"
MAX_COLUMNS_NAMED = 30  # columns in a message
#: The name of a receipt: one cell, or several.
ReceiptKey = str | tuple[str, ...]
#: Most receipt numbers look like this: no quoting to remove, and not damaged.
_PLAIN_CODE = re.compile(r"[0-9A-Z]+(?:[-/_][0-9A-Z]+)*").fullmatch
_BOM = b"\xef\xbb\xbf"
#: Python's escapes for bytes that are invalid in the encoding (`surrogateescape`).
_ESCAPED = re.compile("[\udc80-\udcff]")


class RowsUnreadable(Exception):
    """The file can't be read as a table; the message says where, and how to fix it."""


class TableRows(NamedTuple):
    """Rows on consecutive lines, of which the first is `line`."""

    line: int
    rows: list[list[str]]


class BadRow(NamedTuple):
    """A line that is not a row of the table: its original text, and why it isn't a row."""

    line: int
    text: str
    fault: str


class RowRun(NamedTuple):
    """Adjacent rows of one receipt, on consecutive lines of which the first is `line`."""

    line: int
    key: ReceiptKey
    rows: list[list[str]]


class NoReceipt(Exception):
    """A row does not say which receipt it belongs to; the message says why, and how to fix it."""


class TableColumns:
    """The columns of a table, and how its rows become a record.

    Raises RowsUnreadable if `group_by` or `fill_down` names a column that the table doesn't have.
    """

    def __init__(
        self,
        names: Sequence[str],
        group_by: Sequence[str],
        fill_down: Sequence[str] = (),
        delimiter: str = ",",
        skip_lines: Sequence[str] = (),
    ) -> None:
        for option, required in (("group_by", group_by), ("fill_down", fill_down)):
            missing = [column for column in required if column not in names]
            if missing:
                more = f" and {len(names) - MAX_COLUMNS_NAMED} more" * (len(names) > MAX_COLUMNS_NAMED)
                existing = ", ".join(names[:MAX_COLUMNS_NAMED]) + more
                raise RowsUnreadable(f"{option}: there is no column {', '.join(missing)}; the columns are {existing}")
        self.names = list(names)
        self.fill_down = tuple(fill_down)
        self.delimiter = delimiter
        self.skip_lines = tuple(skip_lines)
        indexes = self.group_indexes = [names.index(column) for column in group_by]
        #: Returns a row's cells in the `group_by` columns; rows with equal cells belong to one receipt.
        self.key: Callable[[Sequence[str]], str | tuple[str, ...]] | None = itemgetter(*indexes) if indexes else None
        quoted = (encode_basestring(name).replace("%", "%%") for name in names)
        self._row = "{" + ",".join(f"{name}:%s" for name in quoted) + "}"

    def receipt(self, cells: str | tuple[str, ...]) -> ReceiptKey:
        """Return the receipt that cells of the `group_by` columns name, without a spreadsheet's quoting.

        Raises NoReceipt if a cell is empty or damaged.
        """
        if type(cells) is str and _PLAIN_CODE(cells):
            return cells
        parts = (cells,) if isinstance(cells, str) else cells
        codes = tuple(map(bare_code, parts))
        for index, code in zip(self.group_indexes, codes, strict=True):
            if not code:
                raise NoReceipt(
                    f"no value in {self.names[index]}, which names the receipt (group_by); if an empty cell repeats "
                    "the one above, as in merged cells, list the column in the contract's fill_down"
                )
            if is_damaged(code):
                raise NoReceipt(
                    f"a spreadsheet has turned the code in {self.names[index]}, which names the receipt (group_by), "
                    "into a number or a date; export that column as text"
                )
        return codes[0] if len(codes) == 1 else codes

    def as_csv(self, cells: Sequence[str]) -> str:
        """Return a row as a line of the table."""
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter or ",", lineterminator="\n").writerow(cells)
        return text.getvalue()

    def as_json(self, cells: Iterable[str]) -> str:
        """Return a row as a JSON object, as `json.dumps` would write it but in a third of the time."""
        return self._row % tuple(map(encode_basestring, cells))


def receipt_record(key: str | tuple[str, ...], rows: Iterable[str]) -> tuple[bytes, bytes]:
    """Return the (key, value) of a receipt's record, from its rows as JSON."""
    name = key if isinstance(key, str) else join_names(key)
    return name.encode(), f'{{"rows":[{",".join(rows)}]}}'.encode()


def rows_to_records(
    lines: Iterable[bytes],
    group_by: Sequence[str],
    delimiter: str | None = None,
    encoding: str = "utf-8",
    fill_down: Sequence[str] = (),
    skip_lines: Sequence[str] = (),
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) of each receipt. Without `group_by` each row is a receipt, and its key is its line number.

    `lines` is a file opened in binary mode, whose first line names the columns. Raises RowsUnreadable when it reaches a
    bad line.
    """
    texts = blank_lines(_decode(lines, encoding), tuple(skip_lines))
    header = next(texts, None)
    if header is None:
        raise RowsUnreadable("line 1: the file is empty; the first line names the columns")
    table = read_rows(chain([header], texts), delimiter or _sniff_delimiter(header))
    first = next(table, None)
    if first is None:
        raise RowsUnreadable("line 1: the file has no columns; the first line names them")
    columns = TableColumns(_columns(_good_rows(first).rows[0]), group_by, fill_down)
    for name, group in groupby(map(_good_rows, group_rows(table, columns)), lambda run: run.key):
        yield receipt_record(name, (columns.as_json(cells) for run in group for cells in run.rows))


def blank_lines(lines: Iterator[str], prefixes: tuple[str, ...], above: int = 0) -> Iterator[str]:
    """Replace the first `above` lines, and lines that begin with one of these texts after white space, by empty lines.

    Line numbers stay as they are in the file.
    """
    if above:
        lines = chain(("\n" for _ in islice(lines, above)), lines)
    if not prefixes:
        return lines
    return ("\n" if line.lstrip().startswith(prefixes) else line for line in lines)


def _good_rows(chunk: Any) -> Any:
    if isinstance(chunk, BadRow):
        raise RowsUnreadable(f"line {chunk.line}: {chunk.fault}")
    return chunk


def group_rows(table: Iterable[TableRows | BadRow], columns: TableColumns) -> Iterator[RowRun | BadRow]:
    """Group a table's adjacent rows (without the header) by receipt, and fill the empty cells of `fill_down`.

    A row whose cell in `group_by` is empty or damaged is bad: it would be a receipt of its own, or be joined with all
    rows like it. A row without any value is left out. Without `group_by` each row is a receipt, and its key is its line
    number.
    """
    fill_down = _FillDown(columns) if columns.fill_down else None
    key_of = columns.key
    last_cells: Any = None
    key: ReceiptKey = ""
    for run in table:
        if isinstance(run, BadRow):
            if fill_down is not None:
                fill_down.forget()
            yield run
            continue
        line = run.line
        if key_of is None:
            yield from (RowRun(number, str(number), [row]) for number, row in enumerate(run.rows, line))
            continue
        for cells, group in groupby(run.rows if fill_down is None else map(fill_down.fill, run.rows), key_of):
            rows = list(group)
            if cells != last_cells:
                try:
                    key, last_cells = columns.receipt(cells), cells
                except NoReceipt as fault:
                    last_cells = None
                    for number, row in enumerate(rows, line):
                        if any(map(str.strip, row)):
                            yield BadRow(number, columns.as_csv(row), str(fault))
                    line += len(rows)
                    continue
            yield RowRun(line, key, rows)
            line += len(rows)


class _FillDown:
    """Fills empty cells with the values above them, as long as it is certain that they belong together."""

    def __init__(self, columns: TableColumns) -> None:
        self._group_indexes = [(index, columns.names[index] in columns.fill_down) for index in columns.group_indexes]
        self._other_indexes = [
            index for index in map(columns.names.index, columns.fill_down) if (index, True) not in self._group_indexes
        ]
        self._above: list[str] | None = None

    def forget(self) -> None:
        """Forget the row above, because its values are unknown."""
        self._above = None

    def fill(self, cells: list[str]) -> list[str]:
        """Return the row with its empty cells filled.

        A `group_by` cell is only filled if those before it are as above, any other only if the receipt is the same.
        """
        if not any(map(str.strip, cells)):
            return cells
        above, result = self._above, list(cells)
        same_group = above is not None
        for index, fills in self._group_indexes:
            if above is not None and same_group and fills and not result[index].strip():
                result[index] = above[index]
            same_group = above is not None and same_group and result[index] == above[index]
        if above is not None and same_group:
            for index in self._other_indexes:
                result[index] = result[index] if result[index].strip() else above[index]
        self._above = result if all(result[index].strip() for index, _ in self._group_indexes) else None
        return result


def read_rows(
    lines: Iterator[str], delimiter: str, encoding: str = "utf-8", width: int | None = None, chunk_lines: int = 1
) -> Iterator[TableRows | BadRow]:
    """Yield the rows of a table with `width` columns (by default as many as the first row has), without empty lines.

    `lines` were decoded with `surrogateescape`; `chunk_lines` of them are read at a time. A bad line does not affect
    the ones after it: an open quote, which would swallow the rest of the file, is reported as one bad line, and reading
    continues on the next.
    """
    lines_read = 0
    while chunk := list(islice(lines, chunk_lines)):
        rows = _fast_rows(chunk, delimiter, width) if width is not None else None
        if rows is not None:
            yield TableRows(lines_read + 1, rows)
            lines_read += len(chunk)
            continue
        for run, count in _careful_rows(chunk, lines, delimiter, encoding, width, lines_read):
            if run is not None:
                width = width or len(run.rows[0]) if isinstance(run, TableRows) else width
                yield run
            lines_read += count


def _fast_rows(chunk: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """Return one row per line, or None if a line needs care: an open quote, another width or a bad byte."""
    try:
        rows = list(csv.reader(chunk, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(chunk) or set(map(len, rows)) != {width}:
        return None
    return None if _ESCAPED.search("".join(chunk)) else rows


def _careful_rows(
    chunk: list[str], lines: Iterator[str], delimiter: str, encoding: str, width: int | None, lines_read: int
) -> Iterator[tuple[TableRows | BadRow | None, int]]:
    """Yield each row with its number of lines; take more from `lines` if the last row continues beyond the chunk."""
    waiting = deque(chunk)
    held: list[str] = []

    def feed() -> Iterator[str]:
        while waiting or held:
            text = waiting.popleft() if waiting else next(lines, None)
            if text is None:
                return
            held.append(text)
            yield text

    while waiting:
        fault = None
        try:
            for cells in csv.reader(feed(), delimiter=delimiter, strict=True):
                fault = _row_fault(cells, held, delimiter, encoding, width)
                if fault is not None:
                    break
                if cells:
                    width = width or len(cells)
                yield (TableRows(lines_read + 1, [cells]) if cells else None), len(held)
                lines_read += len(held)
                held.clear()
        except csv.Error as error:
            fault = f"not valid CSV: {error}"
        if fault is not None:
            yield BadRow(lines_read + 1, held[0], fault), 1
            lines_read += 1
            waiting.extendleft(reversed(held[1:]))
            held.clear()


def _row_fault(cells: list[str], held: list[str], delimiter: str, encoding: str, width: int | None) -> str | None:
    """Return why these cells, read from the lines in `held`, are not a row; None if they are."""
    if cells and width is not None and len(cells) != width:
        return (
            f"{len(cells)} values for {width} columns; is the delimiter {delimiter!r}, and are values that contain it "
            "quoted?"
        )
    escaped = _ESCAPED.search("".join(held))
    if escaped is not None:
        return f"byte 0x{ord(escaped[0]) - 0xDC00:02x} is not {encoding}; give the file's encoding, often cp1252"
    return None


def _decode(lines: Iterable[bytes], encoding: str) -> Iterator[str]:
    try:
        "".encode(encoding)
    except LookupError:
        raise RowsUnreadable(f"encoding: {encoding!r} is unknown; utf-8 and cp1252 are the usual ones") from None
    for number, line in enumerate(lines, 1):
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode(encoding)
        except UnicodeDecodeError as fault:
            raise RowsUnreadable(
                f"line {number}, byte {fault.start + 1}: not {encoding}; give the file's encoding, often cp1252"
            ) from None


def _sniff_delimiter(header: str) -> str:
    """Return the delimiter that occurs most often in the header, outside quotes."""
    bare = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def column_names(cells: Sequence[str]) -> list[str]:
    """Return the column names from the first line, and `column_N` for a first or last column without a name.

    Spreadsheets put an unnamed index column first, and some programs end each line with a delimiter.
    """
    names = [cell.strip() for cell in cells]
    for index in {0, len(names) - 1} if any(names) else ():
        names[index] = names[index] or f"column_{index + 1}"
    return names


def _columns(cells: list[str]) -> list[str]:
    columns = column_names(cells)
    bad_name = next((name for name in columns if not name or columns.count(name) > 1), None)
    if bad_name is not None:
        raise RowsUnreadable(
            f"line 1: column {bad_name!r} is {'named twice' if bad_name else 'without a name'}; rename it"
        )
    return columns
