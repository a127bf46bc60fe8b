"""A sink in memory, for tests and dry runs: the same results as the SQL sinks, and the faults a test asks for."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime
from threading import Lock

from schemas.deadletter import Reason
from schemas.document import ErpDocument
from sinks.base import (
    Delivery,
    DocumentPrint,
    DocumentsRefused,
    Effect,
    Finding,
    Receipt,
    Refusal,
    Result,
    StoreDay,
    in_conflict,
    same_or_conflict,
)
from sinks.days import prints_of, totals_of
from sinks.values import require_exact_numbers, require_storable_text


class MemorySink:
    """Holds documents and what was delivered in dictionaries, `documents` by external_ref."""

    def __init__(self) -> None:
        self.documents: dict[str, ErpDocument] = {}
        self.contents: dict[str, str] = {}  # event_id -> content
        self.conflicts: set[tuple[str, str]] = set()  # (event_id, content) that was refused for its receipt
        self._delivered: dict[str, Delivery] = {}  # by event_id
        self._failures: list[BaseException] = []
        self._refuses: Callable[[ErpDocument], bool] = lambda document: False
        self._lock = Lock()

    def fail_next(self, exception: BaseException) -> None:
        """The next call that has not been promised a failure yet raises `exception` and does nothing else."""
        self._failures.append(exception)

    def refuse(self, predicate: Callable[[ErpDocument], bool]) -> None:
        """From now on refuses the documents that `predicate` is true of, as an ERP would."""
        self._refuses = predicate

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol."""
        with self._lock:
            self._fail_if_told()
            return [self._write_one(document) for document in documents]

    def _write_one(self, document: ErpDocument) -> Result:
        refused_before = (document.event_id, document.content) in self.conflicts
        delivered = self.contents.get(document.event_id)
        if delivered is not None:
            conflict = Reason.CONFLICTING_RECEIPT if refused_before else Reason.CONFLICTING_DUPLICATE
            return same_or_conflict(document, delivered, conflict)
        if self._refuses(document):
            return Refusal(document.event_id, Reason.REFUSED_BY_SINK, "told_to_refuse")
        try:
            require_storable_text([document])
            require_exact_numbers([document])
        except DocumentsRefused as refused:
            return Refusal(document.event_id, Reason.REFUSED_BY_SINK, refused.detail)
        held = self.documents.get(document.external_ref)
        if held is not None and held.revision == document.revision:
            result = same_or_conflict(document, held.content, Reason.CONFLICTING_RECEIPT)
        elif held is not None and held.revision > document.revision:
            superseded = Receipt(document.event_id, "superseded")
            result = in_conflict(document, Reason.CONFLICTING_RECEIPT) if refused_before else superseded
        else:
            self.documents[document.external_ref] = deepcopy(document)
            effect: Effect = "written" if held is None else "replaced"
            result = Receipt(document.event_id, effect)
        if isinstance(result, Receipt):
            self.contents[document.event_id] = document.content
            self._delivered[document.event_id] = Delivery(
                document.event_id, document.external_ref, document.revision, result.effect, datetime.now(UTC)
            )
        else:
            self.conflicts.add((document.event_id, document.content))
        return result

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol."""
        with self._lock:
            self._fail_if_told()
            kept = dict(self.documents), dict(self.contents), set(self.conflicts), dict(self._delivered)
            try:
                return [self._write_one(document) for document in documents]
            finally:
                self.documents, self.contents, self.conflicts, self._delivered = kept

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol."""
        self._fail_if_told()
        return self.documents.keys() & set(external_refs)

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol."""
        return [deepcopy(self.documents[ref]) for ref in sorted(set(external_refs)) if ref in self.documents]

    def ping(self) -> None:
        """As in the protocol."""
        self._fail_if_told()

    def check(self, *, apply: bool = False) -> list[Finding]:
        """As in the protocol; there is nothing to prepare."""
        self._fail_if_told()
        return [Finding("server", True, "in memory")]

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol."""
        self._fail_if_told()
        return totals_of(self._of(store, day), deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentPrint]:
        """As in the protocol."""
        self._fail_if_told()
        return prints_of(self._of(store, day))

    def _of(self, store: str | None, day: date | None) -> list[ErpDocument]:
        held = self.documents.values()
        return [d for d in held if store in (None, d.store) and day in (None, d.business_date)]

    def deliveries(self, event_ids: Sequence[str]) -> list[Delivery]:
        """As in `Remembering`."""
        self._fail_if_told()
        found = [self._delivered[event_id] for event_id in set(event_ids) if event_id in self._delivered]
        return sorted(found, key=lambda d: (d.at, d.event_id))

    def forget(self, external_refs: Sequence[str]) -> None:
        """As in `Forgetful`."""
        with self._lock:
            self._fail_if_told()
            refs = set(external_refs)
            for ref in refs:
                self.documents.pop(ref, None)
            for event_id in [d.event_id for d in self._delivered.values() if d.external_ref in refs]:
                del self.contents[event_id], self._delivered[event_id]

    def close(self) -> None:
        """As in the protocol."""

    def _fail_if_told(self) -> None:
        if self._failures:
            raise self._failures.pop(0)
