"""Regroup receipts whose rows are not adjacent, on disk: memory does not grow with the file.

SQLite sorts; it is the one external sort in the standard library.
"""

import sqlite3
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from ops.files.layout import NotReadable
from streams.sources.source import MAX_PARTS

Key = str | tuple[str, ...]
#: Hashes that are held in memory, and at once sorted.
_AT_ONCE = 200_000
_CACHE_KIB = 2**15


class RowGroup(NamedTuple):
    """Rows of one receipt, as JSON, and the line of the first."""

    key: Key
    line: int
    rows: Sequence[str]


class RepeatedNumbers:
    """Whether a number comes twice, of however many."""

    def __init__(self) -> None:
        self._some: set[int] = set()
        self._seen_twice = False
        self._opened = scratch()
        self._disk: sqlite3.Connection | None = None

    def add(self, number: int) -> None:
        """One more, of 64 bits."""
        before = len(self._some)
        self._some.add(number)
        self._seen_twice |= len(self._some) == before
        if len(self._some) >= _AT_ONCE:
            self._put_away()

    def found(self) -> bool:
        """Whether there is one that came twice."""
        if self._disk is None or self._seen_twice:
            return self._seen_twice
        self._put_away()
        return self._disk.execute("SELECT 1 FROM seen GROUP BY it HAVING count(*) > 1 LIMIT 1").fetchone() is not None

    def different(self) -> int:
        """How many different ones there were."""
        if self._disk is None:
            return len(self._some)
        self._put_away()
        (count,) = self._disk.execute("SELECT count(*) FROM (SELECT 1 FROM seen GROUP BY it)").fetchone()
        return int(count)

    def close(self) -> None:
        """Leaves nothing behind."""
        if self._disk is not None:
            self._opened.__exit__(None, None, None)

    def _put_away(self) -> None:
        if self._disk is None:
            self._disk = self._opened.__enter__()
            self._disk.execute("CREATE TABLE seen (it INTEGER)")
        self._disk.executemany("INSERT INTO seen VALUES (?)", ((number,) for number in array("q", self._some)))
        self._some.clear()


def regrouped(runs: Iterable[RowGroup]) -> Iterator[RowGroup]:
    """One run for each key: its rows in their order, the keys in the order in which they come first."""
    with scratch() as disk:
        disk.execute("CREATE TABLE runs (n INTEGER PRIMARY KEY, key BLOB, line INTEGER, rows BLOB)")
        disk.executemany("INSERT INTO runs (key, line, rows) VALUES (?, ?, ?)", map(as_row, runs))
        # The sort has keys and numbers only; the rows, which are most of it, are looked up in nearly their old order.
        disk.execute("CREATE TABLE places (first INTEGER, n INTEGER, PRIMARY KEY (first, n)) WITHOUT ROWID")
        disk.execute("INSERT INTO places SELECT min(n) OVER (PARTITION BY key), n FROM runs ORDER BY 1, 2")
        ordered = disk.execute(
            "SELECT first, key, line, rows FROM places CROSS JOIN runs ON runs.n = places.n "
            "ORDER BY places.first, places.n"
        )
        for _, group in groupby(ordered, itemgetter(0)):
            parts = list(islice(group, MAX_PARTS + 1))
            _, key, line, _ = parts[0]
            if len(parts) > MAX_PARTS:
                raise NotReadable(
                    f"a receipt of more than {MAX_PARTS:,} rows (line {line}); does group_by name receipts?"
                )
            yield RowGroup(as_key(key), line, [rows.decode() for _, _, _, rows in parts])


def as_row(run: RowGroup) -> tuple[bytes, int, bytes]:
    """Return key, line and rows of a run as they are kept on disk; different keys stay different."""
    key = run.key if isinstance(run.key, tuple) else (run.key,)
    return "".join(f"{len(cell)}:{cell}" for cell in key).encode(), run.line, ",".join(run.rows).encode()


def as_key(stored: bytes) -> Key:
    """Return the key that `as_row` has made this of."""
    text, cells = stored.decode(), []
    while text:
        length, _, text = text.partition(":")
        cells.append(text[: int(length)])
        text = text[int(length) :]
    return cells[0] if len(cells) == 1 else tuple(cells)


@contextmanager
def scratch() -> Iterator[sqlite3.Connection]:
    """Provide a database for now: nothing in it has to survive."""
    with (
        tempfile.TemporaryDirectory(prefix="tillstream-import-") as folder,
        closing(sqlite3.connect(Path(folder) / "scratch.sqlite", isolation_level=None)) as disk,
    ):
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            disk.execute(f"PRAGMA {pragma}")
        disk.execute("BEGIN")
        yield disk
