"""The cost of counting a batch, metrics and receipt gaps: `python -m bench.metering`. Processor time per event."""

from statistics import median
from time import process_time

from bench.inprocess import FakeRecord
from streams.batch import Batch, BatchOutcome
from streams.decode import decode
from streams.metrics import WorkerMetrics
from streams.worker.app import count
from streams.worker.receipt_gaps import ReceiptGapTracker
from tests.support.events import value

EVENTS = 1500
STORES, REGISTERS = 40, 4
ROUNDS = 100


def settled() -> BatchOutcome:
    """A batch of delivered sales, of all registers in turn."""
    values = [
        value(n, receipt=str(1_000_000 + n), register=f"R{n % REGISTERS}", store=f"S{n % STORES}")
        for n in range(EVENTS)
    ]
    records = [FakeRecord(offset, b"S", value) for offset, value in enumerate(values)]
    return BatchOutcome(delivered=decode(Batch("bench", 0, records))[0])


def main() -> None:
    """Prints the median over all rounds."""
    batch, metrics = settled(), WorkerMetrics()
    seconds = []
    for _ in range(ROUNDS):
        receipts = ReceiptGapTracker()
        started = process_time()
        count(batch, metrics)
        metrics.note_missing_receipts(receipts.note(batch))
        seconds.append(process_time() - started)
    print(f"{median(seconds) / EVENTS * 1e6:.2f} µs/event")


if __name__ == "__main__":
    main()
