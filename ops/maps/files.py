"""The records that a file holds, as they would stand in a topic."""

from collections.abc import Iterator
from pathlib import Path

from ops.inspect.layout import FileFormat, Layout, NotReadable, as_text, look, opened
from ops.inspect.records import Progress, position, texts
from schemas.contract import Contract
from streams.sources.rows import RowsUnreadable, rows_to_records

_EVERY = 2_000


def records_of(path: Path, contract: Contract | None, progress: Progress) -> Iterator[tuple[bytes | None, bytes]]:
    """(key, value) of each record: of CSV the rows of a receipt together. Raises NotReadable."""
    if not path.is_file():
        raise NotReadable(f"{path}: no such file")
    wanted: FileFormat | None = "csv" if contract is not None and contract.format == "csv" else None
    layout = look(path, wanted)
    if layout.format != "csv":
        for text in texts(path, layout, progress):
            yield None, text.encode()
    elif wanted is None or contract is None:
        raise NotReadable(f"{path} is CSV, and the contract is not: it needs `format: csv`")
    else:
        try:
            yield from rows_to_records(_lines(path, layout, progress), contract.group_by, layout.delimiter)
        except RowsUnreadable as error:
            raise NotReadable(f"{path}: {error}") from None


def _lines(path: Path, layout: Layout, progress: Progress) -> Iterator[bytes]:
    with opened(path) as file, as_text(file, layout) as text:
        if not layout.header:
            yield (layout.delimiter.join(layout.columns) + "\n").encode()
        for number, line in enumerate(text):
            if number % _EVERY == 0:
                progress(position(file))
            yield line.encode()
