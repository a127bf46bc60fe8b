"""The survey's results, fit for display: values of fields that probably hold personal data are left out."""

from typing import Any

from ops.files.layout import FileLayout
from ops.inspect.column import ValueColumn
from ops.inspect.roles import is_measure
from ops.inspect.survey import MAX_PATHS, MAX_RECORDS_COMPARED, RecordSurvey

_SHOWN = 3
_MARK_NAMES = {"": "none", ".": "point", ",": "comma", " ": "space", "'": "apostrophe"}


def findings(survey: RecordSurvey, layout: FileLayout | None) -> dict[str, Any]:
    """Return all findings as one JSON object."""
    group_by_candidates = survey.group_by_candidates()
    return {
        "format": layout.format if layout is not None else survey.format,
        **({} if layout is None else _layout(layout)),
        "records": survey.records,
        "unreadable": survey.unreadable,
        "ragged_rows": survey.ragged,
        "exact_duplicates": survey.duplicates,
        "lists": {path: {"records": times, "items": items} for path, (times, items) in survey.lists.items()},
        "key_candidates": survey.key_candidates(),
        "group_by_candidates": {path: len(survey.columns[path].counts) for path in group_by_candidates},
        "personal": [path for path, column in survey.columns.items() if column.personal],
        "remarks": _remarks(survey, group_by_candidates),
        "fields": [_field(survey, column) for column in survey.columns.values()],
    }


def _layout(layout: FileLayout) -> dict[str, Any]:
    details: dict[str, Any] = {"encoding": layout.encoding, "gzip": layout.compressed}
    if layout.format == "csv":
        details |= {"delimiter": layout.delimiter, "header": layout.header}
    if layout.record is not None:
        details["record_element"] = layout.record
    return details


def _field(survey: RecordSurvey, column: ValueColumn) -> dict[str, Any]:
    expected, missing = survey.expected_count(column.path), survey.missing(column)
    details: dict[str, Any] = {
        "path": column.path,
        "type": column.kind,
        "types": {kind: _share(count, column.filled) for kind, count in column.kinds.most_common()},
        "missing": missing,
        "missing_share": _share(missing, expected),
        "distinct": len(column.counts) - sum(not value.strip() for value in column.counts),
        "distinct_is": "more_than" if column.overflowed else "exact",
        "personal": column.personal,
    }
    if column.kind == "decimal":
        details["number"] = _number(column)
    if column.kinds["time"]:
        details["time"] = {
            "formats": column.formats,
            "day_and_month_ambiguous": column.ambiguous_time,
            "time_zone": column.zones,
        }
    if not column.personal:
        details |= _values(column)
    return details


def _values(column: ValueColumn) -> dict[str, Any]:
    """Return the details that are only shown for fields without personal data."""
    is_number = column.kind in ("integer", "decimal")
    low: Any = column.range.low if is_number else column.first_text
    high: Any = column.range.high if is_number else column.last_text
    examples = column.samples.get(column.kind if column.kind in column.samples else "integer", [])
    return {
        "min": None if low is None else _cut(str(low)),
        "max": None if high is None else _cut(str(high)),
        "examples": [_cut(example, 24) for example in examples[:_SHOWN]],
        "odd": odd_values(column),
    }


def odd_values(column: ValueColumn) -> list[str]:
    """Return remarks on unusual values."""
    remarks = []
    for kind, count in column.rare_kinds().items():
        examples = ", ".join(_cut(example) for example in column.samples.get(kind, [])[:_SHOWN])
        remarks.append(f"{count} of type {kind} among type {column.kind}" + (f": {examples}" if examples else ""))
    if column.prefixes and column.rare_kinds().get("text"):
        remarks.append(
            "letters before digits: " + ", ".join(f"{name}… {n}" for name, n in column.prefixes.most_common(5))
        )
    if column.kind in ("integer", "decimal"):
        remarks += _odd_number_remarks(column)
    return remarks


def _odd_number_remarks(column: ValueColumn) -> list[str]:
    remarks, numbers = [], column.range
    if 0 < numbers.negative < column.filled / 2:
        remarks.append(f"{numbers.negative} negative")
    if is_measure(column.path):
        if 0 < numbers.zero < column.filled / 2:
            remarks.append(f"{numbers.zero} zero")
        count, examples = column.outliers()
        if count:
            remarks.append(f"{count} far from the median: {', '.join(map(str, examples))}")
    return remarks


def _remarks(survey: RecordSurvey, group_by_candidates: list[str]) -> list[str]:
    remarks = []
    if survey.unreadable:
        remarks.append(f"{survey.unreadable} records could not be read in this format")
    if survey.ragged:
        remarks.append(
            f"{survey.ragged} rows have more or fewer columns than the first; perhaps an unquoted delimiter in a text"
        )
    if group_by_candidates:
        column = survey.columns[group_by_candidates[0]]
        remarks.append(
            f"rows come in runs of the same {group_by_candidates[0]}: {len(column.counts)} groups, "
            f"{survey.records / len(column.counts):.1f} rows each"
        )
        if column.runs > len(column.counts):
            remarks.append(f"the rows of some groups are scattered: {column.runs - len(column.counts)} extra runs")
    for column in survey.columns.values():
        if column.ambiguous_time:
            remarks.append(f"{column.path}: day and month could be swapped in every value; ask the sender")
        if column.ambiguous_marks:
            remarks.append(f"{column.path}: the decimal mark is ambiguous: 1,234 may be a thousand; ask the sender")
    if survey.paths_left_out:
        remarks.append(f"more than {MAX_PATHS} fields; the rest are left out")
    if not survey.all_compared:
        remarks.append(
            f"only the first {MAX_RECORDS_COMPARED} distinct records were compared; there may be more duplicates"
        )
    return remarks


def _number(column: ValueColumn) -> dict[str, Any]:
    point, thousands = column.marks[0] if column.marks else (None, None)
    return {
        "point": point,
        "thousands": thousands,
        "ambiguous": column.ambiguous_marks,
        "signs": column.signs,
        "brackets": column.brackets,
    }


def describe_number_format(number: dict[str, Any]) -> str:
    """Describe how numbers are written, except for an ordinary decimal point."""
    point, thousands = number["point"], number["thousands"]
    remarks = ["mixed marks"] if point is None else [] if point == "." else [_MARK_NAMES[point]]
    remarks += [f"thousands {thousands if point == '.' else _MARK_NAMES[thousands]}"] if thousands else []
    remarks += [f"with {' '.join(number['signs'])}"] if number["signs"] else []
    remarks += ["brackets are negative"] if number["brackets"] else []
    return ", ".join(remarks)


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0


def _cut(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
