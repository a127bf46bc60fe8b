"""A contract in the making: where the source has its fields, and how paths and texts are written."""

import json
import re
from pathlib import Path

from ops.files.layout import FileLayout
from ops.inspect.column import ValueColumn
from ops.inspect.roles import LINE_WORDS, RECEIPT_WORDS, WORDS, guess, lines_list
from ops.inspect.survey import RecordSurvey

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class ContractDraft:
    """The contract in the making: where fields were found, and how their paths are written."""

    def __init__(self, survey: RecordSurvey, layout: FileLayout | None, path: Path) -> None:
        self.survey = survey
        self.layout = layout
        self.file = path
        self.format = survey.format
        self.list = "rows" if self.format == "csv" else lines_list(survey)
        self.groups = survey.groups()
        columns = list(survey.columns.values())
        inside = [column for column in columns if self._in_list(column)]
        outside = [column for column in columns if "[]" not in column.path] if self.format != "csv" else []
        taken: set[str] = set()
        self.receipt = self._receipt(outside, inside)
        if self.receipt is not None:
            taken.add(self.receipt.path)
        top = dict(WORDS)
        gross_words = top.pop("totals.gross")
        self.fields = guess(outside, top, taken)
        line_columns = inside or outside
        self.line = guess(line_columns, LINE_WORDS, taken)
        rest = {role: words for role, words in top.items() if role not in self.fields}
        self.fields |= guess(inside, rest, taken)
        if self.format != "csv" and self.list is not None:
            self.fields |= guess(outside, {"totals.gross": gross_words}, taken)

    def _in_list(self, column: ValueColumn) -> bool:
        if self.format == "csv":
            return True
        return self.list is not None and column.path.startswith(f"{self.list}[]") and column.path.count("[]") == 1

    def _receipt(self, outside: list[ValueColumn], inside: list[ValueColumn]) -> ValueColumn | None:
        if self.groups:
            return self.survey.columns[self.groups[0]]
        keys = [column for column in outside if column.unique is not False]
        for columns in (keys, outside, inside):
            found = guess(columns, {"receipt": RECEIPT_WORDS}, set())
            if found:
                return found["receipt"]
        return None

    def top(self, column: ValueColumn) -> str:
        """The path of a field of the receipt; a field of the rows is taken from the first."""
        if self.format == "csv":
            return f"rows[0].{_quoted(column.path)}"
        return self._written(column.path.replace("[]", "[1]" if self.format == "xml" else "[0]"))

    def inner(self, column: ValueColumn) -> str:
        """The path of a field of a line."""
        if self.format == "csv":
            return _quoted(column.path)
        prefix = f"{self.list}[]."
        return self._written(column.path.removeprefix(prefix) if self.list is not None else column.path)

    def everywhere(self, column: ValueColumn) -> str:
        """The path of all values of a field."""
        if self.format == "csv":
            return f"rows[].{_quoted(column.path)}"
        return self._written(column.path.replace("[]", "") if self.format == "xml" else column.path)

    def _written(self, path: str) -> str:
        return path.replace(".", "/") if self.format == "xml" else path

    @property
    def each(self) -> str:
        """What finds the lines."""
        if self.list is None:
            return "." if self.format == "xml" else "@"
        return self._written(self.list)


def _quoted(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())


def yaml_text(text: str) -> str:
    """A text in YAML's double quotes; YAML wants escapes for more than JSON does, and no half of a character."""
    escaped = json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped)
