"""What the steps of the line hand to each other. No framework and no I/O here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from schemas.dead_letter import Reason
from schemas.sale import SaleEvent

Headers = Sequence[tuple[str, bytes]]
#: Bytes of the digests of records: 10 ** 12 of them hold two equal ones with a chance of 10 ** -15.
DIGEST = 16
Policy = Literal["reject", "fix", "flag", "hold"]
#: `line`: the record ended the worker, at whichever step.
Stage = Literal["decode", "check", "map", "write", "line"]


class Record(Protocol):
    """One Kafka record, as the consumer delivers it; `timestamp` in milliseconds since 1970."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one partition in the order of their offsets, which may have gaps."""

    topic: str
    partition: int
    records: Sequence[Record] = field(repr=False)  # they hold personal data


@dataclass(slots=True, eq=False)
class Arrival:
    """A valid event and its record. `digest` identifies the record's bytes (and the place in it), `id` the event."""

    record: Record = field(repr=False)
    event: SaleEvent = field(repr=False)
    id: str
    digest: bytes


class QualityIssue(NamedTuple):
    """What a cleaning rule found, and its policy. `what` is a field and a kind of fault, without a value."""

    rule: str
    policy: Policy
    what: str


@dataclass(slots=True, eq=False)
class Rejection:
    """A record that can't become a document. `detail` names a field and a kind of fault, never a value."""

    record: Record = field(repr=False)
    reason: Reason
    detail: str
    stage: Stage
    event: SaleEvent | None = field(default=None, repr=False)


class Skipped(NamedTuple):
    """What has no effect in the ERP, and why: a tombstone, a `day_close`, or what a contract skips."""

    record: Record
    why: str


@dataclass(slots=True, eq=False)
class BatchOutcome:
    """What became of every event of a batch: each is in exactly one of these, `superseded` aside."""

    delivered: list[Arrival] = field(default_factory=list)
    superseded: list[Arrival] = field(default_factory=list)  # of the delivered, those that came after a newer revision
    seen_in_window: list[Arrival] = field(default_factory=list)
    seen_in_sink: list[Arrival] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    noted: list[Skipped] = field(default_factory=list)
