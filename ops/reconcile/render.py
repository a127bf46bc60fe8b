"""A reconciliation on the screen, and as JSON."""

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
from ops.reconcile.content import in_places
from ops.reconcile.rows import EventRow, ReceiptFigures
from ops.reconcile.run import Now, ReconciliationResult, unbalanced
from ops.reconcile.store_day import MEANING, CurrencyTotals, DayDifference, DayReport
from ops.reconcile.verdict import WHERE, colour, counted, sums_by_fate, verdict
from streams.dead_letters.audit import CLOSED
from streams.dead_letters.day_states import DayState
from streams.dead_letters.header import printable

#: Rows of a table, so that a year of hundreds of stores does not scroll by.
MOST = 50
NO_STORE = "(no store)"


def as_json(found: ReconciliationResult, now: Now) -> Iterator[str]:
    """All of it as one JSON object, piece by piece: of a year of hundreds of stores it is a hundred megabytes."""
    head = {"at": found.at.isoformat(), "balanced": found.balanced} | _answers(found) | {
        "verdict": verdict(found, now),
        "unjudged": sum(day.state in ("open", "unproved") for day in found.days),
        "unsettled": len(unbalanced(found, now)),
        "lost_until": None if found.reach is None else found.reach.isoformat(),
        "late": None if found.late is None else found.late.isoformat(),
        "without_a_day": None if found.unplaced is None else answers_as_json(found.unplaced),
    }  # fmt: skip
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "days": ['
    for place, day in enumerate(found.days):
        yield (", " if place else "") + json.dumps(day_as_json(day, now[day.store, day.day]), ensure_ascii=False)
    yield "]}\n"


def _answers(found: ReconciliationResult) -> dict[str, Any]:
    """Return both answers about all days."""
    books = {day.books for day in found.all}
    days = found.all
    return {
        "books": next((word for word in ("differ", "not proved") if word in books), "agree"),
        "complete": all(day.is_complete for day in days),
        "unbooked": sum_of(day.not_booked for day in days).as_json(),
        "resolved": sum_of(day.resolved for day in days).as_json(),
        "unproved": sum_of(day.unproved for day in days).as_json(),
    }


def answers_as_json(day: DayReport) -> dict[str, Any]:
    """Return both answers about a day: whether the books agree, and what is not booked."""
    return {
        "books": day.books,
        "complete": day.is_complete,
        "unbooked": day.not_booked.as_json()
        | {"by_fate": {fate: sums.as_json() for fate, sums in sums_by_fate([day]).items()}},
        "resolved": day.resolved.as_json(),
        "records_lost": day.lost,
        "unproved": day.unproved.as_json(),
        "differences": [difference_as_json(each) for each in day.differences],
    }


def day_as_json(day: DayReport, state: DayState) -> dict[str, Any]:
    """A store's day."""
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
        "dead_letters": [_letter_as_json(each) for each in day.letters],
        "noted": day.noted,
        "gaps": day.gaps,
    }


def _letter_as_json(each: EventRow) -> dict[str, Any]:
    gross = in_places(each.gross, each.currency) if each.has_gross else None
    closed = {"closed_by": each.closed_by, "closed_why": each.closed_why} if each.fate in ("parked", "resolved") else {}
    return {"receipt": each.ref, "letter": each.letter, "fate": each.fate, "gross": gross} | closed


def account_as_json(account: CurrencyTotals) -> dict[str, Any]:
    """A store's day in one currency."""
    counts = {fate: count for fate, (count, _) in sorted(account.counts.items())}
    money = {fate: in_places(gross, account.currency) for fate, (_, gross) in sorted(account.counts.items())}
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
        **{name: in_places(getattr(figures, name), currency) for name in ("net", "tax", "gross")},
        "tenders": {kind: in_places(amount, currency) for kind, amount in sorted(figures.tenders.items())},
        "digest": figures.digest,
    }


def difference_as_json(each: DayDifference) -> dict[str, Any]:
    """A difference."""
    return {
        "kind": each.kind,
        "meaning": MEANING[each.kind],
        "receipt": each.ref,
        "detail": each.detail,
        "place": each.place,
        "sent": None if each.sent is None else in_places(each.sent, each.currency),
        "erp": None if each.held is None else in_places(each.held, each.currency),
        "repair": each.repair,
    }


def report(found: ReconciliationResult, now: Now, *, everything: bool) -> None:
    """Prints the table, and what differs."""
    console = table_console()
    shown = found.days if everything or len(found.days) <= MOST else [d for d in found.days if _odd(d, now)]
    table = Table(box=None, header_style="bold")
    for name in ("store", "day", "state"):
        table.add_column(name)
    seldom = [fate for fate in _SELDOM if any(day.count(fate) for day in found.days)]
    fates = ["duplicate", "superseded", "dead", "held", *seldom, "waiting", "noted"]
    numbers = ("sent", "= ERP", *(f"+ {_COLUMNS.get(fate, fate)}" for fate in fates))
    for name in (*numbers, "gross due", "gross ERP", "difference", "not booked"):
        table.add_column(name, justify="right")
    table.add_column("")
    for day in shown[: None if everything else MOST]:
        _add(table, day, now[day.store, day.day], fates)
    console.print(table)
    if len(shown) > MOST and not everything:
        console.print(f"… and {len(shown) - MOST:,} more days; --all shows them, --json has them")
    _report_differences(console, found)
    _report_rest(console, found)
    console.print()
    for fate, sums in sums_by_fate(found.all).items():
        console.print(f"not booked, {WHERE[fate]}: {sums.in_words()}", soft_wrap=True)
    console.print(verdict(found, now), style=colour(found, now), soft_wrap=True)


