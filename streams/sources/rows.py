"""A CSV file to records, one for each receipt: its rows, as the format `csv` of a contract reads them.

A record's value is `{"rows": [{column: text, …}, …]}`, its key the values of the columns that name the receipt, with
slashes between (`schemas.reference.join_names`). The file is read row by row, never as a whole, so here only rows that
stand together are one receipt; `ops.importing` brings together what does not.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from json.encoder import encode_basestring
from operator import itemgetter
from typing import NamedTuple

from schemas.reference import join_names

#: What separates columns, the likelier first.
DELIMITERS = ",;\t|"
MOST_NAMED = 30  # columns in a message
_BOM = b"\xef\xbb\xbf"
#: What Python makes of a byte that its encoding does not have (`surrogateescape`).
_ESCAPED = re.compile("[\udc80-\udcff]")


class RowsUnreadable(Exception):
    """The file is not what it should be; the message says where, and what to do."""


class Rows(NamedTuple):
    """Rows, the first of which begins on `line` and each other on the line below the one before."""

    line: int
    rows: list[list[str]]


class BadRow(NamedTuple):
    """A line that is no row of the table: its text as it stands there, and why it is none."""

    line: int
    text: str
    fault: str


class Columns:
    """The columns of a table, and how its rows become a record. Raises RowsUnreadable for `group_by` of others."""

    def __init__(self, names: Sequence[str], group_by: Sequence[str]) -> None:
        missing = [column for column in group_by if column not in names]
        if missing:
            there = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" * (len(names) > MOST_NAMED))
            raise RowsUnreadable(f"group_by: there is no column {', '.join(missing)}; there are {there}")
        self.names = list(names)
        places = [names.index(column) for column in group_by]
        #: What the cells of the columns of `group_by` hold; rows with the same are one receipt.
        self.key: Callable[[Sequence[str]], str | tuple[str, ...]] | None = itemgetter(*places) if places else None
        quoted = (encode_basestring(name).replace("%", "%%") for name in names)
        self._row = "{" + ",".join(f"{name}:%s" for name in quoted) + "}"

    def as_json(self, cells: Iterable[str]) -> str:
        """A row as a JSON object: as `json.dumps` writes it, in a third of the time."""
        return self._row % tuple(map(encode_basestring, cells))


def record(key: str | tuple[str, ...], rows: Iterable[str]) -> tuple[bytes, bytes]:
    """(key, value) of a receipt, of its rows as JSON."""
    name = key if isinstance(key, str) else join_names(key)
    return name.encode(), f'{{"rows":[{",".join(rows)}]}}'.encode()


def rows_to_records(
    lines: Iterable[bytes], group_by: Sequence[str], delimiter: str | None = None, encoding: str = "utf-8"
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each receipt. Without `group_by` each row is one, its key its line.

    `lines` are a file opened in binary, whose first line names the columns. Raises RowsUnreadable, when it comes to the
    line that is wrong.
    """
    texts = _decoded(lines, encoding)
    header = next(texts, None)
    if header is None:
        raise RowsUnreadable("line 1: the file is empty; the first line names the columns")
    table = _sound(read_rows(chain([header], texts), delimiter or _sniffed(header)))
    _, names = next(table, (0, None))
    if names is None:
        raise RowsUnreadable("line 1: the file has no columns; the first line names them")
    columns = Columns(_columns(names), group_by)
    key = columns.key
    for name, group in groupby(table, (lambda row: str(row[0])) if key is None else lambda row: key(row[1])):
        yield record(name, (columns.as_json(cells) for _, cells in group))


def _sound(found: Iterator[Rows | BadRow]) -> Iterator[tuple[int, list[str]]]:
    for some in found:
        if isinstance(some, BadRow):
            raise RowsUnreadable(f"line {some.line}: {some.fault}")
        yield from enumerate(some.rows, some.line)


