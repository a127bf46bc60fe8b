"""The survey in words and numbers, fit to be shown: nothing of likely personal fields but what they are."""

from typing import Any

from ops.files.layout import FileLayout
from ops.inspect.column import ValueColumn
from ops.inspect.roles import is_measure
from ops.inspect.survey import MAX_PATHS, MAX_RECORDS_COMPARED, RecordSurvey

_SHOWN = 3
_MARK_NAMES = {"": "none", ".": "point", ",": "comma", " ": "space", "'": "apostrophe"}


def findings(survey: RecordSurvey, layout: FileLayout | None) -> dict[str, Any]:
    """All that was found, as one JSON object."""
    groups = survey.groups()
    return {
        "format": layout.format if layout is not None else survey.format,
        **({} if layout is None else _layout(layout)),
        "records": survey.records,
        "unreadable": survey.unreadable,
        "ragged_rows": survey.ragged,
        "exact_duplicates": survey.duplicates,
        "lists": {path: {"records": times, "items": items} for path, (times, items) in survey.lists.items()},
        "key_candidates": survey.keys(),
        "group_by_candidates": {path: len(survey.columns[path].counts) for path in groups},
        "personal": [path for path, column in survey.columns.items() if column.personal],
        "remarks": _remarks(survey, groups),
        "fields": [_field(survey, column) for column in survey.columns.values()],
    }


def _layout(layout: FileLayout) -> dict[str, Any]:
    about: dict[str, Any] = {"encoding": layout.encoding, "gzip": layout.compressed}
    if layout.format == "csv":
        about |= {"delimiter": layout.delimiter, "header": layout.header}
    if layout.record is not None:
        about["record_element"] = layout.record
    return about


def _field(survey: RecordSurvey, column: ValueColumn) -> dict[str, Any]:
    places, missing = survey.places(column.path), survey.missing(column)
    about: dict[str, Any] = {
        "path": column.path,
        "type": column.kind,
        "types": {kind: _share(count, column.filled) for kind, count in column.kinds.most_common()},
        "missing": missing,
        "missing_share": _share(missing, places),
        "distinct": len(column.counts) - sum(not value.strip() for value in column.counts),
        "distinct_is": "more_than" if column.more else "exact",
        "personal": column.personal,
    }
    if column.kind == "decimal":
        about["number"] = _number(column)
    if column.kinds["time"]:
        about["time"] = {
            "formats": column.formats,
            "day_and_month_ambiguous": column.ambiguous_time,
            "time_zone": column.zones,
        }
    if not column.personal:
        about |= _values(column)
    return about


def _values(column: ValueColumn) -> dict[str, Any]:
    """What is shown only where it names nobody."""
    numbers = column.kind in ("integer", "decimal")
    low: Any = column.range.low if numbers else column.first_text
    high: Any = column.range.high if numbers else column.last_text
    examples = column.samples.get(column.kind if column.kind in column.samples else "integer", [])
    return {
        "min": None if low is None else _cut(str(low)),
        "max": None if high is None else _cut(str(high)),
        "examples": [_cut(example, 24) for example in examples[:_SHOWN]],
        "odd": odd(column),
    }


def odd(column: ValueColumn) -> list[str]:
    """What is unusual about the values."""
    said = []
    for kind, count in column.rare_kinds().items():
        examples = ", ".join(_cut(example) for example in column.samples.get(kind, [])[:_SHOWN])
        said.append(f"{count} of type {kind} among type {column.kind}" + (f": {examples}" if examples else ""))
    if column.prefixes and column.rare_kinds().get("text"):
        said.append("letters before digits: " + ", ".join(f"{name}… {n}" for name, n in column.prefixes.most_common(5)))
    if column.kind in ("integer", "decimal"):
        said += _odd_numbers(column)
    return said


def _odd_numbers(column: ValueColumn) -> list[str]:
    said, numbers = [], column.range
    if 0 < numbers.negative < column.filled / 2:
        said.append(f"{numbers.negative} negative")
    if is_measure(column.path):
        if 0 < numbers.zero < column.filled / 2:
            said.append(f"{numbers.zero} zero")
        count, farthest = column.far_off()
        if count:
            said.append(f"{count} far from the median: {', '.join(map(str, farthest))}")
    return said


def _remarks(survey: RecordSurvey, groups: list[str]) -> list[str]:
    said = []
    if survey.unreadable:
        said.append(f"{survey.unreadable} records could not be read in this format")
    if survey.ragged:
        said.append(
            f"{survey.ragged} rows have more or fewer columns than the first; is a text with the delimiter unquoted?"
        )
    if groups:
        column = survey.columns[groups[0]]
        said.append(
            f"rows come in runs of the same {groups[0]}: {len(column.counts)} groups, "
            f"{survey.records / len(column.counts):.1f} rows each"
        )
        if column.runs > len(column.counts):
            said.append(f"{column.runs - len(column.counts)} of these groups stand in more than one place")
    for column in survey.columns.values():
        if column.ambiguous_time:
            said.append(f"{column.path}: day and month could be either way round in every value; ask the sender")
        if column.ambiguous_marks:
            said.append(f"{column.path}: the decimal mark can't be told: 1,234 may be a thousand; ask the sender")
    if survey.paths_left_out:
        said.append(f"more than {MAX_PATHS} fields; the rest are left out")
    if not survey.all_compared:
        said.append(f"exact duplicates are looked for among the first {MAX_RECORDS_COMPARED} records only")
    return said


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
    """How a number is written; nothing of a point, which is no news."""
    point, thousands = number["point"], number["thousands"]
    said = ["mixed marks"] if point is None else [] if point == "." else [_MARK_NAMES[point]]
    said += [f"thousands {thousands if point == '.' else _MARK_NAMES[thousands]}"] if thousands else []
    said += [f"with {' '.join(number['signs'])}"] if number["signs"] else []
    said += ["brackets are negative"] if number["brackets"] else []
    return ", ".join(said)


def _share(count: int, of: int) -> float:
    return round(count / of, 4) if of else 0.0


def _cut(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
