"""The fixed job of the benchmarks: a day of small receipts for four partitions, and what must come out of it.

It is written for speed (a few hundred thousand events in a few seconds) and shares no code with the simulated
tills: lines are printed once per product and quantity, and receipts put together from them.
"""

import argparse
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from operator import itemgetter
from random import Random
from typing import NamedTuple

from schemas.dead_letter import Reason
from schemas.money import divide_half_up

PARTITIONS = 4
STORES = 16
LINES = 3
PERCENT_RESENT = 5
PERCENT_BAD = 1

# fmt: off
_NAMES = (
    "Apples", "Bananas", "Butter", "Coffee", "Flour", "Gouda", "Honey", "Milk", "Noodles",
    "Onions", "Pears", "Rice", "Rolls", "Salt", "Soap", "Sugar", "Tea", "Tomatoes",
)
# fmt: on
_TAX_RATES = (7, 19)


class _Line(NamedTuple):
    text: str
    gross: int
    net: int


@dataclass(frozen=True)
class Job:
    """`records` are (partition, key, value) in the order of production; all of a store are in one partition.

    `expected_delivered` distinct good events with `expected_lines` lines worth `expected_gross` must arrive,
    each once; `expected_bad` records must become dead letters, for the reasons in `bad_by_reason`; the
    `resent` ones must leave no trace.
    """

    records: list[tuple[int, bytes, bytes]]
    expected_delivered: int
    expected_bad: int
    expected_gross: Decimal
    expected_lines: int
    bad_by_reason: Mapping[Reason, int]
    resent: int


def pos_job(events: int = 200_000, seed: int = 1) -> Job:
    """`events` records: 5 % of them repeat an earlier one of their partition byte by byte, 1 % are bad.

    The shares are exact, rounded down; the same seed gives the same job. Values are JSON in the format of
    `schemas.sale`, about 735 bytes with 3 lines.
    """
    rng = Random(seed)
    resent, bad = events * PERCENT_RESENT // 100, events * PERCENT_BAD // 100
    good = events - resent - bad
    lines, weights = _assortment()
    spoilt = set(rng.sample(range(good + bad), bad))
    gross, by_reason = 0, Counter[Reason]()
    # (place, record): repetitions get a place between those of the others, which are whole numbers.
    placed: list[tuple[float, tuple[int, bytes, bytes]]] = []
    for number in range(good + bad):
        store = int(rng.random() * STORES)
        total, value = _receipt(rng, number, store, lines, weights)
        if number in spoilt:
            reason, spoil = _FAULTS[number % len(_FAULTS)]
            by_reason[reason] += 1
            value = spoil(value, total)
        else:
            gross += total
        placed.append((number, (store % PARTITIONS, b"S%03d" % store, value.encode())))
    sound = [number for number in range(good + bad) if number not in spoilt]
    for number in rng.sample(sound, resent):
        placed.append((number + 0.5 + rng.random() * (good + bad - number), placed[number][1]))
    records = [record for _, record in sorted(placed, key=itemgetter(0))]
    return Job(records, good, bad, Decimal(gross).scaleb(-2), good * LINES, by_reason, resent)


def _assortment() -> tuple[list[_Line], list[float]]:
    """The lines there are, and their cumulative weights: 200 products in eight quantities each."""
    lines: list[_Line] = []
    for product in range(200):
        price = 49 + product * 37 % 1451
        rate = _TAX_RATES[product % 5 == 0]
        weighed = product % 4 == 1
        for step in range(1, 9):
            milli = (step * 377 + product) if weighed else step * 1000
            gross = divide_half_up(milli * price, 1000)
            quantity = f"{milli / 1000:.3f}" if weighed else str(step)
            text = (
                f'{{"sku":"{4_006_381_000_000 + product * 7}",'
                f'"description":"{_NAMES[product % len(_NAMES)]} item no. {product}",'
                f'"quantity":"{quantity}","unit":"{"kg" if weighed else "each"}",'
                f'"unit_price":"{_money(price)}","amount":"{_money(gross)}","tax_rate":"{rate}"}}'
            )
            lines.append(_Line(text, gross, divide_half_up(gross * 100, 100 + rate)))
    return lines, list(accumulate(1 / (number % 8 + 1) for number in range(len(lines))))


def _receipt(rng: Random, number: int, store: int, lines: list[_Line], weights: list[float]) -> tuple[int, str]:
    """(gross in cents, JSON) of one sale."""
    random = rng.random
    span = weights[-1]
    one, two, three = (lines[bisect_right(weights, random() * span)] for _ in range(LINES))
    gross = one.gross + two.gross + three.gross
    net = one.net + two.net + three.net
    second = number * 60_000 // 200_000
    time_of_day = f"{6 + second // 3600 % 16:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{number % 1000:03d}"
    total = _money(gross)
    return gross, (
        f'{{"event_id":"{rng.getrandbits(128):032x}","source":"bench","type":"sale","store":"S{store:03d}",'
        f'"register":"{1 + number % 4}","receipt":"{1_000_000 + number}",'
        f'"occurred_at":"2026-03-02T{time_of_day}Z","currency":"EUR","cashier":"K{number % 40:04d}",'
        f'"lines":[{one.text},{two.text},{three.text}],'
        f'"tenders":[{{"kind":"{"card" if number % 3 else "cash"}","amount":"{total}"}}],'
        f'"totals":{{"gross":"{total}","net":"{_money(net)}","tax":"{_money(gross - net)}"}}}}'
    )


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _wrong_totals(value: str, gross: int) -> str:
    # The payments agree with the wrong total, so that only the totals are wrong.
    more = _money(gross + 500)
    head, tail = value.split('"tenders"')
    old = _money(gross)
    return (
        head
        + '"tenders"'
        + tail.replace(f'"amount":"{old}"', f'"amount":"{more}"').replace(f'"gross":"{old}"', f'"gross":"{more}"')
    )


_FAULTS: tuple[tuple[Reason, Callable[[str, int], str]], ...] = (
    (Reason.INVALID_JSON, lambda value, gross: value[: len(value) // 2]),
    (Reason.SCHEMA_MISMATCH, lambda value, gross: value.replace('"currency":"EUR",', "")),
    (Reason.SCHEMA_MISMATCH, lambda value, gross: value.replace('Z","currency"', '","currency"')),
    (Reason.UNKNOWN_CURRENCY, lambda value, gross: value.replace('"EUR"', '"EUX"')),
    (Reason.TOTALS_MISMATCH, _wrong_totals),
    (
        Reason.PAYMENT_MISMATCH,
        lambda value, gross: value.replace(f'"amount":"{_money(gross)}"}}],', f'"amount":"{_money(gross + 500)}"}}],'),
    ),
)


def main() -> None:
    """Print the job's composition and the time it takes to generate."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    job = pos_job(options.events, options.seed)
    seconds = time.perf_counter() - started
    size = sum(len(value) for _, _, value in job.records)
    print(f"{len(job.records)} records, mean {size / len(job.records):.1f} bytes, made in {seconds:.2f} s")
    print(f"good {job.expected_delivered}, bad {job.expected_bad}, resent {job.resent}")
    print(f"lines {job.expected_lines}, gross {job.expected_gross}")
    for reason, count in sorted(job.bad_by_reason.items()):
        print(f"  {reason}: {count}")


if __name__ == "__main__":
    main()
