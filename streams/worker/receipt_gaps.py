"""Finds gaps in a register's receipt numbers: a hint that a sale never reached the topic.

A number counts as missing when it has not arrived by the time its register is `REACH` numbers further. A register's
run starts with the first number after the partitions were assigned, and starts over where the numbers jump by more than
`REACH`, forwards or back: a new range, or a register that starts from 1 again. Receipts that were delivered before, and
dead letters with a readable number, count as arrived. Receipts without a decimal number are not tracked.

It is only a hint, as a gap may be legitimate: a cancelled receipt, a `day_close` that takes a number, or a record that
could not be parsed at all and is a dead letter.
"""

from collections import Counter
from operator import itemgetter

from schemas.sale import SaleEvent
from streams.batch import BatchOutcome

#: How late a number may come, in numbers of its register.
REACH = 100
#: Registers beyond this number are not tracked: each takes about 300 bytes.
MAX_REGISTERS = 50_000
_ALL = (1 << REACH) - 1


class ReceiptGapTracker:
    """Tracks the receipt numbers of all registers."""

    def __init__(self) -> None:
        # (the highest number, bits: bit n is set when the n-th number before the highest has arrived)
        self._runs: dict[tuple[str, str, str], tuple[int, int]] = {}

    def note(self, settled: BatchOutcome) -> Counter[str]:
        """Return by store how many numbers this batch shows to be missing; 0 for a store with a new register."""
        missing: Counter[str] = Counter()
        runs = self._runs
        for _, may_start, event in _in_order(settled):
            if not event.receipt.isdecimal():
                continue
            register = (event.source, event.store, event.register_id)
            number = int(event.receipt)
            run = runs.get(register)
            ahead = number - run[0] if run is not None else 0
            if run is None or abs(ahead) > REACH:
                if may_start and (run is not None or len(runs) < MAX_REGISTERS):
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

    def reset(self) -> None:
        """Forget all runs: partitions have moved, and other workers read the numbers in between."""
        self._runs.clear()


def _in_order(settled: BatchOutcome) -> list[tuple[int, bool, SaleEvent]]:
    """Return (offset, whether it may start a run, event) in order of offsets.

    A duplicate may not start a run: a till may have sent it again long after the sale.
    """
    known = settled.seen_in_window + settled.seen_in_sink
    events = [(arrival.record.offset, True, arrival.event) for arrival in settled.delivered]
    events += [(letter.record.offset, True, letter.event) for letter in settled.rejected if letter.event is not None]
    events += [(arrival.record.offset, False, arrival.event) for arrival in known]
    return sorted(events, key=itemgetter(0))
