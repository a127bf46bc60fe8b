"""The verdict on a reconciliation, in sentences: do the books agree, and is everything booked?"""

from collections import Counter
from collections.abc import Sequence

from ops.reconcile.completeness import OPEN_STATUSES, CurrencySums, sum_of
from ops.reconcile.run import Now, ReconciliationResult, is_signed, unbalanced, unsettled
from ops.reconcile.store_day import DayReport

#: Where receipts are that are not booked, in words.
WHERE = {
    "dead": "in dead letters",
    "held": "held by a cleaning rule",
    "parked": "parked",
    "waiting": "waiting for the worker",
}


def verdict(found: ReconciliationResult, now: Now) -> str:
    """Return all that is to be known of it on one line."""
    if not found.days and found.unplaced is None:
        return "Nothing was sent, and the ERP holds nothing."
    states = Counter(now[day.store, day.day].state for day in found.days)
    by_state = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    days = f"{counted(len(found.days), 'store-day')}: {by_state}. " if found.days else ""
    return days + " ".join(sentences(found, now))


def sentences(found: ReconciliationResult, now: Now) -> list[str]:
    """Return the answers to both questions, a sentence each, and `Balanced.` if that is so."""
    days = found.all
    words = [_books(days, now, all_signed=not unsettled(found, now))]
    lost = [day for day in days if day.lost]
    if lost:
        unproved = sum_of(day.unproved for day in lost)
        what = f"{unproved.in_words()}: their records have left the topic" if unproved else _MAY_LACK
        words.append(f"NOT PROVED: {what}{_signed(lost, now)}.")
    words += _not_booked(days, now)
    resolved = sum_of(day.resolved for day in days)
    if resolved:
        words.append(f"Not to be booked, as a person has decided: {resolved.in_words()}.")
    still_open = sum(day.state == "open" for day in days)
    if still_open:
        words.append(f"{counted(still_open, 'day')} {'is' if still_open == 1 else 'are'} not over.")
    if found.balanced:
        words.append("Balanced.")
    return words


_MAY_LACK = "the topic has lost records of these days, and whether all of them were booked can't be told"


def _books(days: Sequence[DayReport], now: Now, *, all_signed: bool) -> str:
    differences = sum(len(day.differences) for day in days)
    if differences:
        return f"{counted(differences, 'difference')}{', all signed off' if all_signed else ''}."
    racing = sum(day.books == "not proved" and not day.lost for day in days)
    if racing:
        return f"No differences, but the sums of {counted(racing, 'day')} changed meanwhile: run it again."
    return "Books agree as far as they can be proved." if any(day.lost for day in days) else "Books agree."


def _not_booked(days: Sequence[DayReport], now: Now) -> list[str]:
    incomplete = [day for day in days if day.not_booked]
    if not incomplete:
        return []
    whole = sum_of(day.not_booked for day in incomplete)
    return [f"NOT BOOKED: {whole.in_words()}{_signed(incomplete, now)}."]


def _signed(days: Sequence[DayReport], now: Now) -> str:
    return ", all signed off" if all(is_signed(day, now) for day in days) else ""


def sums_by_status(days: Sequence[DayReport]) -> dict[str, CurrencySums]:
    """Return what is not booked of these days by where it is, in the order of `WHERE`."""
    statuses = {
        status: sum_of(day.unbooked[status] for day in days if status in day.unbooked) for status in OPEN_STATUSES
    }
    return {status: sums for status, sums in statuses.items() if sums}


def colour(found: ReconciliationResult, now: Now) -> str:
    """Return red if books differ, green if all is balanced, and yellow for all between."""
    if unsettled(found, now):
        return "red"
    return "green" if found.balanced else "yellow"


def is_settled(found: ReconciliationResult, now: Now, *, allow_open: bool) -> bool:
    """Return whether nothing is left to do; with `allow_open`, whether no difference is."""
    return not (unsettled(found, now) if allow_open else unbalanced(found, now))


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
