"""How far an import is, for going on after a kill: records that the broker has confirmed, and nothing else."""

import hashlib
import json
import os
from collections.abc import Callable

from ops.files.receipts import FileFindings
from schemas.contract import Contract
from streams.settings import Settings


class ImportCheckpoint:
    """The checkpoint of one import: of these bytes, read with these options, into this topic. A changed file is another
    import.

    `among` is a digest of all files of the import, if together they decide which receipts this one sends.

    The file is written under another name and renamed, so a kill leaves the old one or the new one.
    """

    def __init__(self, settings: Settings, found: FileFindings, contract: Contract | None, among: str = "") -> None:
        options: dict[str, object] = {
            "digest": found.digest,
            "broker": settings.broker,
            "topic": settings.topic,
            "encoding": found.layout.encoding,
            "delimiter": found.layout.delimiter,
            "format": contract.format if contract is not None else "",
            "group_by": list(contract.group_by) if contract is not None else [],
        }
        if contract is not None and (contract.fill_down or contract.skip_lines):
            options["rows"] = [list(contract.fill_down), list(contract.skip_lines)]
        if among:
            options["among"] = among
        name = hashlib.sha256(json.dumps(options).encode()).hexdigest()[:32]
        self._path = settings.data_folder / "imports" / f"{name}.json"

    def read(self, ends: Callable[[], dict[int, int]]) -> int:
        """Return the number of confirmed receipts; 0 if the topic `ends` before them, because it was created again."""
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
        """Delete the checkpoint of a finished import."""
        self._path.unlink(missing_ok=True)
