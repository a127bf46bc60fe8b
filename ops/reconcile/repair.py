"""Records that should be in the ERP, or dead letters, and are neither: once more through the line."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ops.reconcile.store_day import DayDifference, Kind
from sinks.base import ReferenceSnapshot, Sink, SinkMisconfigured, SupportsRevoke
from streams.assembly import ReplayPipeline, build_desk
from streams.batch import Batch, BatchOutcome
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import for_dry_run
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import TopicRecord, record_at
from streams.pipeline import Services, process
from streams.settings import Settings

#: What the topic's own record repairs. The others take a person who knows which side is right.
REPAIRABLE: tuple[Kind, ...] = ("missing", "older_revision", "vanished")
#: Those that the ERP holds, or remembers, and that it takes again only when it has forgotten them.
FORGETTABLE: tuple[Kind, ...] = ("missing", "older_revision", "altered", "other_content", "orphaned")
#: Takes down for good what is about to be deleted.
Keep = Callable[[Sequence[ReferenceSnapshot]], None]


@dataclass
class RepairResult:
    """What became of the records.

    `remembered`: the ERP says it has them; their documents were deleted there. `taken_back`: copies, and parts of no
    document, which are the `leftovers`. `kept`: references whose documents were put into the audit trail before they
    were deleted. `changed`: those whose documents changed meanwhile, and stay. `rejected` had vanished and are dead
    letters again; `refused` were to be booked, and are dead letters now.
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

    def as_json(self) -> dict[str, Any]:
        """For machines, and for the audit trail."""
        names = ("records", "taken_back", "delivered", "remembered", "rejected", "refused", "gone", "kept", "changed")
        return {name: getattr(self, name) for name in names}


def repair(
    settings: Settings, differences: Sequence[DayDifference], *, keep: Keep | None, forget: bool = False
) -> RepairResult:
    """Takes the records of these differences through the line again; without `keep` only as a rehearsal.

    The sink takes each event once, so doing it twice changes nothing more. `forget`: what the ERP holds of these
    receipts is taken back first, as if it had never been delivered, and so are copies of documents and parts of none;
    only for sinks that can (SQL tables). Nothing is deleted before `keep` has returned with all of it. Raises
    SinkMisconfigured for other sinks, and as `build_desk`.
    """
    go = keep is not None
    chosen = [each for each in differences if _has_record(each, forget=forget)]
    copies = [each.ref for each in differences if _has_no_record(each)] if forget else []
    forgotten = [*copies, *(each.ref for each in chosen if each.kind in FORGETTABLE)] if forget else []
    leftovers = {each.ref for each in differences if each.kind == "orphaned" and not each.place}.intersection(copies)
    repaired = RepairResult(records=len(chosen), taken_back=len(copies), leftovers=len(leftovers))
    vanished = {_place(each.place) for each in chosen if each.kind == "vanished"}
    desk = build_desk(settings)
    try:
        if forgotten:
            changed = _forget(desk.sink, forgotten, keep, repaired)
            repaired.taken_back -= len(changed.intersection(copies))
            repaired.leftovers -= len(changed & leftovers)
            chosen = [each for each in chosen if each.ref not in changed]
        records = _records(settings, chosen, repaired)
        rehearsal = None if go else for_dry_run(desk.services, desk.patient, forgotten)[0]
        for partition, of_one in records.items():
            settled = asyncio.run(_through(settings, desk, Batch(settings.topic, partition, of_one), rehearsal))
            repaired.delivered += len(settled.delivered)
            repaired.remembered += len(settled.seen_in_sink)
            again = sum((partition, each.record.offset) in vanished for each in settled.rejected)
            repaired.rejected += again
            repaired.refused += len(settled.rejected) - again
            repaired.reasons += [f"{each.reason.value}: {each.detail}" for each in settled.rejected]
    finally:
        desk.sink.close()
    return repaired


def what_is_left(differences: Sequence[DayDifference], *, forget: bool) -> list[str]:
    """Say in words which differences `repair` does not touch, and who or what settles them."""
    for_a_person, untouched = _left_out(differences, forget=True), _left_out(differences, forget=forget)
    said = []
    if more := untouched - for_a_person:
        said.append(f"repaired with --revoke alone: {_kinds(more)}")
    if for_a_person:
        said.append(f"left for a person who knows which side is right: {_kinds(for_a_person)}")
    return said


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))


def _left_out(differences: Sequence[DayDifference], *, forget: bool) -> Counter[str]:
    left = (each for each in differences if not _has_record(each, forget=forget))
    return Counter(each.kind for each in left if not (forget and _has_no_record(each)))


def _has_record(each: DayDifference, *, forget: bool) -> bool:
    """Return whether a record in the topic repairs it."""
    return bool(each.place) and (each.kind in REPAIRABLE or (forget and each.kind in FORGETTABLE))


def _has_no_record(each: DayDifference) -> bool:
    """Whether it is a copy, or parts of a document that no till sent."""
    return each.kind == "doubled" or (each.kind == "orphaned" and not each.place)


def _forget(sink: Sink, refs: Sequence[str], keep: Keep | None, repaired: RepairResult) -> set[str]:
    """Keeps what is held under the references, and deletes it then. Returns those that changed between, and stay."""
    if not isinstance(sink, SupportsRevoke):
        raise SinkMisconfigured("this sink can't forget what it holds: correct the documents in the ERP itself")
    held = sink.keep(refs)
    repaired.kept = len(held)
    if keep is None:
        return set()
    keep(held)
    changed = set(sink.forget(held))
    repaired.changed = len(changed)
    return changed


def _records(
    settings: Settings, chosen: Sequence[DayDifference], repaired: RepairResult
) -> dict[int, list[TopicRecord]]:
    found: dict[int, list[TopicRecord]] = defaultdict(list)
    for partition, offset in sorted({_place(each.place) for each in chosen}):
        record = record_at(settings, settings.topic, partition, offset)
        if record is None:
            repaired.gone += 1
        else:
            found[partition].append(record)
    return found


def _place(place: str) -> tuple[int, int]:
    partition, _, offset = place.partition(":")
    return int(partition), int(offset)


async def _through(settings: Settings, desk: ReplayPipeline, batch: Batch, rehearsal: Services | None) -> BatchOutcome:
    if rehearsal is not None:
        return await process(batch, rehearsal)
    sender = ConfirmingProducer(settings)

    async def publish(letters: Sequence[DeadLetterRecord]) -> None:
        for each in letters:
            sender.send(settings.dead_letter_topic, each.key, each.value, each.headers)
        await asyncio.to_thread(sender.confirm)

    return await process(
        batch, replace(desk.services, dead_letters=DeadLetterWriter(publish, lambda: datetime.now(UTC)))
    )
