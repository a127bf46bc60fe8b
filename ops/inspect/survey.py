"""Survey all records in one pass: columns by path, lists, exact duplicates, key candidates."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lxml import etree

from ops.files.layout import FileLayout
from ops.files.records import Progress, parse, rows, texts, tree
from ops.inspect.column import ValueColumn

_CHUNK = 5_000
MAX_RECORDS_COMPARED = 1_000_000
MAX_PATHS = 300
_MAX_DEPTH = 50
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass
class RecordSurvey:
    """Statistics about the records. `unreadable` ones could not be parsed; `ragged` rows differ in width."""

    format: str
    columns: dict[str, ValueColumn] = field(default_factory=dict)
    lists: dict[str, tuple[int, int]] = field(default_factory=dict)
    records: int = 0
    duplicates: int = 0
    unreadable: int = 0
    ragged: int = 0
    paths_left_out: bool = False
    all_compared: bool = True
    _digests: set[int] = field(default_factory=set)

    def column(self, path: str) -> ValueColumn | None:
        """Return the column at a path, creating it if needed; None if there are too many columns."""
        column = self.columns.get(path)
        if column is None:
            if len(self.columns) >= MAX_PATHS:
                self.paths_left_out = True
                return None
            column = self.columns[path] = ValueColumn(path)
        return column

    def compare(self, digest: int) -> None:
        """Count the record with this digest if it is an exact duplicate."""
        if digest in self._digests:
            self.duplicates += 1
        elif len(self._digests) < MAX_RECORDS_COMPARED:
            self._digests.add(digest)
        else:
            self.all_compared = False

    def finish(self) -> "RecordSurvey":
        """Classify all values and release memory; call this once after the last record."""
        for column in self.columns.values():
            column.finish()
        self._digests = set()
        return self

    def missing(self, column: ValueColumn) -> int:
        """Return how often the field is absent or blank where it could occur."""
        return self.expected_count(column.path) - column.filled

    def expected_count(self, path: str) -> int:
        """Return how often the field could occur: once per record, or once per item of its innermost list."""
        inner = [name for name in self.lists if path.startswith(f"{name}[]")]
        return self.lists[max(inner, key=len)][1] if inner else self.records

    def key_candidates(self) -> list[str]:
        """Return the fields that are filled in every record, with no value seen twice."""
        return [
            column.path
            for column in self.columns.values()
            if "[]" not in column.path and column.unique is not False and self.records > 1 and not self.missing(column)
        ]

    def group_by_candidates(self) -> list[str]:
        """Return CSV columns whose equal values are adjacent, as the rows of a receipt are; most values first."""
        if self.format != "csv":
            return []
        columns = [
            column
            for column in self.columns.values()
            if not column.blank and not column.overflowed and 1 < column.runs < self.records
            and column.runs <= 1.01 * len(column.counts) and column.kind not in ("decimal", "time")
        ]  # fmt: skip
        return [column.path for column in sorted(columns, key=lambda column: -len(column.counts))]


def survey_file(path: Path, layout: FileLayout, sample: int | None, progress: Progress) -> RecordSurvey:
    """Survey a file's records, or the first `sample` of them. Raises NotReadable."""
    if layout.format == "csv":
        return survey_rows(layout.columns, islice(rows(path, layout, progress), sample))
    data_format = "xml" if layout.format == "xml" else "json"
    return survey_texts(data_format, islice(texts(path, layout, progress), sample))


def survey_rows(names: tuple[str, ...], records: Iterable[list[str]]) -> RecordSurvey:
    """Survey CSV rows, column by column in chunks of several thousand rows."""
    survey = RecordSurvey("csv")
    columns = [survey.columns.setdefault(name, ValueColumn(name)) for name in names]
    iterator = iter(records)
    while chunk := list(islice(iterator, _CHUNK)):
        survey.records += len(chunk)
        for number, row in enumerate(chunk):
            survey.compare(hash(tuple(row)))
            if len(row) != len(names):
                survey.ragged += 1
                chunk[number] = [*row[: len(names)], *[""] * (len(names) - len(row))]
        for column, values in zip(columns, zip(*chunk, strict=True), strict=True):
            column.add_texts(values)
    return survey.finish()


def survey_texts(data_format: str, values: Iterable[str]) -> RecordSurvey:
    """Survey JSON or XML texts."""
    survey = RecordSurvey(data_format)
    for text in values:
        try:
            record = tree(etree.fromstring(text.encode(), _parser())) if data_format == "xml" else parse(text)
        except (ValueError, etree.XMLSyntaxError):
            survey.unreadable += 1
            continue
        survey.records += 1
        survey.compare(hash(text.strip()))
        for path, value in leaves(record, survey):
            column = survey.column(path)
            if column is not None:
                column.add(value)
    return survey.finish()


def _parser() -> Any:
    return etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)


def leaves(node: Any, survey: RecordSurvey, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the values of a tree with their paths, and count its lists in `survey`."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, dict):
        for name, inner in node.items():
            step = name if survey.format == "xml" or _IDENTIFIER.fullmatch(name) else json.dumps(name)
            yield from leaves(inner, survey, f"{path}.{step}" if path else step, depth + 1)
    elif isinstance(node, list):
        count, items = survey.lists.get(path, (0, 0))
        survey.lists[path] = count + 1, items + len(node)
        for inner in node:
            yield from leaves(inner, survey, f"{path}[]", depth + 1)
    else:
        yield path or "@", node
