"""A sink in memory, for tests and dry runs: the same results as the SQL sinks, and the faults a test asks for."""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Lock
from typing import Any

from sqlalchemy import URL

from schemas.dead_letter import Reason
from schemas.document import ErpDocument, from_json, to_json
from sinks.base import (
    Accepted,
    DeliveryRecord,
    DocumentDigest,
    DocumentsRefused,
    Effect,
    OrphanedParts,
    PreflightFinding,
    ReferenceSnapshot,
    Refused,
    Restored,
    Result,
    StoreDay,
    in_conflict,
    same_or_conflict,
)
from sinks.storable import require_exact_numbers, require_storable_text
from sinks.store_days import prints_of, totals_of


class MemorySink:
    """Holds documents and deliveries in dictionaries, `documents` by external_ref."""

    compared = "the documents, and that each of them is remembered"

    def __init__(self) -> None:
        self.documents: dict[str, ErpDocument] = {}
        self.contents: dict[str, str] = {}  # event_id -> content
        self.conflicts: set[tuple[str, str]] = set()  # (event_id, content) that was refused for its receipt
        self._delivered: dict[str, DeliveryRecord] = {}  # by event_id
        self._failures: list[BaseException] = []
        self._refuses: Callable[[ErpDocument], bool] = lambda document: False
        self._lock = Lock()

    def fail_next(self, exception: BaseException) -> None:
        """Let the next call that isn't already going to fail raise `exception` and do nothing else."""
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
            return Refused(document.event_id, Reason.REFUSED_BY_SINK, "told_to_refuse")
        try:
            require_storable_text([document])
            require_exact_numbers([document])
        except DocumentsRefused as refused:
            return Refused(document.event_id, Reason.REFUSED_BY_SINK, refused.detail)
        held = self.documents.get(document.external_ref)
        if held is not None and held.revision == document.revision:
            result = same_or_conflict(document, held.content, Reason.CONFLICTING_RECEIPT)
        elif held is not None and held.revision > document.revision:
            superseded = Accepted(document.event_id, "superseded")
            result = in_conflict(document, Reason.CONFLICTING_RECEIPT) if refused_before else superseded
        else:
            self.documents[document.external_ref] = deepcopy(document)
            effect: Effect = "written" if held is None else "replaced"
            result = Accepted(document.event_id, effect)
        if isinstance(result, Accepted):
            self.contents[document.event_id] = document.content
            self._delivered[document.event_id] = DeliveryRecord(
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

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol; there is nothing to prepare."""
        self._fail_if_told()
        return [PreflightFinding("server", True, "in memory")]

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol."""
        self._fail_if_told()
        held = self._of(store, day)
        days = totals_of(held, deep=deep)
        unknown = Counter((d.store, d.business_date, d.currency) for d in held if not self._remembers(d))
        for each in days if deep else ():
            each.unremembered = unknown[each.store, each.business_date, each.currency]
        return days

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol."""
        self._fail_if_told()
        held = self._of(store, day)
        known = {d.external_ref for d in held if self._remembers(d)}
        return [replace(each, remembered=each.external_ref in known) for each in prints_of(held)]

    def _remembers(self, d: ErpDocument) -> bool:
        told = self._delivered.get(d.event_id)
        as_it_was = (d.external_ref, d.revision, d.content)
        return told is not None and (told.external_ref, told.revision, self.contents[d.event_id]) == as_it_was

    def _of(self, store: str | None, day: date | None) -> list[ErpDocument]:
        held = self.documents.values()
        return [d for d in held if store in (None, d.store) and day in (None, d.business_date)]

    def deliveries(self, event_ids: Sequence[str]) -> list[DeliveryRecord]:
        """As in `Remembering`."""
        self._fail_if_told()
        found = [self._delivered[event_id] for event_id in set(event_ids) if event_id in self._delivered]
        return sorted(found, key=lambda d: (d.at, d.event_id))

    def fragments(self, external_refs: Sequence[str] | None = None) -> list[OrphanedParts]:
        """As in `Fragmentary`: deliveries are all that can be left of a document here."""
        self._fail_if_told()
        if external_refs is not None:
            return []
        left = Counter(d.external_ref for d in self._delivered.values() if d.external_ref not in self.documents)
        return [OrphanedParts(ref, deliveries=count) for ref, count in sorted(left.items())]

    def keep(self, external_refs: Sequence[str]) -> list[ReferenceSnapshot]:
        """As in `Forgetful`."""
        with self._lock:
            self._fail_if_told()
            return self._keep(external_refs)

    def _keep(self, external_refs: Sequence[str]) -> list[ReferenceSnapshot]:
        found: list[ReferenceSnapshot] = []
        for ref in sorted(set(external_refs)):
            rows: dict[str, list[dict[str, Any]]] = {}
            if ref in self.documents:
                rows["documents"] = [{"document": to_json(self.documents[ref]).decode()}]
            delivered = sorted((d for d in self._delivered.values() if d.external_ref == ref), key=lambda d: d.event_id)
            if delivered:
                rows["deliveries"] = [
                    {"event_id": d.event_id, "content": self.contents[d.event_id], "revision": d.revision,
                     "effect": d.effect, "at": d.at.isoformat()}
                    for d in delivered
                ]  # fmt: skip
            if rows:
                found.append(ReferenceSnapshot(ref, rows))
        return found

    def forget(self, kept: Sequence[ReferenceSnapshot]) -> list[str]:
        """As in `Forgetful`."""
        with self._lock:
            self._fail_if_told()
            changed: list[str] = []
            for each in kept:
                if self._keep([each.external_ref]) not in ([], [each]):
                    changed.append(each.external_ref)
                    continue
                self.documents.pop(each.external_ref, None)
                for row in each.rows.get("deliveries", []):
                    self.contents.pop(row["event_id"], None)
                    self._delivered.pop(row["event_id"], None)
            return sorted(changed)

    def restore(self, kept: Sequence[ReferenceSnapshot], *, rehearse: bool = False) -> dict[str, Restored]:
        """As in `Forgetful`."""
        with self._lock:
            self._fail_if_told()
            return {each.external_ref: self._restore(each, rehearse=rehearse) for each in kept}

    def _restore(self, kept: ReferenceSnapshot, *, rehearse: bool) -> Restored:
        now = self._keep([kept.external_ref])
        deliveries = kept.rows.get("deliveries", [])
        if now:
            return "there" if now == [kept] else "occupied"
        if any(row["event_id"] in self._delivered for row in deliveries):
            return "occupied"
        if not rehearse:
            for row in kept.rows.get("documents", []):
                self.documents[kept.external_ref] = from_json(row["document"].encode())
            for row in deliveries:
                self.contents[row["event_id"]] = row["content"]
                at = datetime.fromisoformat(row["at"])
                self._delivered[row["event_id"]] = DeliveryRecord(
                    row["event_id"], kept.external_ref, row["revision"], row["effect"], at
                )
        return "restored"

    def close(self) -> None:
        """As in the protocol."""

    def _fail_if_told(self) -> None:
        if self._failures:
            raise self._failures.pop(0)


def from_url(url: URL) -> MemorySink:
    """Return an empty sink for `memory://`."""
    return MemorySink()
