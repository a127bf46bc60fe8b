"""How far an import is, for going on after a kill: records that the broker has confirmed, and nothing else."""

import hashlib
import json
import os
from collections.abc import Callable

from ops.files.receipts import FileFindings
from schemas.contract import Contract
from streams.settings import Settings


class ImportCheckpoint:
    """One import's: of these bytes, read in this way, into this topic. A file that changed is another import.

    `among` is a digest of all files of the import, where they decide together which receipts this one gives.

    The file is small, written beside its place and moved there, so a kill leaves the old one or the new one.
    """

    def __init__(self, settings: Settings, found: FileFindings, contract: Contract | None, among: str = "") -> None:
        how: dict[str, object] = {
            "digest": found.digest,
            "broker": settings.broker,
            "topic": settings.topic,
            "encoding": found.layout.encoding,
            "delimiter": found.layout.delimiter,
            "format": contract.format if contract is not None else "",
            "group_by": list(contract.group_by) if contract is not None else [],
        }
        if contract is not None and (contract.fill_down or contract.skip_lines):
            how["rows"] = [list(contract.fill_down), list(contract.skip_lines)]
        if among:
            how["among"] = among
        name = hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]
        self._path = settings.data_folder / "imports" / f"{name}.json"

    def read(self, ends: Callable[[], dict[int, int]]) -> int:
        """How many receipts were confirmed; 0 too where the topic `ends` before them, as it was made anew."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0
        now = ends()
        if any(now.get(int(partition), 0) <= offset for partition, offset in kept["offsets"].items()):
            return 0
        return int(kept["receipts"])

    def write(self, name: str, receipts: int, offsets: dict[int, int]) -> None:
        """All up to this receipt are confirmed; `offsets`: where the last of each partition lies."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(f".{os.getpid()}.tmp")
        new.write_text(json.dumps({"file": name, "receipts": receipts, "offsets": offsets}), encoding="utf-8")
        new.replace(self._path)

    def remove(self) -> None:
        """The import is done."""
        self._path.unlink(missing_ok=True)