#: Heads of the columns, where they are not the fate itself.
_COLUMNS = {"duplicate": "twice", "superseded": "replaced"}
#: Fates that have a column only where there are some.
_SELDOM = ("parked", "resolved", "refused", "vanished")


def _odd(day: DayReport, now: Now) -> bool:
    state = now[day.store, day.day]
    return bool(day.differences) or state.reopened or state.state not in ("balanced", "signed off")


def _add(table: Table, day: DayReport, state: DayState, fates: Sequence[str]) -> None:
    not_booked = day.not_booked.amounts
    for place, account in enumerate(day.accounts):
        head = [printable(day.store) or NO_STORE, day.day, _state(day, state)] if not place else ["", "", ""]
        counts = [
            account.count(),
            account.held.receipts,
            *(account.count(fate) for fate in fates),
        ]
        left = not_booked.get(account.currency)
        due, held = account.due.gross, account.held.gross
        money = [in_places(amount, account.currency) for amount in (due, held)]
        off = "" if due == held else in_places(held - due, account.currency)
        missing = "" if left is None else in_places(left.gross, account.currency)
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


def _report_differences(console: Console, found: ReconciliationResult) -> None:
    differences = [(day, each) for day in found.all for each in day.differences]
    if not differences:
        return
    kinds = Counter(each.kind for _, each in differences)
    table = Table(box=None, header_style="bold")
    for name in ("what", "receipt", "record", "sent", "ERP", "detail", "to repair"):
        table.add_column(name, justify="right" if name in ("sent", "ERP") else "left", overflow="fold")
    for _, each in differences[:MOST]:
        amounts = ["" if a is None else in_places(a, each.currency) for a in (each.sent, each.held)]
        table.add_row(each.kind, printable(each.ref), each.place, *amounts, *map(printable, (each.detail, each.repair)))
    console.print()
    console.print(table)
    if len(differences) > MOST:
        console.print(f"… and {len(differences) - MOST:,} more; --json has them all")
    console.print()
    for kind, count in sorted(kinds.items()):
        console.print(f"{kind}: {MEANING[kind]} ({count:,})")


def _report_rest(console: Console, found: ReconciliationResult) -> None:
    _report_letters(console, [each for day in found.all for each in day.letters])
    noted: Counter[str] = Counter()
    for day in found.days:
        noted.update(day.noted)
    if noted:
        console.print()
        for why, count in sorted(noted.items()):
            console.print(f"noted, and no document is made of it: {why} ({count:,})")
    gaps = [(day, gap) for day in found.days for gap in day.gaps]
    if gaps:
        console.print()
        for day, gap in gaps[:MOST]:
            where = f"store {day.store}, {day.day}, {gap}"
            console.print(printable(f"missing at the till, or in a record that can't be read: {where}"))
        if len(gaps) > MOST:
            console.print(f"… and {len(gaps) - MOST:,} more gaps; --json has them all")
    if found.late is not None:
        console.print()
        console.print(f"events of {found.late} came late: tillstream reconcile --since {found.late}")
    if found.reach is not None:
        console.print()
        console.print(f"the topic has lost records of {found.reach} and before")
        for day in [day for day in found.days if day.unproved][:MOST]:
            where = f"store {day.store}, {day.day}: {day.unproved.in_words()} of this day cannot be proved"
            console.print(printable(f"{where}: their records have left the topic"), soft_wrap=True)


def _report_letters(console: Console, letters: Sequence[EventRow]) -> None:
    """Print the dead letters by reason, and who has closed those that were closed by hand, and why."""
    groups: dict[tuple[str, str, str, str], list[EventRow]] = {}
    for each in letters:
        by_hand = (each.closed_by, each.closed_why) if each.fate in CLOSED else ("", "")
        groups.setdefault((each.fate, each.letter.partition(" ")[2], *by_hand), []).append(each)
    if groups:
        console.print()
    for (fate, reason, by, why), of_it in sorted(groups.items()):
        closed = fate in CLOSED
        which = "--all" if closed or reason in CLOSED else f"--reason {printable(reason)}"
        head = f"dead letters, {fate}{f' by {printable(by)}' if by else ''}" if closed else "in dead letters"
        because = f" ({printable(why)})" if why else ""
        what = f"{printable(reason)} ({len(of_it):,}{_money(of_it)})"
        console.print(f"{head}{because}: {what}: tillstream dlq list {which}")


def _money(letters: Sequence[EventRow]) -> str:
    """Return the gross by currency; a receipt counts once, by its latest revision."""
    latest: dict[tuple[str, str], EventRow] = {}
    for each in sorted(letters, key=lambda fact: (fact.revision, fact.arrived)):
        if each.has_gross and each.currency:
            latest[each.ref, each.currency] = each
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for each in latest.values():
        sums[each.currency] += each.gross
    return "".join(f"; {in_places(gross, currency)} {currency}" for currency, gross in sorted(sums.items()) if gross)


def report_history(states: Sequence[DayState]) -> None:
    """Prints what was noted of days."""
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
        return "not recorded"  # noted when this was no question
    amounts = [f"{amount} {currency}" for currency, amount in state.unbooked.amounts.items()]
    others = [counted(state.unbooked.others, "record")] if state.unbooked.others else []
    return ", ".join(amounts + others)


def _plain(number: Decimal) -> str:
    return format(number.normalize() + 0, "f")


def _moment(milliseconds: int) -> str | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else None
