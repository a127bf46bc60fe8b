"""Receipts whose rows are spread over several files of one import: found, classified, and joined on disk.

A receipt is sent whole or not at all, so before anything is sent it is known which receipts have rows in more than one
file. They are parts of one receipt, the same receipt twice (exports that overlap), or different ones that the contract
tells apart. Unclear ones are not sent. Memory does not grow with the files; the disk holds a number
for each receipt of each file, and the rows of those receipts that are in several.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from ops.files.regroup import Key, RowGroup, as_key, as_row, scratch
from ops.maps.outcome import FileRecord
from streams.sources.rows import receipt_record
from streams.sources.source import MAX_PARTS, RefusedRecord, SkippedPart, Source

_AT_ONCE = 50_000
#: What makes two events different receipts, or versions of one.
_IDENTITY = ("type", "store", "register", "receipt", "event_id", "revision")


class ReceiptPart(NamedTuple):
    """The rows of a receipt in one file."""

    file: int
    line: int
    rows: bytes


class DoubtfulReceipt(NamedTuple):
    """A receipt that is not sent, with the locations of its parts and the reason."""

    key: Key
    parts: Sequence[ReceiptPart]
    why: str


class SplitReceipts:
    """The receipts of one import that have rows in several files, which go by their numbers. Close it when done."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stack = ExitStack()
        self._waiting: list[tuple[int, int]] = []
        self._disk: sqlite3.Connection | None = None
        self._any = False
        #: Whether the files are parts of a whole: a receipt has rows in several, and they are not the same rows.
        self.reaches_over = False

    def close(self) -> None:
        """Remove what lies on disk."""
        self._stack.close()

    def listener(self, file: int) -> Callable[[Key], None]:
        """Return a callback for each receipt of a file, to be called before `find`."""

        def heard(key: Key) -> None:
            self._waiting.append((hash(key), file))
            if len(self._waiting) >= _AT_ONCE:
                self._put_away()

        return heard

    def find(self) -> list[int]:
        """Return the files that have receipts which another has too; their runs are to be given to `gather`."""
        self._put_away()
        disk = self._on_disk()
        disk.execute("CREATE TABLE spread (it INTEGER PRIMARY KEY)")
        disk.execute("INSERT INTO spread SELECT it FROM seen GROUP BY it HAVING min(file) < max(file)")
        found = disk.execute("SELECT DISTINCT file FROM seen JOIN spread USING (it) ORDER BY file")
        files = [file for (file,) in found]
        self._any = bool(files)
        disk.execute("CREATE TABLE parts (n INTEGER PRIMARY KEY, key BLOB, file INTEGER, line INTEGER, rows BLOB)")
        disk.execute("CREATE TABLE given (key BLOB, file INTEGER, line INTEGER, rows BLOB, PRIMARY KEY (key, file))")
        return files

    def gather(self, file: int, runs: Iterable[RowGroup]) -> None:
        """Keep those runs of a file whose receipts have rows in another file."""
        self._on_disk().executemany(
            "INSERT INTO parts (key, file, line, rows) VALUES (?, ?, ?, ?)",
            ((key, file, line, rows) for key, line, rows in (as_row(run) for run in runs if self._has(run.key))),
        )

    def judge(self, unsent: frozenset[int]) -> Iterator[DoubtfulReceipt]:
        """Decide on each receipt which file gives it, with which rows; give those that are in doubt.

        `unsent` are files that are only looked at: a receipt that has other rows there is not whole.
        """
        disk = self._on_disk()
        rows = disk.execute("SELECT key, file, line, rows FROM parts ORDER BY key, file, n")
        for key, group in groupby(rows, itemgetter(0)):
            parts = [_joined(file, list(runs)) for file, runs in groupby(group, itemgetter(1))]
            why, given = self._judged(as_key(key), parts, unsent)
            self.reaches_over |= why is not None or any(part not in parts for part in given)
            if why is not None:
                yield DoubtfulReceipt(as_key(key), parts, why)
            else:
                disk.executemany("INSERT INTO given VALUES (?, ?, ?, ?)", ((key, *part) for part in given))

    def given_by(self, file: int) -> Callable[[RowGroup], RowGroup | None]:
        """Return what makes of a receipt of this file the whole one; None where another file gives it."""

        def whole(run: RowGroup) -> RowGroup | None:
            if not self._any or not self._has(run.key):
                return run
            key, _, _ = as_row(run)
            found = (
                self._on_disk()
                .execute("SELECT line, rows FROM given WHERE key = ? AND file = ?", (key, file))
                .fetchone()
            )
            return None if found is None else RowGroup(run.key, found[0], [found[1].decode()])

        return whole

    def _judged(
        self, key: Key, parts: list[ReceiptPart], unsent: frozenset[int]
    ) -> tuple[str | None, list[ReceiptPart]]:
        """(why it is in doubt, or None; the receipts, each with the file that gives it)"""
        if len({part.file for part in parts}) == 1:  # two receipts that have the same number by chance
            return None, parts
        sent = [part for part in parts if part.file not in unsent]
        if all(_rows(part) == _rows(parts[0]) for part in parts):
            return None, sent[:1]
        if len(sent) < len(parts):
            return "rows of the same receipt are there that would not be sent", []
        events = [self._event(key, part) for part in parts]
        names = [name for name in _IDENTITY if len({str(event[name]) for event in events if name in event}) > 1]
        if any(name not in event for name in names for event in events):
            return "only some of its rows say which receipt they are of", []
        classes: dict[tuple[str, ...], list[int]] = {}
        for number, event in enumerate(events):
            classes.setdefault(tuple(str(event.get(name)) for name in names), []).append(number)
        given = []
        for members in classes.values():
            why, whole = _one([parts[number] for number in members], [events[number] for number in members])
            if whole is None:
                return why, []
            given.append(whole)
        return None, given

    def _event(self, key: Key, part: ReceiptPart) -> dict[str, Any]:
        """Convert the part alone by the contract; return its identity, time and lines."""
        name, value = receipt_record(key, [part.rows.decode()])
        sample = FileRecord(value, name)
        try:
            for made in self._source.events(sample):
                if not isinstance(made, RefusedRecord | SkippedPart):
                    return {name: value for name, value in made.items() if value is not None}
            known = self._source.identities(sample, _IDENTITY)
        except RefusedRecord:
            return {}
        return dict(next((each for each in known if each is not None), {}))

    def _has(self, key: Key) -> bool:
        return self._on_disk().execute("SELECT 1 FROM spread WHERE it = ?", (hash(key),)).fetchone() is not None

    def _put_away(self) -> None:
        self._on_disk().executemany("INSERT INTO seen VALUES (?, ?)", self._waiting)
        self._waiting.clear()

    def _on_disk(self) -> sqlite3.Connection:
        if self._disk is None:
            self._disk = self._stack.enter_context(scratch())
            self._disk.execute("CREATE TABLE seen (it INTEGER, file INTEGER)")
        return self._disk


