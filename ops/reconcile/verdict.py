"""The verdict on a reconciliation, in sentences: do the books agree, and is everything booked?"""

from collections import Counter
from collections.abc import Sequence

from ops.reconcile.completeness import OPEN_STATUSES, CurrencySums, sum_of
from ops.reconcile.run import ReconciliationResult, StatesByDay, is_signed, unbalanced, unsettled
from ops.reconcile.store_day import DayReport

#: Where receipts are that are not booked.
STATUS_LOCATIONS = {
    "dead": "in dead letters",
    "held": "held by a cleaning rule",
    "parked": "parked",
    "waiting": "waiting for the worker",
}


def verdict(result: ReconciliationResult, states: StatesByDay) -> str:
    """Return the verdict on all days as one line of sentences."""
    if not result.days and result.unplaced is None:
        return "Nothing was sent, and the ERP holds nothing."
    counts = Counter(states[day.store, day.day].state for day in result.days)
    by_state = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    days = f"{counted(len(result.days), 'store-day')}: {by_state}. " if result.days else ""
    return days + " ".join(sentences(result, states))


def sentences(result: ReconciliationResult, states: StatesByDay) -> list[str]:
    """Return the answers to both questions, a sentence each, and `Balanced.` if every day is."""
    days = result.all
    words = [_books(days, states, all_signed=not unsettled(result, states))]
    lost = [day for day in days if day.lost]
    if lost:
        unproved = sum_of(day.unproved for day in lost)
        amount = f"{unproved.in_words()}, whose records have left the topic" if unproved else _RECORDS_LOST
        words.append(f"NOT PROVED: {amount}{_signed(lost, states)}.")
    words += _not_booked(days, states)
    resolved = sum_of(day.resolved for day in days)
    if resolved:
        words.append(f"Resolved by hand, not to be booked: {resolved.in_words()}.")
    still_open = sum(day.state == "open" for day in days)
    if still_open:
        words.append(f"{counted(still_open, 'business day')} {'is' if still_open == 1 else 'are'} not over yet.")
    if result.balanced:
        words.append("Balanced.")
    return words


_RECORDS_LOST = "the topic has lost records of these days, so it is unknown whether all of them were booked"


def _books(days: Sequence[DayReport], states: StatesByDay, *, all_signed: bool) -> str:
    differences = sum(len(day.differences) for day in days)
    if differences:
        return f"{counted(differences, 'difference')}{', all signed off' if all_signed else ''}."
    racing = sum(day.books == "not proved" and not day.lost for day in days)
    if racing:
        return f"No differences, but the sums of {counted(racing, 'day')} changed during the run. Run it again."
    return "Books agree as far as can be proved." if any(day.lost for day in days) else "Books agree."


def _not_booked(days: Sequence[DayReport], states: StatesByDay) -> list[str]:
    incomplete = [day for day in days if day.not_booked]
    if not incomplete:
        return []
    whole = sum_of(day.not_booked for day in incomplete)
    return [f"NOT BOOKED: {whole.in_words()}{_signed(incomplete, states)}."]


def _signed(days: Sequence[DayReport], states: StatesByDay) -> str:
    return ", all signed off" if all(is_signed(day, states) for day in days) else ""


def sums_by_status(days: Sequence[DayReport]) -> dict[str, CurrencySums]:
    """Return the sums that these days have not booked by status, in the order of `STATUS_LOCATIONS`."""
    statuses = {
        status: sum_of(day.unbooked[status] for day in days if status in day.unbooked) for status in OPEN_STATUSES
    }
    return {status: sums for status, sums in statuses.items() if sums}


def colour(result: ReconciliationResult, states: StatesByDay) -> str:
    """Return red if books differ, green if every day is balanced, yellow otherwise."""
    if unsettled(result, states):
        return "red"
    return "green" if result.balanced else "yellow"


def is_settled(result: ReconciliationResult, states: StatesByDay, *, allow_open: bool) -> bool:
    """Return whether nothing is left to do. With `allow_open` only unsigned differences count."""
    return not (unsettled(result, states) if allow_open else unbalanced(result, states))


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
