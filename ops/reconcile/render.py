"""The result of a reconciliation on the screen, and as JSON."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.dlq.render import table_console
from ops.reconcile.completeness import sum_of
from ops.reconcile.content import format_amount
from ops.reconcile.rows import EventRow, ReceiptFigures
from ops.reconcile.run import ReconciliationResult, StatesByDay, unbalanced
from ops.reconcile.store_day import MEANING, CurrencyTotals, DayDifference, DayReport
from ops.reconcile.verdict import STATUS_LOCATIONS, colour, counted, sums_by_status, verdict
from streams.dead_letters.audit import CLOSED
from streams.dead_letters.day_states import DayState
from streams.dead_letters.header import printable

#: Rows of a table: a year of hundreds of stores would scroll by.
MAX_ROWS = 50
NO_STORE = "(no store)"


def as_json(result: ReconciliationResult, states: StatesByDay) -> Iterator[str]:
    """Yield the result as one JSON object in pieces: a year of hundreds of stores takes a hundred megabytes."""
    head = {"at": result.at.isoformat(), "balanced": result.balanced} | _answers(result) | {
        "verdict": verdict(result, states),
        "unjudged": sum(day.state in ("open", "unproved") for day in result.days),
        "unsettled": len(unbalanced(result, states)),
        "lost_until": None if result.reach is None else result.reach.isoformat(),
        "late": None if result.late is None else result.late.isoformat(),
        "without_a_day": None if result.unplaced is None else answers_as_json(result.unplaced),
    }  # fmt: skip
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "days": ['
    for place, day in enumerate(result.days):
        yield (", " if place else "") + json.dumps(day_as_json(day, states[day.store, day.day]), ensure_ascii=False)
    yield "]}\n"


def _answers(result: ReconciliationResult) -> dict[str, Any]:
    """Return the answers to both questions about all days together."""
    books = {day.books for day in result.all}
    days = result.all
    return {
        "books": next((word for word in ("differ", "not proved") if word in books), "agree"),
        "complete": all(day.is_complete for day in days),
        "unbooked": sum_of(day.not_booked for day in days).as_json(),
        "resolved": sum_of(day.resolved for day in days).as_json(),
        "unproved": sum_of(day.unproved for day in days).as_json(),
    }


def answers_as_json(day: DayReport) -> dict[str, Any]:
    """Return the answers to both questions about a day: do the books agree, and is everything booked?"""
    return {
        "books": day.books,
        "complete": day.is_complete,
        "unbooked": day.not_booked.as_json()
        | {"by_fate": {status: sums.as_json() for status, sums in sums_by_status([day]).items()}},
        "resolved": day.resolved.as_json(),
        "records_lost": day.lost,
        "unproved": day.unproved.as_json(),
        "differences": [difference_as_json(each) for each in day.differences],
    }


def day_as_json(day: DayReport, state: DayState) -> dict[str, Any]:
    """Return a store's day as JSON."""
    return {
        "store": day.store,
        "day": day.day,
        "state": state.state,
        "since": state.at.isoformat(),
        "by": state.by,
        "why": state.why,
        "reopened": state.reopened,
        "last_arrival": _moment(day.arrived),
        "accounts": [account_as_json(account) for account in day.accounts],
        **answers_as_json(day),
        "dead_letters": [_dead_letter_as_json(each) for each in day.dead_letters],
        "noted": day.skipped,
        "gaps": day.gaps,
    }


def _dead_letter_as_json(each: EventRow) -> dict[str, Any]:
    gross = format_amount(each.gross, each.currency) if each.has_gross else None
    closed = (
        {"closed_by": each.closed_by, "closed_why": each.closed_why} if each.status in ("parked", "resolved") else {}
    )
    return {"receipt": each.ref, "letter": each.dead_letter, "fate": each.status, "gross": gross} | closed


def account_as_json(account: CurrencyTotals) -> dict[str, Any]:
    """Return a store's day in one currency as JSON."""
    counts = {status: count for status, (count, _) in sorted(account.counts.items())}
    money = {status: format_amount(gross, account.currency) for status, (_, gross) in sorted(account.counts.items())}
    return {
        "currency": account.currency,
        "events": account.count(),
        "by_fate": counts,
        "gross_by_fate": money,
        "sent": _figures(account.due, account.currency),
        "erp": _figures(account.held, account.currency),
        "agrees": account.agrees,
        **({"accepted": account.accepted} if account.accepted else {}),
    }


