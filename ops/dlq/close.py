"""Letters dealt with without the line: put aside (`park`), closed by hand (`resolve`), or deleted when they are old."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ops.dlq.fetch import fetch_selected
from ops.dlq.filters import DeadLetterFilter
from ops.dlq.listing import list_dead_letters, read_audit
from streams.dead_letters.audit import ActionKind, AuditAction, AuditWriter, group_outcomes, new_action_id
from streams.dead_letters.header import DeadLetterHeader, RecordOrigin, parse_header
from streams.kafka.errors import TopicsUnusable
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import read_partitions
from streams.kafka.topics import delete_records, ensure_dead_letter_topics, partitions_of_topics
from streams.settings import Settings

_PIECE = 2_000


@contextmanager
def audited_action(
    settings: Settings, what: ActionKind, by: str, wanted: DeadLetterFilter, reason: str, **options: Any
) -> Iterator[tuple[AuditWriter, AuditAction]]:
    """Provide an action in the audit trail: begun, and done or failed with its counts, which the caller fills in."""
    ensure_dead_letter_topics(settings.kafka_access, settings.topic_plan)
    trail = AuditWriter(settings)
    action = AuditAction(
        id=new_action_id(), what=what, state="begun", by=by, at=datetime.now(UTC), filter=wanted.stated(), reason=reason
    ).model_copy(update={"options": options})
    trail.write(action)
    trail.confirm()
    state = "failed"
    try:
        yield trail, action
        state = "done"
    finally:
        trail.write(action.model_copy(update={"state": state, "at": datetime.now(UTC)}))
        trail.confirm()


def resolve(settings: Settings, wanted: DeadLetterFilter, by: str, reason: str) -> int:
    """Close the open dead letters that match the filter; they stay in the topic. Return their number."""
    with audited_action(settings, "resolve", by, wanted, reason) as (trail, action):
        letters = list_dead_letters(settings, wanted).open
        trail.write_outcomes(group_outcomes(action.id, ((head, "resolved", reason, "") for head in letters)))
        action.counts["resolved"] = len(letters)
    return len(letters)


def park(settings: Settings, wanted: DeadLetterFilter, by: str, reason: str) -> int:
    """Copy the open dead letters that match the filter to the parked topic, unchanged, and close them here."""
    with audited_action(settings, "park", by, wanted, reason) as (trail, action):
        letters = list_dead_letters(settings, wanted).open
        asyncio.run(_park(settings, letters, trail, action, reason))
    return action.counts["parked"]


async def _park(
    settings: Settings, letters: Sequence[DeadLetterHeader], trail: AuditWriter, action: AuditAction, reason: str
) -> None:
    sender = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)
    action.counts["parked"] = 0
    async with fetch_selected(settings, letters) as (_, pieces):
        async for found in pieces:
            for _, record in found:
                sender.send(settings.parked_topic, record.key, record.value, record.headers)
            sender.confirm()
            trail.write_outcomes(group_outcomes(action.id, ((head, "parked", reason, "") for head, _ in found)))
            trail.confirm()
            action.counts["parked"] += len(found)


def purge(settings: Settings, before: datetime, by: str, *, go: bool) -> dict[int, tuple[int, int]]:
    """Delete the letters at the beginning of each partition that failed before then and are closed.

    It stops at the first that is open, or younger: what needs somebody is never deleted. Returns for each partition
    where it began and where it begins now (or would).
    """
    there = partitions_of_topics(settings.kafka_access)
    topic = settings.dead_letter_topic
    if topic not in there:
        raise TopicsUnusable(f"the topic {topic} does not exist at {settings.broker}")
    begins, keep = _purgeable(settings, there, before)
    spans = {number: (begins[number], keep[number]) for number in begins if keep[number] > begins[number]}
    if go and spans:
        named = {str(number): list(span) for number, span in spans.items()}
        with audited_action(settings, "purge", by, DeadLetterFilter(until=before, closed=True), "", spans=named) as (
            _,
            action,
        ):
            delete_records(settings.kafka_access, topic, {number: end for number, (_, end) in spans.items()})
            action.counts["offsets"] = sum(end - begin for begin, end in spans.values())
    return spans


def _purgeable(settings: Settings, there: dict[str, int], before: datetime) -> tuple[dict[int, int], dict[int, int]]:
    """Of each partition where it begins, and the first offset that has to stay."""
    topic = settings.dead_letter_topic
    ledger = read_audit(settings, there).ledger
    newest: dict[RecordOrigin, DeadLetterHeader] = {}
    begins: dict[int, int] = {}
    keep: dict[int, int] = {}
    ends: dict[int, int] = {}
    for piece in read_partitions(settings.kafka_access, topic, range(there[topic])):
        for record in piece:
            head = parse_header(record, topic)
            begins.setdefault(record.partition, record.offset)
            ends[record.partition] = record.offset + 1
            if head.last_failed >= before:
                keep.setdefault(record.partition, record.offset)
            known = newest.get(head.origin)
            if known is None or head.supersedes(known):
                newest[head.origin] = head
    for head in newest.values():
        if not ledger.is_closed(head):
            keep[head.partition] = min(keep.get(head.partition, head.offset), head.offset)
    return begins, {number: keep.get(number, end) for number, end in ends.items()}
