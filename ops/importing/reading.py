"""A file's receipts, in two readings: one that looks through all of it, and one that gives them.

The first tells the encoding, the digest, how many rows and receipts there are, which lines are bad, and whether the
rows of every receipt stand together. If they do, the second reading gives each receipt as its last row has passed; if
not, they are brought together on disk (`ops.importing.scattered`). Neither holds more than a receipt.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import NamedTuple

from ops.importing.scattered import Repeats, Run, brought_together
from ops.inspect.layout import File, Layout, NotReadable, as_text, look, opened
from ops.inspect.records import Progress, position, texts
from schemas.contract import Contract
from streams.sources.rows import BadRow, Columns, Rows, RowsUnreadable, read_rows, record
from streams.sources.source import MOST_PARTS

_EVERY = 2_000
_PIECE = 2**20
#: Lines that are read together.
_AT_ONCE = 500
#: Of bad lines; when there are more, it is not they that are wrong.
MOST_BAD = 10_000
_KEEPING = "surrogateescape"
Key = str | tuple[str, ...]


class Receipt(NamedTuple):
    """A record for the topic, and the line (of JSON arrays and XML: the number) where it begins."""

    key: bytes | None
    value: bytes
    line: int


class BadLine(NamedTuple):
    """A line that is no row or record, and why."""

    line: int
    fault: str


@dataclass
class Look:
    """What a file holds. `together`: no receipt's rows stand apart. `held`: receipts that a bad line may belong to."""

    layout: Layout
    digest: str
    rows: int = 0
    receipts: int = 0
    together: bool = True
    bad: list[BadLine] = field(default_factory=list)
    held: set[Key] = field(default_factory=set)

    def is_bad(self, line: int, fault: str) -> None:
        """Notes it. Raises NotReadable when there are too many."""
        self.bad.append(BadLine(line, fault))
        if len(self.bad) > MOST_BAD:
            first = self.bad[0]
            raise NotReadable(f"more than {MOST_BAD:,} bad lines, the first: line {first.line}: {first.fault}")


class Aside:
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
    file: File, contract: Contract | None, told: Progress, encoding: str | None = None, delimiter: str | None = None
) -> Look:
    """Reads all of the file and says what it holds. Raises NotReadable."""
    is_table = contract is not None and contract.format == "csv"
    layout = look(file, "csv" if is_table else None, encoding, delimiter)
    if layout.format == "csv" and not is_table:
        raise NotReadable(f"{file} is CSV, and the contract is not: it needs `format: csv`")
    found = Look(layout, _digest(file))
    try:
        if contract is not None and is_table:
            _look_at_rows(file, found, Columns(layout.columns, contract.group_by), told)
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


def _look_at_rows(file: File, found: Look, columns: Columns, told: Progress) -> None:
    key_of = columns.key
    last: Key | None = None
    after_bad = False
    with closing(Repeats()) as repeats:
        for some in _rows(file, found.layout, told):
            if isinstance(some, BadRow):
                found.rows += 1
                found.is_bad(some.line, some.fault)
                if key_of is not None:
                    found.held.update(_may_be_of(some, last, columns, found.layout.delimiter))
                    after_bad = True
                continue
            found.rows += len(some.rows)
            if key_of is None:
                found.receipts += len(some.rows)
                continue
            for key, _ in groupby(map(key_of, some.rows)):
                if after_bad:
                    found.held.add(key)
                    after_bad = False
                if key != last:
                    last = key
                    found.receipts += 1
                    repeats.add(hash(key))
        found.together = not repeats.found()
        if not found.together:
            found.receipts = repeats.different()


def _may_be_of(row: BadRow, last: Key | None, columns: Columns, delimiter: str) -> Iterator[Key]:
    """The receipts that a bad line may be a part of: that of the row before, and the one that its own cells name."""
    if last is not None:
        yield last
    with suppress(csv.Error, StopIteration, IndexError):
        if columns.key is not None:
            yield columns.key(next(csv.reader([row.text], delimiter=delimiter)))


def receipts(file: File, found: Look, contract: Contract | None, told: Progress, aside: Aside) -> Iterator[Receipt]:
    """The receipts that are whole, in the order in which they begin; the same for the same file, whenever it is read.

    A receipt that a bad line may belong to is not sent without it: its rows go aside with the line. Raises NotReadable.
    """
    layout = found.layout
    if contract is None or contract.format != "csv":
        for one in _json_or_xml(file, layout, told):
            if isinstance(one, BadRow):
                aside.take(one.text)
            else:
                yield one
        return
    columns = Columns(layout.columns, contract.group_by)
    runs = _runs(file, found, columns, told, aside)
    for run in runs if found.together else brought_together(runs):
        yield Receipt(*record(run.key, run.rows), run.line)


def _runs(file: File, found: Look, columns: Columns, told: Progress, aside: Aside) -> Iterator[Run]:
    """Rows of one receipt that stand together."""
    key_of, as_json, held = columns.key, columns.as_json, found.held
    key: Key | None = None
    begins = 0
    made: list[str] = []
    for some in _rows(file, found.layout, told):
        if isinstance(some, BadRow):
            aside.take(some.text)
            continue
        keys = map(key_of, some.rows) if key_of is not None else map(str, count(some.line))
        for line, (here, cells) in enumerate(zip(keys, some.rows, strict=False), some.line):
            if held and here in held:
                aside.take(_line_of(cells, found.layout.delimiter))
                continue
            if here != key:
                if key is not None:
                    yield Run(key, begins, made)
                key, begins, made = here, line, []
            made.append(as_json(cells))
            if len(made) > MOST_PARTS:
                raise NotReadable(
                    f"{file}: line {line}: a receipt of more than {MOST_PARTS:,} rows; does group_by name receipts?"
                )
    if key is not None:
        yield Run(key, begins, made)


def header_of(layout: Layout) -> str:
    """The line above a table that has these columns."""
    return _line_of(layout.columns, layout.delimiter) if layout.format == "csv" else ""


def _line_of(cells: Sequence[str], delimiter: str) -> str:
    written: list[str] = []

    class _Lines:
        def write(self, text: str) -> None:
            written.append(text)

    csv.writer(_Lines(), delimiter=delimiter, lineterminator="\n").writerow(cells)
    return "".join(written)


def _rows(file: File, layout: Layout, told: Progress) -> Iterator[Rows | BadRow]:
    """The rows of a table, without its header."""
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as text:
        found = read_rows(iter(text), layout.delimiter, layout.encoding, len(layout.columns), _AT_ONCE)
        waits_for_header = layout.header
        for some in found:
            told(position(raw))
            if waits_for_header and isinstance(some, Rows):
                waits_for_header = False
                some = Rows(some.line + 1, some.rows[1:])
            yield some


def _json_or_xml(file: File, layout: Layout, told: Progress) -> Iterator[Receipt | BadRow]:
    if layout.format != "json_lines":
        for number, text in enumerate(texts(file, layout, told, _KEEPING), 1):
            yield Receipt(None, text.encode(errors=_KEEPING), number)
        return
    with opened(file) as raw, as_text(raw, layout, _KEEPING) as lines:
        for number, line in enumerate(lines, 1):
            if number % _EVERY == 0:
                told(position(raw))
            if not line.strip():
                continue
            try:
                json.loads(line)
                yield Receipt(None, line.strip().encode(), number)
            except RecursionError:
                yield BadRow(number, line, "nested too deeply")
            except ValueError as error:  # no JSON, or half of a character
                yield BadRow(number, line, f"not JSON: {getattr(error, 'msg', 'not UTF-8')}")
