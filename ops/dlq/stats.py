"""Dead letters in sum: how many, since when, how much money, and whether it gets worse."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from streams.dead_letters.header import DeadLetterHeader

#: What letters are summed up by.
BY: dict[str, Callable[[DeadLetterHeader], str]] = {
    "reason": lambda head: head.reason,
    "store": lambda head: head.store or "(unknown)",
    "source": lambda head: head.source or "(unknown)",
    "day": lambda head: head.first_failed.date().isoformat(),
}
_TREND = timedelta(days=1)


def stats(letters: Sequence[DeadLetterHeader], now: datetime) -> dict[str, Any]:
    """Return the sums, as one JSON object."""
    return {
        "open": len(letters),
        "oldest": _oldest(letters),
        "money": money(letters),
        "by": {name: groups(letters, key, now) for name, key in BY.items()},
    }


def groups(
    letters: Iterable[DeadLetterHeader], key: Callable[[DeadLetterHeader], str], now: datetime
) -> list[dict[str, Any]]:
    """Return the letters by what `key` gives, the most first. Trend: those of the last day, and of the day before."""
    by: dict[str, list[DeadLetterHeader]] = defaultdict(list)
    for head in letters:
        by[key(head)].append(head)
    return [
        {
            "name": name,
            "letters": len(part),
            "oldest": _oldest(part),
            "money": money(part),
            "last_day": sum(head.first_failed > now - _TREND for head in part),
            "day_before": sum(now - 2 * _TREND < head.first_failed <= now - _TREND for head in part),
        }
        for name, part in sorted(by.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def money(letters: Iterable[DeadLetterHeader]) -> dict[str, str]:
    """Return the gross totals of the letters' receipts by currency, as they print them; what could not be read has
    none."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for head in letters:
        if head.amount is not None:
            sums[head.currency] += head.amount
    return {currency: f"{total:f}" for currency, total in sorted(sums.items())}


def _oldest(letters: Sequence[DeadLetterHeader]) -> str | None:
    return min(head.first_failed for head in letters).isoformat(timespec="seconds") if letters else None


def common_details(letters: Iterable[DeadLetterHeader], most: int = 10) -> list[tuple[str, str, int]]:
    """Return (reason, detail, dead letters) of the most frequent faults, each of which one repair would fix."""
    said = Counter((head.reason, head.detail) for head in letters)
    return [(reason, detail, count) for (reason, detail), count in said.most_common(most)]
