"""Process records again that should be in the ERP or dead letters, and are neither."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ops.reconcile.store_day import DayDifference, Kind
from sinks.base import ReferenceSnapshot, Sink, SinkMisconfigured, SupportsRevoke
from streams.assembly import ReplayPipeline, build_replay_pipeline
from streams.batch import Batch, BatchOutcome
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import for_dry_run
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import TopicRecord, record_at
from streams.pipeline import Services, process
from streams.settings import Settings

#: Kinds that the record in the topic repairs. The others take a person who knows which side is right.
REPAIRABLE: tuple[Kind, ...] = ("missing", "older_revision", "vanished")
#: Kinds of which the ERP holds, or remembers, something: it takes them again only after it was revoked.
FORGETTABLE: tuple[Kind, ...] = ("missing", "older_revision", "altered", "other_content", "orphaned")
#: Saves documents permanently before they are deleted.
SaveSnapshots = Callable[[Sequence[ReferenceSnapshot]], None]


@dataclass
class RepairResult:
    """The outcome of a repair, in numbers of records and references.

    `delivered`: booked. `remembered`: the ERP says it has taken them, but their documents were deleted there.
    `taken_back`: copies, and parts without a document, which are the `leftovers`. `kept`: references whose documents
    were saved in the audit trail before they were deleted. `changed`: references whose documents changed meanwhile and
    were left as they are. `rejected`: vanished records that are dead letters again. `refused`: records that should have
    been booked and are dead letters now. `gone`: records that have left the topic.
    """

    records: int = 0
    taken_back: int = 0
    delivered: int = 0
    remembered: int = 0
    rejected: int = 0
    refused: int = 0
    gone: int = 0
    leftovers: int = 0
    kept: int = 0
    changed: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def repaired(self) -> int:
        """The number of repaired differences."""
        return self.delivered + self.rejected + self.taken_back

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, for `--json` and for the audit trail."""
        names = ("records", "taken_back", "delivered", "remembered", "rejected", "refused", "gone", "kept", "changed")
        return {name: getattr(self, name) for name in names}


def repair(
    settings: Settings, differences: Sequence[DayDifference], *, save: SaveSnapshots | None, forget: bool = False
) -> RepairResult:
    """Process the records of these differences again. Without `save` this is a dry run.

    The sink takes each event once, so a second repair changes nothing more. With `forget` the repair first deletes the
    ERP's documents of these receipts, as if they had never been delivered, and copies of documents and parts without
    one. Only SQL sinks can do that. Nothing is deleted before `save` has returned with all of it. Raises
    SinkMisconfigured for other sinks, and as `build_replay_pipeline`.
    """
    repairable = [difference for difference in differences if _has_record(difference, forget=forget)]
    copies = [difference.ref for difference in differences if _has_no_record(difference)] if forget else []
    forgotten = (
        [*copies, *(difference.ref for difference in repairable if difference.kind in FORGETTABLE)] if forget else []
    )
    leftovers = {
        difference.ref for difference in differences if difference.kind == "orphaned" and not difference.place
    }.intersection(copies)
    result = RepairResult(records=len(repairable), taken_back=len(copies), leftovers=len(leftovers))
    vanished = {_parse_location(difference.place) for difference in repairable if difference.kind == "vanished"}
    desk = build_replay_pipeline(settings)
    try:
        if forgotten:
            changed = _forget(desk.sink, forgotten, save, result)
            result.taken_back -= len(changed.intersection(copies))
            result.leftovers -= len(changed & leftovers)
            repairable = [difference for difference in repairable if difference.ref not in changed]
        records = _records(settings, repairable, result)
        rehearsal = for_dry_run(desk.services, desk.retrying_sink, forgotten)[0] if save is None else None
        for partition, batch_records in records.items():
            settled = asyncio.run(_process(settings, desk, Batch(settings.topic, partition, batch_records), rehearsal))
            result.delivered += len(settled.delivered)
            result.remembered += len(settled.seen_in_sink)
            rejected_again = sum((partition, rejection.record.offset) in vanished for rejection in settled.rejected)
            result.rejected += rejected_again
            result.refused += len(settled.rejected) - rejected_again
            result.reasons += [f"{rejection.reason.value}: {rejection.detail}" for rejection in settled.rejected]
    finally:
        desk.sink.close()
    return result


def describe_unrepaired(differences: Sequence[DayDifference], *, forget: bool) -> list[str]:
    """Return sentences about the differences that `repair` does not touch, and how to settle them."""
    for_a_person, untouched = _left_out(differences, forget=True), _left_out(differences, forget=forget)
    lines = []
    if more := untouched - for_a_person:
        lines.append(f"repaired only with --revoke: {_kinds(more)}")
    if for_a_person:
        lines.append(f"left to a person who knows which side is right: {_kinds(for_a_person)}")
    return lines


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))


def _left_out(differences: Sequence[DayDifference], *, forget: bool) -> Counter[str]:
    left = (difference for difference in differences if not _has_record(difference, forget=forget))
    return Counter(difference.kind for difference in left if not (forget and _has_no_record(difference)))


def _has_record(difference: DayDifference, *, forget: bool) -> bool:
    """Return whether a record in the topic repairs the difference."""
    return bool(difference.place) and (difference.kind in REPAIRABLE or (forget and difference.kind in FORGETTABLE))


def _has_no_record(difference: DayDifference) -> bool:
    """Return whether the difference is a copy, or parts of a document that no till sent."""
    return difference.kind == "doubled" or (difference.kind == "orphaned" and not difference.place)


def _forget(sink: Sink, refs: Sequence[str], save: SaveSnapshots | None, result: RepairResult) -> set[str]:
    """Save the documents of these references, then delete them. Return those that changed in between and stay."""
    if not isinstance(sink, SupportsRevoke):
        raise SinkMisconfigured("this sink can't forget documents: correct them in the ERP itself")
    held = sink.keep(refs)
    result.kept = len(held)
    if save is None:
        return set()
    save(held)
    changed = set(sink.forget(held))
    result.changed = len(changed)
    return changed


def _records(
    settings: Settings, repairable: Sequence[DayDifference], result: RepairResult
) -> dict[int, list[TopicRecord]]:
    found: dict[int, list[TopicRecord]] = defaultdict(list)
    for partition, offset in sorted({_parse_location(difference.place) for difference in repairable}):
        record = record_at(settings.kafka_access, settings.topic, partition, offset)
        if record is None:
            result.gone += 1
        else:
            found[partition].append(record)
    return found


def _parse_location(place: str) -> tuple[int, int]:
    partition, _, offset = place.partition(":")
    return int(partition), int(offset)


async def _process(settings: Settings, desk: ReplayPipeline, batch: Batch, rehearsal: Services | None) -> BatchOutcome:
    if rehearsal is not None:
        return await process(batch, rehearsal)
    sender = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)

    async def publish(letters: Sequence[DeadLetterRecord]) -> None:
        for letter in letters:
            sender.send(settings.dead_letter_topic, letter.key, letter.value, letter.headers)
        await asyncio.to_thread(sender.confirm)

    return await process(
        batch, replace(desk.services, dead_letters=DeadLetterWriter(publish, lambda: datetime.now(UTC)))
    )
