"""The inputs of an import: files, folders, members of archives, standard input, the rows of a query.

Tables in other formats (Excel, rows as JSON, a query) are first converted to a temporary CSV file, row by row, so that
the rest of the import reads one kind of table.
"""

import csv
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.files.layout import ZIP, File, NotReadable, look, opened
from ops.files.records import texts
from schemas.codes import EXACT_DIGITS
from schemas.contract import Contract
from sinks.sql.queries import streamed

if TYPE_CHECKING:
    from openpyxl import Workbook

STDIN = "-"
_WORKBOOK = "xl/workbook.xml"
#: Ends of names that are our own, or that somebody still writes to.
_NOT_OURS = (".part", ".tmp", ".crdownload", ".filepart", ".report.json")


class QueryInput(NamedTuple):
    """Rows of a database; the password is no part of the URL."""

    url: str
    text: str
    password: str | None = None


@dataclass(frozen=True)
class ImportInput:
    """One input with its display name. Bad rows go to a file whose name begins with `bad_rows_prefix`."""

    name: str
    bad_rows_prefix: Path
    file: File | None = None
    query: QueryInput | None = None


def inputs(names: Iterable[str], query: QueryInput | None = None) -> list[ImportInput]:
    """Return all inputs, with folders and archives expanded, in the order of `names`. Raises NotReadable."""
    found = [each for name in names for each in _unfolded(name)]
    if query is not None:
        found.append(ImportInput("query", Path("query"), query=query))
    if not found:
        raise NotReadable("nothing to import: no file found")
    return found


def _unfolded(name: str) -> Iterator[ImportInput]:
    path = Path(name)
    if name == STDIN:
        yield ImportInput("stdin", Path("stdin"))
    elif path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.is_file() and is_ours(each.name))
        if not inside:
            raise NotReadable(f"{path}: no file in that folder")
        for each in inside:
            yield from _unfolded(str(each))
    elif not path.is_file():
        raise NotReadable(f"{path}: no such file")
    elif _is_archive(path):
        with zipfile.ZipFile(path) as archive:
            members = sorted(member for member in archive.namelist() if is_ours(Path(member).name))
            if any(archive.getinfo(member).flag_bits & 1 for member in members):
                raise NotReadable(f"{path}: the zip file needs a password; unpack it first")
        for member in members:
            inner = zipfile.Path(path, member)
            if inner.is_file():
                yield ImportInput(str(inner), path.with_name(f"{path.name}.{Path(member).name}"), inner)
    else:
        yield ImportInput(str(path), path, path)


def is_ours(name: str) -> bool:
    """Return whether a file of a folder is to be imported: not hidden, being written, or rejected rows."""
    return not name.startswith((".", "__MACOSX", "~$")) and ".bad." not in name and not name.endswith(_NOT_OURS)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _WORKBOOK not in archive.namelist()
    except zipfile.BadZipFile as error:
        raise NotReadable(f"{path}: the zip file is damaged: {error}; fetch it once more") from None


class OpenedInput(NamedTuple):
    """An input as a file; for a workbook, the chosen sheet and the names of the others.

    `alike` are tables of unread sheets that have the same columns, each with its display name.
    `rephrase` turns a message about the temporary file into one about the input.
    """

    file: File
    sheet: str = ""
    left_out: tuple[str, ...] = ()
    alike: tuple[tuple[Path, str], ...] = ()
    rephrase: Callable[[str], str] = str


@contextmanager
def as_file(
    one: ImportInput, contract: Contract | None, encoding: str | None = None, sheet: str | None = None
) -> Iterator[OpenedInput]:
    """Provide the input as a file that can be read repeatedly; temporary files are deleted afterwards.

    A workbook gives `sheet`, or its first sheet. Raises NotReadable, and for a query SinkUnavailable and
    SinkMisconfigured.
    """
    with tempfile.TemporaryDirectory(prefix="tillstream-import-") as folder, _named(one.name, folder) as named:
        made = Path(folder) / "table.csv"
        file = one.file
        if one.query is not None:
            _write(made, _queried(one.query))
            yield OpenedInput(made, rephrase=named)
            return
        if file is None:
            file = Path(folder) / "stdin"
            with file.open("wb") as spool:
                shutil.copyfileobj(sys.stdin.buffer, spool, 2**20)
        if _is_workbook(file):
            with _workbook(one.name, file) as book:
                names = [each.title for each in book.worksheets]
                chosen = names[0] if sheet is None else sheet
                if chosen not in names:
                    raise NotReadable(f"{one.name}: no sheet {chosen!r}; there are: {', '.join(map(repr, names))}")
                _write(made, _rows_of(book[chosen]))
                left_out = tuple(name for name in names if name != chosen)
                named.sheet(chosen, left_out)
                alike = _alike(one.name, book, chosen, left_out, Path(folder)) if _groups(contract) else ()
            yield OpenedInput(made, chosen, left_out, alike, named)
        elif contract is not None and contract.format == "csv" and _holds_json(file, encoding):
            _write(made, _objects(one.name, file, encoding))
            yield OpenedInput(made, rephrase=named)
        else:
            yield OpenedInput(file, rephrase=named)