def _figures(figures: ReceiptFigures, currency: str) -> dict[str, Any]:
    return {
        "receipts": figures.receipts,
        "lines": figures.lines,
        "quantity": _plain(figures.quantity),
        **{name: format_amount(getattr(figures, name), currency) for name in ("net", "tax", "gross")},
        "tenders": {kind: format_amount(amount, currency) for kind, amount in sorted(figures.tenders.items())},
        "digest": figures.digest,
    }


def difference_as_json(each: DayDifference) -> dict[str, Any]:
    """Return a difference as JSON."""
    return {
        "kind": each.kind,
        "meaning": MEANING[each.kind],
        "receipt": each.ref,
        "detail": each.detail,
        "place": each.place,
        "sent": None if each.sent is None else format_amount(each.sent, each.currency),
        "erp": None if each.held is None else format_amount(each.held, each.currency),
        "repair": each.repair,
    }


def report(result: ReconciliationResult, states: StatesByDay, *, everything: bool) -> None:
    """Print the table, the differences and the verdict."""
    console = table_console()
    shown = (
        result.days
        if everything or len(result.days) <= MAX_ROWS
        else [d for d in result.days if _needs_attention(d, states)]
    )
    table = Table(box=None, header_style="bold")
    for name in ("store", "day", "state"):
        table.add_column(name)
    rare = [status for status in _RARE_STATUSES if any(day.count(status) for day in result.days)]
    statuses = ["duplicate", "superseded", "dead", "held", *rare, "waiting", "noted"]
    numbers = ("sent", "= ERP", *(f"+ {_COLUMNS.get(status, status)}" for status in statuses))
    for name in (*numbers, "gross due", "gross ERP", "difference", "not booked"):
        table.add_column(name, justify="right")
    table.add_column("")
    for day in shown[: None if everything else MAX_ROWS]:
        _add(table, day, states[day.store, day.day], statuses)
    console.print(table)
    if len(shown) > MAX_ROWS and not everything:
        console.print(f"… and {len(shown) - MAX_ROWS:,} more days; --all shows them, --json has them")
    _report_differences(console, result)
    _report_rest(console, result)
    console.print()
    for status, sums in sums_by_status(result.all).items():
        console.print(f"not booked, {STATUS_LOCATIONS[status]}: {sums.in_words()}", soft_wrap=True)
    console.print(verdict(result, states), style=colour(result, states), soft_wrap=True)


#: Column headings that are not the status itself.
_COLUMNS = {"duplicate": "duplicates", "superseded": "replaced", "noted": "skipped"}
#: Statuses that have a column only if they occur.
_RARE_STATUSES = ("parked", "resolved", "refused", "vanished")


def _needs_attention(day: DayReport, states: StatesByDay) -> bool:
    state = states[day.store, day.day]
    return bool(day.differences) or state.reopened or state.state not in ("balanced", "signed off")


def _add(table: Table, day: DayReport, state: DayState, statuses: Sequence[str]) -> None:
    not_booked = day.not_booked.amounts
    for place, account in enumerate(day.accounts):
        head = [printable(day.store) or NO_STORE, day.day, _state(day, state)] if not place else ["", "", ""]
        counts = [
            account.count(),
            account.held.receipts,
            *(account.count(status) for status in statuses),
        ]
        left = not_booked.get(account.currency)
        due, held = account.due.gross, account.held.gross
        money = [format_amount(amount, account.currency) for amount in (due, held)]
        off = "" if due == held else format_amount(held - due, account.currency)
        missing = "" if left is None else format_amount(left.gross, account.currency)
        shown = (f"{count:,}" if count else "" for count in counts)
        table.add_row(*head, *shown, *money, off, missing, account.currency)


def _state(day: DayReport, state: DayState) -> str:
    words: str = state.state
    if state.state == "signed off":
        words += f" by {state.by}"
    if state.state == "signed off" and day.is_wrong:
        books = {"differ": "differs", "not proved": "not proved", "agree": ""}[day.books]
        words += f" ({', '.join(filter(None, (books, 'not booked' if day.not_booked else '')))})"
    return words + (" (reopened)" if state.reopened else "")


