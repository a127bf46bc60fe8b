"""A dry run: the outcome of each receipt, by the line itself, with nothing kept."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from ops.files.receipts import FileReceipt
from ops.maps.outcome import FileRecord
from streams.assembly import build_replay_pipeline
from streams.batch import Batch
from streams.dead_letters.reprocess import for_dry_run
from streams.pipeline import process
from streams.settings import Settings

_AT_ONCE = 500


class DryRunVerdict(NamedTuple):
    """The outcome of a receipt: a word for each of its events, and why it would be a dead letter."""

    line: int
    key: str
    word: str
    detail: str


def verdicts(settings: Settings, receipts: Iterator[FileReceipt]) -> Iterator[DryRunVerdict]:
    """Yield the line's verdict on each receipt, in order, by the settings' contract, mapping and sink.

    Documents that the sink would have taken by then count; they are remembered on disk. Raises ContractError,
    SinkUnavailable and SinkMisconfigured.
    """
    desk = build_replay_pipeline(settings)
    with closing(desk.sink), asyncio.Runner() as runner:
        to, rehearsal = for_dry_run(desk.services, desk.retrying_sink)
        while some := list(islice(receipts, _AT_ONCE)):
            records = [FileRecord(receipt.value, receipt.key, offset=offset) for offset, receipt in enumerate(some)]
            settled = runner.run(process(Batch(settings.topic, 0, records), to))
            rehearsal.asked.clear()
            words: dict[int, list[str]] = defaultdict(list)
            details: dict[int, list[str]] = defaultdict(list)
            for arrival in settled.delivered:
                words[arrival.record.offset].append("document")
            for arrival in settled.seen_in_sink:
                words[arrival.record.offset].append("duplicate")
            for skipped in settled.skipped:
                words[skipped.record.offset].append(f"skipped ({skipped.why})")
            for rejection in settled.rejected:
                words[rejection.record.offset].append(f"dead letter ({rejection.reason.value})")
                details[rejection.record.offset].append(rejection.detail)
            for offset, receipt in enumerate(some):
                key = (receipt.key or b"").decode(errors="replace")
                yield DryRunVerdict(
                    receipt.line, key, ", ".join(words[offset]) or "nothing", "; ".join(details[offset])
                )
