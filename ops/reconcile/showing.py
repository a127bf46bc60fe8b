"""A reconciliation on the screen, and as JSON."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.dlq.showing import console_of
from ops.reconcile.book import Fact, Figures
from ops.reconcile.comparing import MEANING, Account, Day, Difference
from ops.reconcile.naming import in_places
from ops.reconcile.office import Found, Now, unsettled
from streams.letters.days import DayState
from streams.letters.heads import printable
from streams.letters.trail import CLOSED

#: Rows of a table, so that a year of hundreds of stores does not scroll by.
MOST = 50
NO_STORE = "(no store)"


def as_json(found: Found, now: Now) -> Iterator[str]:
    """All of it as one JSON object, piece by piece: of a year of hundreds of stores it is a hundred megabytes."""
    yield f'{{"at": "{found.at.isoformat()}", "balanced": {json.dumps(found.balanced)}, '
    yield f'"unjudged": {_unjudged(found)}, '
    lost, late = (json.dumps(None if day is None else day.isoformat()) for day in (found.reach, found.late))
    yield f'"unsettled": {len(unsettled(found, now))}, "lost_until": {lost}, "late": {late}, "days": ['
    for place, day in enumerate(found.days):
        yield (", " if place else "") + json.dumps(day_as_json(day, now[day.store, day.day]), ensure_ascii=False)
    yield "]}\n"


def day_as_json(day: Day, state: DayState) -> dict[str, Any]:
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
        "differences": [difference_as_json(each) for each in day.differences],
        "dead_letters": [
            {"receipt": each.ref, "letter": each.letter, "gross": in_places(each.gross, each.currency)}
            for each in day.letters
        ],
        "noted": day.noted,
        "gaps": day.gaps,
    }


def account_as_json(account: Account) -> dict[str, Any]:
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


def _figures(figures: Figures, currency: str) -> dict[str, Any]:
    return {
        "receipts": figures.receipts,
        "lines": figures.lines,
        "quantity": _plain(figures.quantity),
        **{name: in_places(getattr(figures, name), currency) for name in ("net", "tax", "gross")},
        "tenders": {kind: in_places(amount, currency) for kind, amount in sorted(figures.tenders.items())},
        "digest": figures.digest,
    }


def difference_as_json(each: Difference) -> dict[str, Any]:
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


def report(found: Found, now: Now, *, everything: bool) -> None:
    """Prints the table, and what differs."""
    console = console_of()
    shown = found.days if everything or len(found.days) <= MOST else [d for d in found.days if _odd(d, now)]
    table = Table(box=None, header_style="bold")
    for name in ("store", "day", "state"):
        table.add_column(name)
    numbers = ("sent", "= ERP", "+ twice", "+ replaced", "+ dead", "+ held", "+ waiting", "+ noted")
    for name in (*numbers, "gross due", "gross ERP", "difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for day in shown[: None if everything else MOST]:
        _add(table, day, now[day.store, day.day])
    console.print(table)
    if len(shown) > MOST and not everything:
        console.print(f"… and {len(shown) - MOST:,} more days; --all shows them, --json has them")
    _report_differences(console, found)
    _report_rest(console, found)
    console.print(_verdict(found, now))


def _odd(day: Day, now: Now) -> bool:
    state = now[day.store, day.day]
    return bool(day.differences) or state.reopened or state.state not in ("balanced", "signed off")


def _add(table: Table, day: Day, state: DayState) -> None:
    for place, account in enumerate(day.accounts):
        head = [printable(day.store) or NO_STORE, day.day, _state(day, state)] if not place else ["", "", ""]
        counts = [
            account.count(),
            account.held.receipts,
            *(account.count(fate) for fate in ("duplicate", "superseded", "dead", "held", "waiting")),
            account.count("noted"),
        ]
        due, held = account.due.gross, account.held.gross
        money = [in_places(amount, account.currency) for amount in (due, held)]
        off = "" if due == held else in_places(held - due, account.currency)
        table.add_row(*head, *(f"{count:,}" if count else "" for count in counts), *money, off, account.currency)


def _state(day: Day, state: DayState) -> str:
    words: str = state.state
    if state.state == "signed off":
        words += f" by {state.by}"
    if day.differences and state.state == "signed off":
        words += " (differs)"
    return words + (" (reopened)" if state.reopened else "")


def _report_differences(console: Console, found: Found) -> None:
    differences = [(day, each) for day in found.days for each in day.differences]
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


def _report_rest(console: Console, found: Found) -> None:
    reasons: dict[str, list[Fact]] = {}
    for each in (each for day in found.days for each in day.letters):
        reasons.setdefault(each.letter.partition(" ")[2], []).append(each)
    if reasons:
        console.print()
        for reason, letters in sorted(reasons.items()):
            money = _money(letters)
            which = "--all" if reason in CLOSED else f"--reason {printable(reason)}"
            said = f"{printable(reason)} ({len(letters):,}{money})"
            console.print(f"in dead letters: {said}: tillstream dlq list {which}")
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
            console.print(
                printable(f"missing at the till: store {day.store}, {day.day}, {gap} never reached the topic")
            )
        if len(gaps) > MOST:
            console.print(f"… and {len(gaps) - MOST:,} more gaps; --json has them all")
    if found.late is not None:
        console.print()
        console.print(f"events of {found.late} came late: tillstream reconcile --since {found.late}")
    if found.reach is not None:
        console.print()
        console.print(f"the topic does not have all of {found.reach} and before any more: those days can't be judged")


def _money(letters: Sequence[Fact]) -> str:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for each in letters:
        sums[each.currency] += each.gross
    return "".join(f"; {in_places(gross, currency)} {currency}" for currency, gross in sorted(sums.items()) if gross)


def _unjudged(found: Found) -> int:
    """Store-days that it is too early to judge."""
    return sum(day.state in ("open", "closed") for day in found.days)


def _verdict(found: Found, now: Now) -> str:
    if not found.days:
        return "Nothing was sent, and the ERP holds nothing."
    states = Counter(now[day.store, day.day].state for day in found.days)
    said = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    differences = sum(len(day.differences) for day in found.days)
    settled = "" if unsettled(found, now) else ", all signed off"
    unjudged = _unjudged(found)
    agreed = f"No differences, and {counted(unjudged, 'day')} not judged." if unjudged else "Balanced."
    verdict = agreed if found.balanced else f"{counted(differences, 'difference')}{settled}."
    return f"{counted(len(found.days), 'store-day')}: {said}. {verdict}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def report_history(states: Sequence[DayState]) -> None:
    """Prints what was noted of days."""
    table = Table("store", "day", "state", "since", "by", "why", box=None, header_style="bold")
    for each in states:
        words = each.state + (" (reopened)" if each.reopened else "")
        table.add_row(
            printable(each.store) or NO_STORE, each.day, words, f"{each.at:%Y-%m-%d %H:%M:%S}", each.by, each.why
        )
    console_of().print(table)


def _plain(number: Decimal) -> str:
    return format(number.normalize() + 0, "f")


def _moment(milliseconds: int) -> str | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else None
