"""The protocol that every sink implements, and the errors it may raise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, runtime_checkable

from schemas.dead_letter import Reason
from schemas.document import ErpDocument

Effect = Literal["written", "replaced", "superseded", "duplicate"]


@dataclass(slots=True)
class Accepted:
    """The sink holds this event's effect, durably.

    `written`: a new document. `replaced`: a newer revision took an older one's place. `superseded`: the sink already
    holds a newer revision, nothing to do. `duplicate`: this very event was delivered before, nothing done.
    """

    event_id: str
    effect: Effect


@dataclass(slots=True)
class Refused:
    """The system will never take this document as it is. `detail` names the cause and no personal data."""

    event_id: str
    reason: Reason
    detail: str


Result = Accepted | Refused


def same_or_conflict(document: ErpDocument, content: str, conflict: Reason) -> Result:
    """Return the result for a document whose event, or receipt at this revision, was delivered with this `content`."""
    return Accepted(document.event_id, "duplicate") if content == document.content else in_conflict(document, conflict)


def in_conflict(document: ErpDocument, conflict: Reason) -> Refused:
    """Return the refusal of a document whose event, or receipt at this revision, was delivered with other content."""
    return Refused(document.event_id, conflict, f"revision {document.revision} was delivered with other content")


#: How to bring the schema of a sink up to date.
SCHEMA_ADVICE = "run `tillstream check --apply`"

#: Kinds of unavailability.
KINDS = (
    "auth",
    "connection",
    "corrupt",
    "disk",
    "lock",
    "other",
    "privilege",
    "readonly",
    "resources",
    "schema",
    "timeout",
)


class SinkUnavailable(Exception):
    """The sink is temporarily unavailable. Assume nothing was written and retry the same call later.

    `kind` is one of `KINDS`, for metrics; `retry_after` is the number of seconds the system asks for, if it does.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class SinkMisconfigured(Exception):
    """The sink's configuration is wrong; the message names the fault and the remedy."""


@dataclass(slots=True)
class PreflightFinding:
    """The result of one preflight check. `advice` names the remedy if it is not `ok`.

    A worker starts even if a check that is not `vital` fails: then some documents are refused or not fully booked.
    """

    subject: str
    ok: bool
    detail: str
    advice: str = ""
    vital: bool = True


@dataclass(slots=True)
class StoreDay:
    """The sink's sums for one store, business day and currency; signed as the documents are.

    `quantity` is the sum over the lines, whatever their units. `tenders` are sums by kind, as the till names them.
    `digest` is the sum of the documents' prints (`sinks.digests`), where it was asked for, and `personal` that of their
    personal prints. `unremembered` counts the documents whose delivery the sink does not know, where it was asked for
    and the sink knows deliveries.
    """

    store: str
    business_date: date
    currency: str
    documents: int
    lines: int
    net: Decimal
    tax: Decimal
    gross: Decimal
    quantity: Decimal
    tenders: dict[str, Decimal]
    digest: str | None = None
    personal: str | None = None
    unremembered: int = 0


@dataclass(slots=True)
class DocumentDigest:
    """A document that the sink holds, in short; `digest` and `personal` as in `sinks.digests`.

    `remembered`: its delivery is known as it was, with the same event, reference, revision and content.
    """

    external_ref: str
    event_id: str
    revision: int
    content: str
    currency: str
    gross: Decimal
    digest: str
    personal: str | None = None
    remembered: bool = True


class Sink(Protocol):
    """A system that takes documents. All calls block and are made from worker threads, several at a time."""

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """Make each document's effect durable, at most once however often it is called with it.

        Returns one result per document, in their order. The caller sees to it that no two documents of one call share
        an event_id or an external_ref. One document's refusal never keeps the others from landing. An event_id that
        was delivered with other content is refused as `conflicting_duplicate`; an external_ref that is held at the
        same revision with other content, from another event, as `conflicting_receipt`, now and always. Raises
        SinkUnavailable.
        """
        ...

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """Return the results that `write` would give now, without keeping anything. Raises SinkUnavailable."""
        ...

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """Return the documents held under these references, ordered by reference.

        Raises SinkUnavailable.
        """
        ...

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """Those of the references under which a document is held. Raises SinkUnavailable."""
        ...

    def ping(self) -> None:
        """Check that a write could succeed now; raises SinkUnavailable otherwise."""
        ...

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """Preflight: right version and schema. `apply` brings the schema up to date first. Raises SinkUnavailable."""
        ...

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """Return the sums per store, business day and currency, in that order; all unless narrowed.

        `deep`: with digests, made where the documents are. Raises SinkUnavailable.
        """
        ...

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """Return the documents of one store's business day in short, ordered by external_ref. Raises
        SinkUnavailable."""
        ...

    def close(self) -> None:
        """Give all connections back."""
        ...


