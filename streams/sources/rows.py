"""CSV lines to records: the rows of a receipt, which stand together in the file, become one record."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby


class RowError(Exception):
    """The lines are not the CSV that the contract says; the message says where and what to do."""


def rows_to_records(
    lines: Iterable[str], group_by: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a record for each run of rows that agree in the columns `group_by`; a row each without them.

    The first line has the column names. A value is {"rows": [{column: text}, …]}, its key the columns' values.
    Raises RowError.
    """
    reader = csv.DictReader(lines, delimiter=delimiter, restkey="", restval="")
    names = reader.fieldnames or ()
    missing = [name for name in group_by if name not in names]
    if missing:
        raise RowError(f"group_by: there is no column {', '.join(missing)}; there are {', '.join(names)}")

    def group_of(numbered: tuple[int, dict[str, str]]) -> tuple[int | str, ...]:
        number, row = numbered
        return tuple(row[name] for name in group_by) if group_by else (number,)

    try:
        for group, rows in groupby(enumerate(reader), key=group_of):
            listed = [{name: text for name, text in row.items() if name} for _, row in rows]
            key = "/".join(map(str, group)) if group_by else ""
            yield key.encode(), json.dumps({"rows": listed}, ensure_ascii=False, separators=(",", ":")).encode()
    except csv.Error as error:
        raise RowError(f"line {reader.line_num}: no CSV: {error}") from None