def _report_differences(console: Console, result: ReconciliationResult) -> None:
    differences = [(day, each) for day in result.all for each in day.differences]
    if not differences:
        return
    kinds = Counter(each.kind for _, each in differences)
    table = Table(box=None, header_style="bold")
    for name in ("what", "receipt", "record", "sent", "ERP", "detail", "to repair"):
        table.add_column(name, justify="right" if name in ("sent", "ERP") else "left", overflow="fold")
    for _, each in differences[:MAX_ROWS]:
        amounts = ["" if a is None else format_amount(a, each.currency) for a in (each.sent, each.held)]
        table.add_row(each.kind, printable(each.ref), each.place, *amounts, *map(printable, (each.detail, each.repair)))
    console.print()
    console.print(table)
    if len(differences) > MAX_ROWS:
        console.print(f"… and {len(differences) - MAX_ROWS:,} more; --json has them all")
    console.print()
    for kind, count in sorted(kinds.items()):
        console.print(f"{kind}: {MEANING[kind]} ({count:,})")


def _report_rest(console: Console, result: ReconciliationResult) -> None:
    _report_dead_letters(console, [each for day in result.all for each in day.dead_letters])
    skipped: Counter[str] = Counter()
    for day in result.days:
        skipped.update(day.skipped)
    if skipped:
        console.print()
        for why, count in sorted(skipped.items()):
            console.print(f"skipped, no document is due: {why} ({count:,})")
    gaps = [(day, gap) for day in result.days for gap in day.gaps]
    if gaps:
        console.print()
        for day, gap in gaps[:MAX_ROWS]:
            where = f"store {day.store}, {day.day}, {gap}"
            console.print(printable(f"missing at the till, or in a record that can't be read: {where}"))
        if len(gaps) > MAX_ROWS:
            console.print(f"… and {counted(len(gaps) - MAX_ROWS, 'more gap')}; --json has them all")
    if result.late is not None:
        console.print()
        console.print(f"events of {result.late} arrived late: tillstream reconcile --since {result.late}")
    if result.reach is not None:
        console.print()
        console.print(f"the topic has lost records of {result.reach} and earlier days")
        for day in [day for day in result.days if day.unproved][:MAX_ROWS]:
            where = f"store {day.store}, {day.day}: {day.unproved.in_words()} can't be proved"
            console.print(printable(f"{where}: their records have left the topic"), soft_wrap=True)


def _report_dead_letters(console: Console, letters: Sequence[EventRow]) -> None:
    """Print the dead letters by reason; for those that a person closed, by whom and why."""
    groups: dict[tuple[str, str, str, str], list[EventRow]] = {}
    for each in letters:
        by_hand = (each.closed_by, each.closed_why) if each.status in CLOSED else ("", "")
        groups.setdefault((each.status, each.dead_letter.partition(" ")[2], *by_hand), []).append(each)
    if groups:
        console.print()
    for (status, reason, by, why), of_it in sorted(groups.items()):
        closed = status in CLOSED
        which = "--all" if closed or reason in CLOSED else f"--reason {printable(reason)}"
        head = f"dead letters, {status}{f' by {printable(by)}' if by else ''}" if closed else "in dead letters"
        because = f" ({printable(why)})" if why else ""
        what = f"{printable(reason)} ({len(of_it):,}{_money(of_it)})"
        console.print(f"{head}{because}: {what}: tillstream dlq list {which}")


def _money(letters: Sequence[EventRow]) -> str:
    """Return the gross by currency. A receipt counts once, as its latest revision."""
    latest: dict[tuple[str, str], EventRow] = {}
    for each in sorted(letters, key=lambda event: (event.revision, event.arrived)):
        if each.has_gross and each.currency:
            latest[each.ref, each.currency] = each
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for each in latest.values():
        sums[each.currency] += each.gross
    return "".join(
        f"; {format_amount(gross, currency)} {currency}" for currency, gross in sorted(sums.items()) if gross
    )


def report_history(states: Sequence[DayState]) -> None:
    """Print the recorded states of days."""
    table = Table("store", "day", "state", "not booked", "since", "by", "why", box=None, header_style="bold")
    for each in states:
        words = each.state + (" (reopened)" if each.reopened else "")
        table.add_row(
            *(printable(each.store) or NO_STORE, each.day, words, _not_booked(each)),
            *(f"{each.at:%Y-%m-%d %H:%M:%S}", each.by, each.why),
        )
    table_console().print(table)


def _not_booked(state: DayState) -> str:
    if state.unbooked is None:
        return "not recorded"  # by an earlier release, which did not ask
    amounts = [f"{amount} {currency}" for currency, amount in state.unbooked.amounts.items()]
    others = [counted(state.unbooked.others, "record")] if state.unbooked.others else []
    return ", ".join(amounts + others)


def _plain(number: Decimal) -> str:
    return format(number.normalize() + 0, "f")


def _moment(milliseconds: int) -> str | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else None