def _joined(file: int, runs: list[tuple[bytes, int, int, bytes]]) -> ReceiptPart:
    return ReceiptPart(file, runs[0][2], b",".join(rows for _, _, _, rows in runs))


def _rows(part: ReceiptPart) -> list[tuple[tuple[str, str], ...]]:
    """Return the rows in an order of their own; columns without a value don't count, nor does white space."""
    rows = json.loads(b"[" + part.rows + b"]")
    return sorted(tuple(sorted((name, cell.strip()) for name, cell in row.items() if cell.strip())) for row in rows)


def _one(parts: list[ReceiptPart], events: list[dict[str, Any]]) -> tuple[str, ReceiptPart | None]:
    """(why these are not certainly one receipt, the receipt)"""
    listed = [_rows(part) for part in parts]
    if all(rows == listed[0] for rows in listed):
        return "", parts[0]
    if len({event["occurred_at"] for event in events if "occurred_at" in event}) > 1:
        return "its time is another there", None
    seen: set[Any] = set()
    skus: set[str] = set()
    for rows, event in zip(listed, events, strict=True):
        if not seen.isdisjoint(rows):
            return "some of its rows are the same there, others not", None
        seen.update(rows)
        here = {str(line.get("sku")) for line in event.get("lines", ())}
        if not skus.isdisjoint(here):
            return "the same article is in both, so it may be another version of the receipt", None
        skus |= here
    if sum(map(len, listed)) > MAX_PARTS:
        return f"together it has more than {MAX_PARTS:,} rows", None
    return "", ReceiptPart(parts[0].file, parts[0].line, b",".join(part.rows for part in parts))
