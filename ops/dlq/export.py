"""Dead letters into a file: JSON Lines, CSV or Parquet, a row for each."""

import csv
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from ops.dlq.fetch import fetch_selected
from ops.dlq.render import row, value_of
from streams.dead_letters.audit import ResolutionIndex
from streams.dead_letters.header import DeadLetterHeader
from streams.kafka.reader import Progress
from streams.settings import Settings
from streams.sources.canonical import RecordSource

#: Of the columns that are no text.
_KINDS = {"attempts": "int64", "truncated": "bool"}
_ROW_GROUP = 10_000
ENDINGS = (".jsonl", ".csv", ".parquet")


class CannotExport(Exception):
    """The file can't be written; the message says why and what to do."""


async def export(
    settings: Settings,
    letters: Sequence[DeadLetterHeader],
    ledger: ResolutionIndex,
    to: Path,
    source: RecordSource,
    told: Progress,
    *,
    reveal: bool,
) -> int:
    """Write the dead letters with their values, personal data masked unless revealed.

    Raises CannotExport.
    """
    if to.suffix not in ENDINGS:
        raise CannotExport(f"{to}: the name must end in one of {', '.join(ENDINGS)}")
    rows = _rows(settings, letters, ledger, source, reveal=reveal)
    try:
        if to.suffix == ".parquet":
            return await _parquet(rows, to, told)
        with to.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer: Any = None
            count = 0
            async for each in rows:
                count += 1
                if to.suffix == ".jsonl":
                    file.write(json.dumps(each, ensure_ascii=False) + "\n")
                    told(count)
                    continue
                if writer is None:
                    writer = csv.DictWriter(file, list(each))
                    writer.writeheader()
                writer.writerow({name: value if name == "amount" else _harmless(value) for name, value in each.items()})
                told(count)
            return count
    except OSError as error:
        raise CannotExport(f"{to}: {error.strerror}") from None


async def _parquet(rows: AsyncIterator[dict[str, Any]], to: Path, told: Progress) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise CannotExport(f"{to}: Parquet needs the extra `data`: pip install 'tillstream[data]' ({error})") from None
    count = 0
    writer: Any = None
    together: list[dict[str, Any]] = []

    def write() -> None:
        nonlocal writer
        if writer is None:  # the kind of a column is that of a whole row's: some are empty in the first rows
            kinds = {name: pyarrow.type_for_alias(_KINDS.get(name, "string")) for name in together[0]}
            writer = parquet.ParquetWriter(to, pyarrow.schema(kinds))
        writer.write_table(pyarrow.Table.from_pylist(together, writer.schema))
        told(count)
        together.clear()

    try:
        async for each in rows:
            count += 1
            together.append(each)
            if len(together) == _ROW_GROUP:
                write()
        if together:
            write()
        elif writer is None:
            parquet.write_table(pyarrow.table({}), to)
    finally:
        if writer is not None:
            writer.close()
    return count


async def _rows(
    settings: Settings,
    letters: Sequence[DeadLetterHeader],
    ledger: ResolutionIndex,
    source: RecordSource,
    *,
    reveal: bool,
) -> AsyncIterator[dict[str, Any]]:
    async with fetch_selected(settings, letters) as (_, pieces):
        async for found in pieces:
            await source.prepare([record for _, record in found])
            for head, record in found:
                value = value_of(record, source, reveal=reveal).encode("utf-8", "backslashreplace").decode()
                yield row(head, ledger) | {"value": value}


def _harmless(value: Any) -> Any:
    """Quote text that a spreadsheet would execute as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
