"""A CSV file to records, one for each receipt: its rows, as the format `csv` of a contract reads them.

A record's value is `{"rows": [{column: text, …}, …]}`, its key the values of the columns that name the receipt, with
slashes between. Rows of one receipt must stand together, as they do in an export by receipt: the file is read row by
row, never as a whole.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import NamedTuple

#: What separates columns, the likelier first.
DELIMITERS = ",;\t|"
_BOM = b"\xef\xbb\xbf"


class RowsUnreadable(Exception):
    """The file is not what it should be; the message says where, and what to do."""


class Row(NamedTuple):
    """A row and the line that it ends on."""

    line: int
    cells: dict[str, str]


def rows_to_records(
    lines: Iterable[bytes], group_by: Sequence[str], delimiter: str | None = None, encoding: str = "utf-8"
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each receipt. Without `group_by` each row is one, its key its line.

    `lines` are a file opened in binary. Raises RowsUnreadable, when it comes to the line that is wrong.
    """
    rows = read_rows(lines, delimiter, encoding)
    first = next(rows, None)
    if first is None:
        return
    missing = [column for column in group_by if column not in first.cells]
    if missing:
        there = ", ".join(first.cells)
        raise RowsUnreadable(f"group_by: there is no column {', '.join(missing)}; there are {there}")

    def receipt(row: Row) -> tuple[str, ...]:
        return tuple(row.cells[column] for column in group_by) or (str(row.line),)

    for key, group in groupby(chain([first], rows), key=receipt):
        value = {"rows": [row.cells for row in group]}
        yield "/".join(key).encode(), json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_rows(lines: Iterable[bytes], delimiter: str | None = None, encoding: str = "utf-8") -> Iterator[Row]:
    """The rows below the header, which is the first line; empty lines are left out. Raises RowsUnreadable."""
    texts = _decoded(lines, encoding)
    header = next(texts, None)
    if header is None:
        raise RowsUnreadable("line 1: the file is empty; the first line names the columns")
    reader = csv.reader(chain([header], texts), delimiter=delimiter or _sniffed(header), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if not columns:
                columns = _columns(cells)
            elif len(cells) != len(columns):
                raise RowsUnreadable(
                    f"line {reader.line_num}: {len(cells)} values for {len(columns)} columns; is the delimiter "
                    f"{reader.dialect.delimiter!r}, and are values that hold it in quotes?"
                )
            else:
                yield Row(reader.line_num, dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise RowsUnreadable(f"line {reader.line_num}: not valid CSV: {error}") from None


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


def _columns(cells: list[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    wrong = next((name for name in columns if not name or columns.count(name) > 1), None)
    if wrong is not None:
        raise RowsUnreadable(f"line 1: column {wrong!r} is {'named twice' if wrong else 'without a name'}; rename it")
    return columns