def read_rows(
    lines: Iterator[str], delimiter: str, encoding: str = "utf-8", width: int | None = None, at_once: int = 1
) -> Iterator[Rows | BadRow]:
    """The rows of a table of `width` columns, without one as many as the first row has; empty lines are left out.

    `lines` were decoded with `surrogateescape`, and so many are read together at `at_once`. A line that is no row does
    not spoil the next: an open quote, which would take in all that follows, is told as one bad line, and reading begins
    anew behind it.
    """
    done = 0
    while some := list(islice(lines, at_once)):
        rows = _plain(some, delimiter, width) if width is not None else None
        if rows is not None:
            yield Rows(done + 1, rows)
            done += len(some)
            continue
        for found, read in _with_care(some, lines, delimiter, encoding, width, done):
            if found is not None:
                width = width or len(found.rows[0]) if isinstance(found, Rows) else width
                yield found
            done += read


def _plain(some: list[str], delimiter: str, width: int) -> list[list[str]] | None:
    """The rows of these lines, if each is a row and nothing about them is unusual."""
    try:
        rows = list(csv.reader(some, delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    if len(rows) != len(some) or set(map(len, rows)) != {width}:
        return None
    return None if _ESCAPED.search("".join(some)) else rows


def _with_care(
    some: list[str], lines: Iterator[str], delimiter: str, encoding: str, width: int | None, done: int
) -> Iterator[tuple[Rows | BadRow | None, int]]:
    """Row by row: (it, the lines that it took). Of `lines` it takes what the last row goes on into."""
    waiting = deque(some)
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
                fault = _fault(cells, held, delimiter, encoding, width)
                if fault is not None:
                    break
                if cells:
                    width = width or len(cells)
                yield (Rows(done + 1, [cells]) if cells else None), len(held)
                done += len(held)
                held.clear()
        except csv.Error as error:
            fault = f"not valid CSV: {error}"
        if fault is not None:
            yield BadRow(done + 1, held[0], fault), 1
            done += 1
            waiting.extendleft(reversed(held[1:]))
            held.clear()


def _fault(cells: list[str], held: list[str], delimiter: str, encoding: str, width: int | None) -> str | None:
    """Why these cells, of these lines, are no row."""
    if cells and width is not None and len(cells) != width:
        return (
            f"{len(cells)} values for {width} columns; is the delimiter {delimiter!r}, and are values that hold it in "
            "quotes?"
        )
    escaped = _ESCAPED.search("".join(held))
    if escaped is not None:
        return f"byte 0x{ord(escaped[0]) - 0xDC00:02x} is not {encoding}; give the file's encoding, often cp1252"
    return None


def _decoded(lines: Iterable[bytes], encoding: str) -> Iterator[str]:
    try:
        "".encode(encoding)
    except LookupError:
        raise RowsUnreadable(f"encoding: there is no {encoding!r}; utf-8 and cp1252 are the usual ones") from None
    for number, line in enumerate(lines, 1):
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode(encoding)
        except UnicodeDecodeError as fault:
            raise RowsUnreadable(
                f"line {number}, byte {fault.start + 1}: not {encoding}; give the file's encoding, often cp1252"
            ) from None


def _sniffed(header: str) -> str:
    """What stands most often in the header, outside quotes."""
    bare = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def names_of(cells: Sequence[str]) -> list[str]:
    """The names of the columns, as the first line has them; the number of a first or last one that has none.

    Spreadsheets leave an index without a name in front, and programs a delimiter at the end of each line.
    """
    names = [cell.strip() for cell in cells]
    for place in {0, len(names) - 1} if any(names) else ():
        names[place] = names[place] or f"column_{place + 1}"
    return names


def _columns(cells: list[str]) -> list[str]:
    columns = names_of(cells)
    wrong = next((name for name in columns if not name or columns.count(name) > 1), None)
    if wrong is not None:
        raise RowsUnreadable(f"line 1: column {wrong!r} is {'named twice' if wrong else 'without a name'}; rename it")
    return columns
