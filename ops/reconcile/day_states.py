"""The state of a store's day over time: changes since the last reconciliation, and sign-offs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from typing import Any

from ops.reconcile.content import format_amount
from ops.reconcile.store_day import CurrencyTotals, DayReport
from sinks.digests import VERSION
from streams.dead_letters.day_states import DayState, NotBooked

StateHistory = dict[tuple[str, str], list[DayState]]
#: Prefix of figures. Those of another version can't be compared, and older ones have no prefix.
_VERSION = f"{VERSION}:"
#: Only `--deep` fetches these from the ERP, and personal digests differ in every process.
_NOT_ALWAYS = ("digest", "personal", "unremembered")


def figures_digest(day: DayReport) -> str:
    """Return a digest of all sums and differences of the day. While it is the same, nothing has changed.

    Parked and resolved dead letters count as dead letters, so closing them does not reopen a day that is signed off.
    """
    sums = []
    for account in day.accounts:
        due = {name: value for name, value in asdict(account.due).items() if name not in _NOT_ALWAYS[1:]}
        held, counts = _held(account), _counts(account)
        sums.append([account.currency, counts, due, held])
    found = [[one.kind, one.ref, one.detail] for one in day.differences]
    digest = sha256(json.dumps([sums, found], default=_plain, sort_keys=True).encode()).hexdigest()
    return f"{_VERSION}{digest[:32]}"


def _held(account: CurrencyTotals) -> dict[str, Any]:
    return {name: value for name, value in asdict(account.held).items() if name not in _NOT_ALWAYS}


def _counts(account: CurrencyTotals) -> dict[str, int]:
    counts: dict[str, int] = {}
    for status, (count, _) in account.counts.items():
        name = "dead" if status in ("parked", "resolved") else status
        counts[name] = counts.get(name, 0) + count
    return counts


def held_digest(day: DayReport) -> str:
    """Return a digest of the ERP's sums of the day."""
    held = [[account.currency, _held(account)] for account in day.accounts if account.held.receipts]
    return sha256(json.dumps(held, default=_plain, sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> str:
    return format(value.normalize(), "f") if hasattr(value, "normalize") else str(value)


def current_state(day: DayReport, past: Sequence[DayState], at: datetime, by: str) -> DayState:
    """Return the day's current state, given its recorded states: the last of these if nothing has changed.

    A settled day (balanced, differs or signed off) whose figures have changed is reopened: it has the state that was
    found, marked as reopened until it is signed off again. A day is also reopened if it was signed off by a release
    that did not record unbooked receipts, and now has some.
    """
    figures = figures_digest(day)
    last = past[-1] if past else None
    if last is None:
        return _as_found(day, at, by, figures, reopened=False)
    if last.state == "signed off":
        signed_all = last.unbooked is not None or day.is_complete
        if signed_all and (last.figures == figures or _is_lost_since(day, last)):
            return last
        if signed_all and _has_old_figures(last) and not day.differences:
            return last.model_copy(update={"figures": figures, **_answers(day)})
        return _as_found(day, at, by, figures, reopened=True)
    # Releases that did not record unbooked receipts called a day `balanced` if only its books agreed.
    if last.figures == figures and last.state == day.state and last.unbooked is not None:
        return last
    # Old figures cover fewer fields: a balanced day that does not differ is not known to have changed.
    same = last.figures == figures or (_has_old_figures(last) and last.state == "balanced" and not day.differences)
    reopened = last.reopened or (last.state in _SETTLED and not same)
    return _as_found(day, at, by, figures, reopened=reopened)


def _as_found(day: DayReport, at: datetime, by: str, figures: str, *, reopened: bool) -> DayState:
    return DayState(
        store=day.store, day=day.day, state=day.state, at=at, by=by, figures=figures, reopened=reopened, **_answers(day)
    )


def _answers(day: DayReport) -> dict[str, Any]:
    """Return the answers to both questions about the day, as they are recorded."""
    sums = day.not_booked
    amounts = {currency: format_amount(amount.gross, currency) for currency, amount in sorted(sums.amounts.items())}
    unbooked = NotBooked(receipts=sums.receipts, amounts=amounts, others=sums.unknown + sums.booked_otherwise)
    return {"books": day.books, "unbooked": unbooked, "held": held_digest(day)}


def _is_lost_since(day: DayReport, signed: DayState) -> bool:
    """Return whether the day is as it was signed off, except that records have left the topic since."""
    return day.lost and not day.differences and signed.held == held_digest(day)


def days_known_to_differ(noted: StateHistory) -> set[tuple[str, str]]:
    """Return the days last recorded as different, or signed off with a reason: only digests may show why."""
    last = {key: past[-1] for key, past in noted.items()}
    return {key for key, one in last.items() if one.state == "differs" or (one.state == "signed off" and one.why)}


def _has_old_figures(state: DayState) -> bool:
    """Return whether an earlier release recorded the state: its figures can't be compared with today's."""
    return not state.figures.startswith(_VERSION)


#: States that somebody may have relied on.
_SETTLED = ("balanced", "differs", "signed off")


def sign(day: DayReport, at: datetime, by: str, why: str) -> DayState:
    """Return the state of the day signed off as it is: the ERP's sums, the differences and the unbooked receipts."""
    return DayState(
        store=day.store,
        day=day.day,
        state="signed off",
        at=at,
        by=by,
        figures=figures_digest(day),
        why=why,
        **_answers(day),
    )
