"""State of a draft contract: which source fields fill which event fields, and how paths and texts are written."""

import json
import re
from pathlib import Path

from ops.files.layout import FileLayout
from ops.inspect.column import ValueColumn
from ops.inspect.roles import LINE_WORDS, RECEIPT_WORDS, WORDS, guess, lines_list
from ops.inspect.survey import RecordSurvey

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class ContractDraft:
    """A draft contract: which source fields were found for which roles, and how their paths are written."""

    def __init__(self, survey: RecordSurvey, layout: FileLayout | None, path: Path) -> None:
        self.survey = survey
        self.layout = layout
        self.path = path
        self.format = survey.format
        self.list = "rows" if self.format == "csv" else lines_list(survey)
        self.group_by_candidates = survey.group_by_candidates()
        columns = list(survey.columns.values())
        line_columns = [column for column in columns if self._in_list(column)]
        receipt_columns = [column for column in columns if "[]" not in column.path] if self.format != "csv" else []
        taken: set[str] = set()
        self.receipt = self._receipt(receipt_columns, line_columns)
        if self.receipt is not None:
            taken.add(self.receipt.path)
        receipt_words = dict(WORDS)
        gross_words = receipt_words.pop("totals.gross")
        self.fields = guess(receipt_columns, receipt_words, taken)
        self.line_fields = guess(line_columns or receipt_columns, LINE_WORDS, taken)
        remaining = {role: words for role, words in receipt_words.items() if role not in self.fields}
        self.fields |= guess(line_columns, remaining, taken)
        if self.format != "csv" and self.list is not None:
            self.fields |= guess(receipt_columns, {"totals.gross": gross_words}, taken)

    def _in_list(self, column: ValueColumn) -> bool:
        if self.format == "csv":
            return True
        return self.list is not None and column.path.startswith(f"{self.list}[]") and column.path.count("[]") == 1

    def _receipt(self, receipt_columns: list[ValueColumn], line_columns: list[ValueColumn]) -> ValueColumn | None:
        if self.group_by_candidates:
            return self.survey.columns[self.group_by_candidates[0]]
        unique_columns = [column for column in receipt_columns if column.unique is not False]
        for columns in (unique_columns, receipt_columns, line_columns):
            matches = guess(columns, {"receipt": RECEIPT_WORDS}, set())
            if matches:
                return matches["receipt"]
        return None

    def receipt_path(self, column: ValueColumn) -> str:
        """Return the path of a receipt's field; a field of the rows is taken from the first row."""
        if self.format == "csv":
            return f"rows[0].{_quote_name(column.path)}"
        return self._to_path(column.path.replace("[]", "[1]" if self.format == "xml" else "[0]"))

    def line_path(self, column: ValueColumn) -> str:
        """Return the path of a field, relative to a line."""
        if self.format == "csv":
            return _quote_name(column.path)
        prefix = f"{self.list}[]."
        return self._to_path(column.path.removeprefix(prefix) if self.list is not None else column.path)

    def all_values_path(self, column: ValueColumn) -> str:
        """Return the path of all values of a field."""
        if self.format == "csv":
            return f"rows[].{_quote_name(column.path)}"
        return self._to_path(column.path.replace("[]", "") if self.format == "xml" else column.path)

    def _to_path(self, path: str) -> str:
        return path.replace(".", "/") if self.format == "xml" else path

    @property
    def lines_path(self) -> str:
        """The path that finds the lines."""
        if self.list is None:
            return "." if self.format == "xml" else "@"
        return self._to_path(self.list)


def _quote_name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())


def yaml_text(text: str) -> str:
    """Return a text in YAML's double quotes. YAML requires more escapes than JSON, and allows no lone surrogates."""
    escaped = json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False)
    return "".join(character if character.isprintable() else f"\\U{ord(character):08x}" for character in escaped)
