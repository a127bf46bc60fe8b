"""Records that should be in the ERP, or dead letters, and are neither: once more through the line."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ops.reconcile.comparing import Difference, Kind
from sinks.base import Forgetful, SinkMisconfigured
from streams.batch import Batch, Settled
from streams.deadletters import DeadLetters, Letter
from streams.desk import Desk, build_desk
from streams.letters.reading import TopicRecord, record_at
from streams.letters.redo import for_rehearsal
from streams.letters.sending import Sender
from streams.pipeline import Services, process
from streams.settings import Settings

#: What the topic's own record repairs. The others take a person who knows which side is right.
REPAIRABLE: tuple[Kind, ...] = ("missing", "older_revision", "vanished")
#: Those that the ERP holds, or remembers, and that it takes again only when it has forgotten them.
FORGETTABLE: tuple[Kind, ...] = ("missing", "older_revision", "altered", "other_content")


@dataclass
class Repaired:
    """What became of the records. `remembered`: the ERP says it has them; their documents were deleted there.
    `taken_back`: copies that no till sent. `rejected` had vanished and are dead letters again; `refused` were to be
    booked, and are dead letters now."""

    records: int = 0
    taken_back: int = 0
    delivered: int = 0
    remembered: int = 0
    rejected: int = 0
    refused: int = 0
    gone: int = 0
    reasons: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For machines, and for the audit trail."""
        names = ("records", "taken_back", "delivered", "remembered", "rejected", "refused", "gone")
        return {name: getattr(self, name) for name in names}


def repair(settings: Settings, differences: Sequence[Difference], *, go: bool, forget: bool = False) -> Repaired:
    """Takes the records of these differences through the line again; without `go` only as a rehearsal.

    The sink takes each event once, so doing it twice changes nothing more. `forget`: what the ERP holds of these
    receipts is taken back first, as if it had never been delivered, and so are copies of documents; only for sinks that
    can (SQL tables). Raises SinkMisconfigured for others, and as `build_desk`.
    """
    kinds = (*REPAIRABLE, *FORGETTABLE) if forget else REPAIRABLE
    chosen = [each for each in differences if each.kind in kinds and each.place]
    copies = [each.ref for each in differences if each.kind == "doubled"] if forget else []
    forgotten = [*copies, *(each.ref for each in chosen if each.kind in FORGETTABLE)] if forget else []
    repaired = Repaired(records=len(chosen), taken_back=len(copies))
    vanished = {_place(each.place) for each in chosen if each.kind == "vanished"}
    desk = build_desk(settings)
    try:
        records = _records(settings, chosen, repaired)
        if forgotten:
            if not isinstance(desk.sink, Forgetful):
                raise SinkMisconfigured("this sink can't forget what it holds: correct the documents in the ERP itself")
            if go:
                desk.sink.forget(forgotten)
        rehearsal = None if go else for_rehearsal(desk.services, desk.patient, forgotten)[0]
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


def _records(settings: Settings, chosen: Sequence[Difference], repaired: Repaired) -> dict[int, list[TopicRecord]]:
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


async def _through(settings: Settings, desk: Desk, batch: Batch, rehearsal: Services | None) -> Settled:
    if rehearsal is not None:
        return await process(batch, rehearsal)
    sender = Sender(settings)

    async def publish(letters: Sequence[Letter]) -> None:
        for each in letters:
            sender.send(settings.dead_letter_topic, each.key, each.value, each.headers)
        await asyncio.to_thread(sender.confirm)

    return await process(batch, replace(desk.services, dead_letters=DeadLetters(publish, lambda: datetime.now(UTC))))