@dataclass(slots=True)
class DeliveryRecord:
    """The effect that an event had in the sink, and when."""

    event_id: str
    external_ref: str
    revision: int
    effect: Effect
    at: datetime


@runtime_checkable
class SupportsDeliveryHistory(Protocol):
    """A sink that knows when it took an event."""

    def deliveries(self, event_ids: Sequence[str]) -> list[DeliveryRecord]:
        """Return the effects of these events, ordered by time; events it never took are left out. Raises
        SinkUnavailable."""
        ...


@runtime_checkable
class SupportsErpNumbers(Protocol):
    """A sink whose system gives documents numbers of its own."""

    def numbers(self, external_refs: Sequence[str]) -> dict[str, str]:
        """By reference the system's number, and how far the document is there; nothing of those that it has not.

        As far as is known without asking the system. Raises SinkUnavailable.
        """
        ...


@runtime_checkable
class SupportsContentComparison(Protocol):
    """A sink that says what its totals and digests are made of."""

    #: Half a sentence for certificates: "the rows of its tables".
    compared: str


@dataclass(slots=True)
class OrphanedParts:
    """Parts held under a reference without a document: numbers of lines, payments and deliveries."""

    external_ref: str
    lines: int = 0
    payments: int = 0
    deliveries: int = 0


@runtime_checkable
class SupportsOrphanCheck(Protocol):
    """A sink that can hold parts of a document without the document."""

    def fragments(self, external_refs: Sequence[str] | None = None) -> list[OrphanedParts]:
        """Return the fragments under these references, or all, ordered by reference.

        Of given references only lines and payments are looked for: deliveries are made to be asked for by event. Raises
        SinkUnavailable.
        """
        ...


@dataclass(slots=True)
class ReferenceSnapshot:
    """All that a sink holds under a reference: of each of its tables the rows, with values that JSON can hold.

    It has the document's personal values. Only the sink that made it, or one of its kind, understands it.
    """

    external_ref: str
    rows: dict[str, list[dict[str, Any]]]


#: `restored`: it is as it was. `there`: it was already. `occupied`: something else is held under the reference, or its
#: events were delivered since; nothing was done.
Restored = Literal["restored", "there", "occupied"]


@runtime_checkable
class SupportsRevoke(Protocol):
    """A sink whose documents can be taken back: tables, not an ERP that has posted them."""

    def keep(self, external_refs: Sequence[str]) -> list[ReferenceSnapshot]:
        """Return all that is held under these references, ordered by them; nothing where nothing is.

        Raises SinkUnavailable.
        """
        ...

    def forget(self, kept: Sequence[ReferenceSnapshot]) -> list[str]:
        """Delete the rows of these snapshots and the record of their deliveries; their events are new if sent again.

        Rows that have changed since the snapshot stay; their references are returned. For repairs only: it breaks the
        promise of `write` for anyone who sends these events a second time. Raises SinkUnavailable.
        """
        ...

    def restore(self, kept: Sequence[ReferenceSnapshot], *, rehearse: bool = False) -> dict[str, Restored]:
        """Put revoked documents back and return the outcome by reference; with `rehearse`, return it without a change.

        Raises SinkUnavailable.
        """
        ...


class DocumentsRefused(Exception):
    """Raised inside a sink: the system refused a batch for what some document in it says. `detail` as in Refusal."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def write_bisecting(
    documents: Sequence[ErpDocument], write: Callable[[Sequence[ErpDocument]], list[Result]]
) -> list[Result]:
    """`write(documents)`, halved again and again where it raises DocumentsRefused, so that only the bad are refused.

    `write` is all or nothing. With k bad among n documents it is called about 2k log2(n) times.
    """
    try:
        return write(documents)
    except DocumentsRefused as refused:
        if len(documents) == 1:
            return [Refused(documents[0].event_id, Reason.REFUSED_BY_SINK, refused.detail)]
        middle = len(documents) // 2
        return write_bisecting(documents[:middle], write) + write_bisecting(documents[middle:], write)
