"""Dead letters, as the line writes them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from streams.batch import Rejection
from streams.dead_letters.audit import AuditOutcome, OutcomeEnd, group_outcomes
from streams.dead_letters.header import DeadLetterHeader, parse_header
from streams.dead_letters.record import dead_letter_record
from streams.kafka.reader import TopicRecord
from tests.support.events import NOON, FakeRecord, value

DLQ = "pos.sales.dlq"


def dead(
    number: int = 1,
    *,
    reason: Reason = Reason.UNMAPPED_ITEM,
    detail: str = "lines.0.sku: unmapped 'A'",
    headers: Sequence[tuple[str, bytes]] = (),
    at: tuple[int, int] | None = None,
    now: datetime = NOON,
    **changes: Any,
) -> TopicRecord:
    """The letter of event `number`, which lay at offset `number`, at a place of the dead-letter topic."""
    raw = value(number, **changes)
    record = FakeRecord(number, raw, headers=list(headers))
    made = dead_letter_record(
        Rejection(record, reason, detail, "map", SaleEvent.model_validate_json(raw)), "pos.sales", 0, now
    )
    partition, offset = at or (0, number)
    return TopicRecord(partition, offset, int(now.timestamp() * 1000), made.key, made.value, made.headers)


def head(number: int = 1, **changes: Any) -> DeadLetterHeader:
    """What that letter says."""
    return parse_header(dead(number, **changes), DLQ)


def outcome_of(
    head: DeadLetterHeader, action: str, end: OutcomeEnd, reason: str = "", detail: str = ""
) -> AuditOutcome:
    """What became of a letter, as the audit trail tells it."""
    [told] = group_outcomes(action, [(head, end, reason, detail)])
    [outcome] = told.outcomes()
    return outcome
