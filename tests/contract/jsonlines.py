"""The sink of docs/how-to/write-a-sink.md: documents as lines of a file, by one process at a time."""

import fcntl
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from threading import Lock

from sqlalchemy import URL

from schemas.dead_letter import Reason
from schemas.document import ErpDocument, from_json, to_json
from sinks.base import DocumentDigest, PreflightFinding, Refused, Result, SinkUnavailable, StoreDay
from sinks.memory import MemorySink


class JsonLinesSink:
    """`jsonl:///path`: a file with a line for each document that had an effect or was a conflict."""

    def __init__(self, url: URL) -> None:
        self._path = Path(url.database or "documents.jsonl")
        self._lock = Lock()
        self._file: int | None = None  # not connected yet
        self._known = MemorySink()  # the content of the file

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """Decide, make it durable, and only then change the state in memory."""
        with self._lock:
            known = self._opened()
            decided = zip(documents, known.rehearse(documents), strict=True)
            self._append([document for document, result in decided if self._is_news(document, result)])
            return known.write(documents)

    def _is_news(self, document: ErpDocument, result: Result) -> bool:
        """Whether it has to be remembered: effects and conflicts, once. A document that can't be stored never can."""
        if isinstance(result, Refused) and result.reason is Reason.REFUSED_BY_SINK:
            return False
        is_known_conflict = (document.event_id, document.content) in self._known.conflicts
        return document.event_id not in self._known.contents and not is_known_conflict

    def _opened(self) -> MemorySink:
        """Return the content of the file; the first call reads it."""
        if self._file is None:
            try:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # not the fault of any document
                raise SinkUnavailable("disk", str(error)) from None
            *lines, torn = self._path.read_bytes().split(b"\n")
            os.ftruncate(file, self._path.stat().st_size - len(torn))  # a crash in a write that was never acknowledged
            self._known = MemorySink()
            for line in lines:
                self._known.write([from_json(line)])
            self._file = file
        return self._known

    def _append(self, documents: Sequence[ErpDocument]) -> None:
        text = b"".join(to_json(document) + b"\n" for document in documents)
        file = self._file or 0
        try:
            if os.write(file, text) < len(text):
                raise OSError("the disk is full")
            os.fsync(file)
        except OSError as error:
            self.close()  # so that the next call reads the file again
            raise SinkUnavailable("disk", str(error)) from None

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        with self._lock:
            return self._opened().rehearse(documents)

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        with self._lock:
            return self._opened().read(external_refs)

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        with self._lock:
            return self._opened().holds(external_refs)

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        with self._lock:
            return self._opened().totals(store, day, deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        with self._lock:
            return self._opened().prints(store, day)

    def ping(self) -> None:
        with self._lock:
            self._opened()

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        return [PreflightFinding("folder", self._path.parent.is_dir(), str(self._path.parent), "create it")]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)  # and the lock with it
            self._file = None