class _Rephrase:
    """Turns messages about a temporary file into messages about its input and sheet."""

    def __init__(self, name: str, folder: str) -> None:
        self._name = self._shown = name
        self._folder = Path(folder)

    def sheet(self, chosen: str, left_out: Sequence[str]) -> None:
        """Name the sheet in messages from now on."""
        self._shown = f"{self._name}, sheet {chosen!r}"
        if left_out:
            self._shown += f" (--sheet takes another one: {', '.join(map(repr, left_out))})"

    def __call__(self, message: str) -> str:
        """Return the message about the input."""
        for file in ("table.csv", "stdin"):
            message = message.replace(str(self._folder / file), self._shown)
        return message


@contextmanager
def _named(name: str, folder: str) -> Iterator[_Rephrase]:
    named = _Rephrase(name, folder)
    try:
        yield named
    except NotReadable as error:
        raise NotReadable(named(str(error))) from None


def _groups(contract: Contract | None) -> bool:
    return contract is not None and contract.format == "csv" and bool(contract.group_by)


def _alike(
    name: str, book: "Workbook", chosen: str, others: Sequence[str], folder: Path
) -> tuple[tuple[Path, str], ...]:
    """Write the tables of those other sheets that have the columns of the chosen one."""
    columns = _header(book[chosen])
    found = []
    for number, other in enumerate(others):
        if other in book.sheetnames and hasattr(book[other], "iter_rows") and _header(book[other]) == columns:
            path = folder / f"sheet-{number}.csv"
            _write(path, _rows_of(book[other]))
            found.append((path, f"{name}, sheet {other!r}"))
    return tuple(found)


def _header(sheet: Any) -> frozenset[str]:
    first = next((cells for cells in _rows_of(sheet) if cells), ())
    return frozenset(_text(cell).strip() for cell in first)


def _write(path: Path, rows: Iterator[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="", errors="surrogatepass") as file:
        csv.writer(file).writerows([_text(cell) for cell in row] for row in rows)


def _text(value: Any) -> str:
    """Return a cell as CSV text: empty cells as empty text, times in ISO 8601, numbers without an exponent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if abs(value) >= 10**EXACT_DIGITS:
            return _lost(value)
        return f"{Decimal(f'{value:.15g}'):f}"  # as a spreadsheet keeps it
    if isinstance(value, datetime | date):
        return value.isoformat(*([" "] if isinstance(value, datetime) else []))
    return str(value)


def _is_workbook(file: File) -> bool:
    """Decide by name within an archive; on disk, a zip file that is not an archive is a workbook."""
    if not isinstance(file, Path):
        return file.name.endswith((".xlsx", ".xlsm"))
    with file.open("rb") as raw:
        return raw.read(len(ZIP)) == ZIP or file.suffix in (".xlsx", ".xlsm")


@contextmanager
def _workbook(name: str, file: File) -> Iterator["Workbook"]:
    """Open the workbook for reading cell by cell. Raises NotReadable, also while it is read."""
    from openpyxl import load_workbook  # and NumPy, where there is one: no other command should wait for them
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with file.open("rb") as raw:
            yield load_workbook(raw, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise NotReadable(f"{name}: not a workbook that can be read: {error}; save it as .xlsx or CSV") from None


def _kept(cell: Any) -> Any:
    """Return the cell of a sheet, whose numbers of more digits than a spreadsheet keeps are lost."""
    return _lost(cell) if type(cell) is int and abs(cell) >= 10**EXACT_DIGITS else cell


def _lost(number: float) -> str:
    """Return the number with an exponent, so that it is accepted neither as a code nor as an amount.

    Its last digits are lost to binary rounding: 2026031022001400000000000001 and its neighbour would be one receipt.
    """
    return f"{number:.{EXACT_DIGITS - 1}E}"


def _rows_of(sheet: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a sheet, cut or padded to the width of its header; empty rows have no cell."""
    sheet.reset_dimensions()  # some programs write wrong ones
    width = 0
    for cells in sheet.iter_rows(values_only=True):
        if not width:
            width = max((place for place, cell in enumerate(cells, 1) if cell is not None), default=0)
        if any(cell is not None for cell in cells[:width]):
            yield (*map(_kept, cells[:width]), *[None] * (width - len(cells)))
        else:
            yield ()  # so that a line of the table is a row of the sheet


def _holds_json(file: File, encoding: str | None) -> bool:
    with opened(file) as unpacked:
        start = unpacked.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start[:1] in (b"{", b"[") and look(file, None, encoding).format in ("json_lines", "json_array", "json")


def _objects(name: str, file: File, encoding: str | None) -> Iterator[Sequence[Any]]:
    """Yield JSON objects of plain values as rows; the columns are the union of their keys."""
    layout = look(file, None, encoding)
    columns: dict[str, None] = {}
    for number, text in enumerate(texts(file, layout, lambda _: None), 1):
        columns |= dict.fromkeys(_object(name, number, text))
    yield list(columns)
    for number, text in enumerate(texts(file, layout, lambda _: None), 1):
        row = _object(name, number, text)
        yield [row.get(column) for column in columns]


def _object(name: str, number: int, text: str) -> dict[str, Any]:
    row = None
    with suppress(ValueError, RecursionError):
        row = json.loads(text, parse_float=str)
    if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
        raise NotReadable(
            f"{name}: record {number} is not an object of plain values, which the contract's format csv needs"
        )
    return row


def _queried(query: QueryInput) -> Iterator[Sequence[Any]]:
    return streamed(query.url, query.text, password=query.password)
