"""The state of a store's day over time: what changed since it was looked at last, and who signed it off."""

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
#: What figures begin with; those of another version can't be compared, and of before have none.
_VERSION = f"{VERSION}:"
#: Of the ERP's documents these are asked for by `--deep` alone, and personal prints are others in every process.
_NOT_ALWAYS = ("digest", "personal", "unremembered")


def figures_digest(day: DayReport) -> str:
    """A digest of all sums and differences of the day: while it is the same, nothing has come and nothing has gone.

    Dead letters that were parked or resolved count as the dead letters they are: to decide on what was signed off
    changes nothing of it.
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
    """A digest of what the ERP holds of the day."""
    held = [[account.currency, _held(account)] for account in day.accounts if account.held.receipts]
    return sha256(json.dumps(held, default=_plain, sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> str:
    return format(value.normalize(), "f") if hasattr(value, "normalize") else str(value)


def current_state(day: DayReport, past: Sequence[DayState], at: datetime, by: str) -> DayState:
    """The day's state now, given what was noted of it: that one, if nothing has changed.

    A day that was settled (balanced, or differs, or signed off) and has other figures now is reopened: it is
    what it is found to be, and says so until it is signed off again. So is one that was signed off before it was noted
    what is not booked, if something is not.
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
    # Before it was noted what is not booked, `balanced` was said of the books alone.
    if last.figures == figures and last.state == day.state and last.unbooked is not None:
        return last
    # Figures of before were made of less: what was balanced, and does not differ, is not known to have changed.
    same = last.figures == figures or (_has_old_figures(last) and last.state == "balanced" and not day.differences)
    reopened = last.reopened or (last.state in _SETTLED and not same)
    return _as_found(day, at, by, figures, reopened=reopened)


def _as_found(day: DayReport, at: datetime, by: str, figures: str, *, reopened: bool) -> DayState:
    return DayState(
        store=day.store, day=day.day, state=day.state, at=at, by=by, figures=figures, reopened=reopened, **_answers(day)
    )


def _answers(day: DayReport) -> dict[str, Any]:
    """Return both answers about the day, as they are noted."""
    sums = day.not_booked
    amounts = {currency: format_amount(amount.gross, currency) for currency, amount in sorted(sums.amounts.items())}
    unbooked = NotBooked(receipts=sums.receipts, amounts=amounts, others=sums.unknown + sums.booked_otherwise)
    return {"books": day.books, "unbooked": unbooked, "held": held_digest(day)}


def _is_lost_since(day: DayReport, signed: DayState) -> bool:
    """Return whether the day is as it was signed off, but that records of it have left the topic since."""
    return day.lost and not day.differences and signed.held == held_digest(day)


def days_known_to_differ(noted: StateHistory) -> set[tuple[str, str]]:
    """The days that were last noted as different, or signed off with a reason: digests may have shown it, not sums."""
    last = {key: past[-1] for key, past in noted.items()}
    return {key for key, one in last.items() if one.state == "differs" or (one.state == "signed off" and one.why)}


def _has_old_figures(state: DayState) -> bool:
    """Whether a program of before noted the state, whose figures can't be compared with those of today."""
    return not state.figures.startswith(_VERSION)


#: What somebody may have gone by.
_SETTLED = ("balanced", "differs", "signed off")


def sign(day: DayReport, at: datetime, by: str, why: str) -> DayState:
    """The day signed off, as it is: what the ERP holds, what differs, and what is not booked."""
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
