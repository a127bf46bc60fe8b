"""Receipt numbers that a register has left out: a hint that something it sold never reached the topic.

What is counted, exactly: numbers of a register's run that had not come when the run was `REACH` numbers further. A run
begins with the first number that is seen since the partitions were assigned, and anew where the numbers jump by more
than `REACH`, forwards or back: a new range, or a register that starts from 1. Receipts that were delivered before, and
dead letters whose number could be read, have come. Receipts whose numbers are no decimal numbers have no run.

It is a hint, as a number may be left out on purpose: by a receipt that was broken off, by a `day_close` that takes one,
or by a record that could not even be read and is a dead letter.
"""

from collections import Counter
from operator import itemgetter

from schemas.sale import SaleEvent
from streams.batch import BatchOutcome

#: How late a number may come, in numbers of its register.
REACH = 100
#: Further registers have no runs: two whole numbers each are about 300 bytes.
MOST_REGISTERS = 50_000
_ALL = (1 << REACH) - 1


class ReceiptGapTracker:
    """The runs of all registers."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str, str], tuple[int, int]] = {}  # the highest number; bit n: the n-th before came

    def note(self, settled: BatchOutcome) -> Counter[str]:
        """By store, how many numbers turn out to be missing with this batch; 0 for a store that has a new register."""
        missing: Counter[str] = Counter()
        runs = self._runs
        for _, begins, event in _in_order(settled):
            if not event.receipt.isdecimal():
                continue
            register = (event.source, event.store, event.register_id)
            number = int(event.receipt)
            run = runs.get(register)
            ahead = number - run[0] if run is not None else 0
            if run is None or abs(ahead) > REACH:
                if begins and (run is not None or len(runs) < MOST_REGISTERS):
                    runs[register] = number, _ALL
                    missing[event.store] += 0
            elif ahead > 0:
                absent = ahead - (run[1] >> (REACH - ahead)).bit_count()
                if absent:
                    missing[event.store] += absent
                runs[register] = number, ((run[1] << ahead) | 1) & _ALL
            else:
                runs[register] = run[0], (run[1] | 1 << -ahead) & _ALL
        return missing

    def begin_anew(self) -> None:
        """Forgets all runs: partitions have moved, and others read what comes between."""
        self._runs.clear()


def _in_order(settled: BatchOutcome) -> list[tuple[int, bool, SaleEvent]]:
    """The offset of each event, in order, and whether it may begin a run: what was delivered before may be sent again
    from long ago."""
    known = settled.seen_in_window + settled.seen_in_sink
    events = [(arrival.record.offset, True, arrival.event) for arrival in settled.delivered]
    events += [(each.record.offset, True, each.event) for each in settled.rejected if each.event is not None]
    events += [(arrival.record.offset, False, arrival.event) for arrival in known]
    return sorted(events, key=itemgetter(0))
