"""The values that the steps of the line pass to each other. No framework and no I/O here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from schemas.dead_letter import Reason
from schemas.sale import SaleEvent

Headers = Sequence[tuple[str, bytes]]
#: Bytes of a record's digest: among 10 ** 12 records two digests are equal with a probability of 10 ** -15.
DIGEST = 16
#: How a rule treats its findings; only a rule for refunds lets them wait.
Policy = Literal["reject", "fix", "flag", "hold", "wait"]
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
    """A valid event and its record. `digest` identifies the record's bytes (and the index in them), `id` the event."""

    record: Record = field(repr=False)
    event: SaleEvent = field(repr=False)
    id: str
    digest: bytes


class QualityIssue(NamedTuple):
    """A finding of a cleaning rule and the rule's policy. `detail` names a field and a kind of fault, never a value."""

    rule: str
    policy: Policy
    detail: str


@dataclass(slots=True, eq=False)
class Rejection:
    """A record that can't become a document. `detail` names a field and a kind of fault, never a value."""

    record: Record = field(repr=False)
    reason: Reason
    detail: str
    stage: Stage
    event: SaleEvent | None = field(default=None, repr=False)


class Skipped(NamedTuple):
    """A record, or a part of one, without effect in the ERP: a tombstone, a `day_close`, or skipped by the contract."""

    record: Record
    why: str


@dataclass(slots=True, eq=False)
class BatchOutcome:
    """The outcome of every event of a batch: each is in exactly one of these lists, `superseded` aside."""

    delivered: list[Arrival] = field(default_factory=list)
    superseded: list[Arrival] = field(default_factory=list)  # those delivered after a newer revision
    seen_in_window: list[Arrival] = field(default_factory=list)
    seen_in_sink: list[Arrival] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    findings: list[QualityIssue] = field(default_factory=list)  # of the cleaning rules, in any of the receipts
