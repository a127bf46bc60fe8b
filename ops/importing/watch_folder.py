"""`tillstream import --watch DIR`: files that arrive in a folder, each imported once, with a report next to each.

A file is taken when it is complete, by a rename into `working/`, which only one can do. The files that are complete in
one scan are one import. From there they go to `done/`, or to `failed/` if the file could not be read or the broker
refused part of it. Each gets a report next to it; bad lines are put into `failed/`. While the broker is unreachable
files stay in `working/`.
"""

import fcntl
import json
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ops.files.inputs import ImportInput, inputs, is_ours
from ops.files.layout import File, NotReadable
from ops.files.receipts import FileFindings
from ops.files.records import Progress
from ops.importing.job import ImportObserver, InputReport, ReadOptions, import_all
from ops.importing.sending import ReceiptSender
from streams.kafka.errors import BrokerUnreachable
from streams.settings import Settings

_LOOK = 1.0
_AGAIN = 5.0
#: Seconds without a change after which a file counts as complete, unless it was renamed in.
COMPLETE = 5.0
#: Where the files of an import go that is done, while they go there.
_MOVES = ".moves.json"


class ImportStopped(Exception):
    """Somebody wants it to end; the file at hand is gone on with next time."""


class StoppableObserver(ImportObserver):
    """Stops the import when it is asked to."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def checking(self, name: str, file: File) -> Progress:
        """As Watcher."""
        return self.heed

    def sending(self, name: str, file: File, found: FileFindings) -> tuple[Progress, Callable[[int], None]]:
        """As Watcher."""
        return self.heed, self.heed

    def heed(self, so_far: int) -> None:
        """As Watcher. Raises Stopped."""
        if self._stop.is_set():
            raise ImportStopped


class SeenFile(NamedTuple):
    """A file as it was at a look, and since when."""

    size: int
    changed: int
    since: float


class WatchedFolder:
    """A folder that files come into. Only one process watches it at a time."""

    def __init__(self, path: Path, complete_after: float = COMPLETE) -> None:
        if not path.is_dir():
            raise NotReadable(f"{path}: no such folder")
        self.path = path
        self.working, self.done, self.failed = (path / name for name in ("working", "done", "failed"))
        for folder in (self.working, self.done, self.failed):
            folder.mkdir(exist_ok=True)
        self._complete_after = complete_after
        self._seen: dict[str, SeenFile] = {}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder, and take over the files of a watcher that died. Raises NotReadable."""
        with (self.path / ".tillstream.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotReadable(f"{self.path}: another process watches this folder") from None
            yield

    def taken(self) -> list[Path]:
        """Return the files of one import: those that a watcher had taken and not done, else those complete by now.

        Both together would be another import than the one that was broken off, with other parts of receipts.
        """
        self._put_away_the_rest()
        working = self._working()
        if not working:
            for path in self._complete():
                path.rename(_free(self.working / path.name))
            working = self._working()
        return working

    def put_away(self, to: dict[Path, Path]) -> None:
        """Move the files of an import that is done, all of them, also when it is killed in between."""
        note = self.working / _MOVES
        new = note.with_suffix(".tmp")
        new.write_text(json.dumps({path.name: str(place.relative_to(self.path)) for path, place in to.items()}))
        new.replace(note)
        self._put_away_the_rest()

    def _put_away_the_rest(self) -> None:
        note = self.working / _MOVES
        if not note.exists():
            return
        for name, place in json.loads(note.read_text()).items():
            if (self.working / name).exists():
                (self.working / name).rename(self.path / place)
        note.unlink()

    def _working(self) -> list[Path]:
        return sorted(path for path in self.working.iterdir() if is_ours(path.name))

    def _complete(self) -> list[Path]:
        now = time.monotonic()
        there: dict[str, SeenFile] = {}
        complete = []
        for path in sorted(self.path.iterdir()):
            if not is_ours(path.name) or not path.is_file():
                continue
            state = path.stat()
            before = self._seen.get(path.name)
            if before is None or (before.size, before.changed) != (state.st_size, state.st_mtime_ns):
                there[path.name] = SeenFile(state.st_size, state.st_mtime_ns, now)
            else:
                there[path.name] = before
            if now - there[path.name].since >= self._complete_after or self._is_old(state.st_mtime):
                complete.append(path)
                del there[path.name]
        self._seen = there
        return complete

    def _is_old(self, changed: float) -> bool:
        """Return whether the file is complete: unchanged for a while, or moved in as a whole."""
        return time.time() - changed > max(self._complete_after, 1) * 12 or not self._complete_after


def work_off(
    settings: Settings, folder: WatchedFolder, options: ReadOptions, observer: ImportObserver, sender: ReceiptSender
) -> Iterator[InputReport | str]:
    """Import the files that are taken by now, as one import; give a report for each input, or why it can't be read.

    Raises BrokerUnreachable and Stopped, with all of its files still taken.
    """
    paths = folder.taken()
    reports: dict[Path, list[InputReport]] = {path: [] for path in paths}
    faults: dict[Path, list[str]] = {path: [] for path in paths}
    todo: list[tuple[Path, ImportInput]] = []
    for path in paths:
        try:
            todo += (
                (path, replace(one, bad_rows_prefix=folder.failed / one.bad_rows_prefix.name))
                for one in inputs([str(path)])
            )
        except NotReadable as error:
            faults[path].append(str(error))
            yield str(error)
    found = import_all(settings, [one for _, one in todo], options, observer, sender) if todo else iter(())
    for (path, _), each in zip(todo, found, strict=True):
        faults[path].append(each) if isinstance(each, str) else reports[path].append(each)
        yield each
    places: dict[Path, Path] = {}
    for path in paths:
        went = not faults[path] and not any(report.refused for report in reports[path])
        places[path] = to = _free((folder.done if went else folder.failed) / path.name, set(places.values()))
        said = {"files": [report.as_json() for report in reports[path]], "unreadable": faults[path]}
        to.with_name(f"{to.name}.report.json").write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n")
    if places:
        folder.put_away(places)


def watch(
    settings: Settings,
    folder: WatchedFolder,
    options: ReadOptions,
    say: Callable[[InputReport | str], None],
    stop: threading.Event,
) -> None:
    """Import arriving files until stopped. Raises NotReadable if another process watches the folder."""
    with folder.alone():
        sender = None
        while not stop.is_set():
            try:
                sender = sender or ReceiptSender(settings)
                for each in work_off(settings, folder, options, StoppableObserver(stop), sender):
                    say(each)
                stop.wait(_LOOK)
            except BrokerUnreachable as error:
                say(f"{error}; waiting for it")
                sender = None
                stop.wait(_AGAIN)
            except ImportStopped:
                return


def stopping() -> threading.Event:
    """Set by SIGTERM or Ctrl-C; a second one ends at once."""
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop


def _free(path: Path, taken: Collection[Path] = ()) -> Path:
    """Return the path, with a number if needed, so that no existing file and none of `taken` is overwritten."""
    number, free = 1, path
    while free.exists() or free in taken:
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
