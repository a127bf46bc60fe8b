"""The records that a file holds, as `tillstream import` would send them."""

from collections.abc import Iterator
from pathlib import Path

from ops.files.layout import NotReadable
from ops.files.receipts import RejectedLines, check_file, receipts
from ops.files.records import Progress
from schemas.contract import Contract


def records_of(path: Path, contract: Contract | None, progress: Progress) -> Iterator[tuple[bytes | None, bytes]]:
    """(key, value) of each record: of CSV the rows of a receipt together. Raises NotReadable, for bad lines too."""
    if not path.is_file():
        raise NotReadable(f"{path}: no such file")
    found = check_file(path, contract, lambda _: None)
    if found.bad:
        raise NotReadable(f"{path}: line {found.bad[0].line}: {found.bad[0].fault}")
    for receipt in receipts(path, found, contract, progress, RejectedLines("", lambda _: None)):
        yield receipt.key, receipt.value
