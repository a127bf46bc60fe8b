"""The state of a store's day over time: what changed since it was looked at last, and who signed it off."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256

from ops.reconcile.comparing import Day
from sinks.prints import VERSION
from streams.letters.days import DayState

Noted = dict[tuple[str, str], list[DayState]]
#: What figures begin with; those of another version can't be compared, and of before have none.
_VERSION = f"{VERSION}:"
#: Of the ERP's documents these are asked for by `--deep` alone, and personal prints are others in every process.
_NOT_ALWAYS = ("digest", "personal", "unremembered")


def figures_digest(day: Day) -> str:
    """A digest of all sums and differences of the day: while it is the same, nothing has come and nothing has gone."""
    sums = []
    for account in day.accounts:
        due = {name: value for name, value in asdict(account.due).items() if name not in _NOT_ALWAYS[1:]}
        held = {name: value for name, value in asdict(account.held).items() if name not in _NOT_ALWAYS}
        counts = {fate: count for fate, (count, _) in sorted(account.counts.items())}
        sums.append([account.currency, counts, due, held])
    found = [[one.kind, one.ref, one.detail] for one in day.differences]
    digest = sha256(json.dumps([sums, found], default=_plain, sort_keys=True).encode()).hexdigest()
    return f"{_VERSION}{digest[:32]}"


def _plain(value: object) -> str:
    return format(value.normalize(), "f") if hasattr(value, "normalize") else str(value)


def now_is(day: Day, past: Sequence[DayState], at: datetime, by: str) -> DayState:
    """The day's state now, given what was noted of it: that one, if nothing has changed.

    A day that was settled (balanced, or differs, or signed off) and has other figures now is reopened: it is what it
    is found to be, and says so until it is signed off again.
    """
    figures = figures_digest(day)
    last = past[-1] if past else None
    if last is not None and last.figures == figures and last.state in (day.state, "signed off"):
        return last
    if last is not None and _is_as_before(day, last):
        return last.model_copy(update={"figures": figures})
    reopened = last is not None and (last.reopened or (last.state in _SETTLED and last.figures != figures))
    return DayState(store=day.store, day=day.day, state=day.state, at=at, by=by, figures=figures, reopened=reopened)


def known_to_differ(noted: Noted) -> set[tuple[str, str]]:
    """The days that were last noted as different, or signed off with a reason: digests may have shown it, not sums."""
    last = {key: past[-1] for key, past in noted.items()}
    return {key for key, one in last.items() if one.state == "differs" or (one.state == "signed off" and one.why)}


def _is_as_before(day: Day, last: DayState) -> bool:
    """Whether a day that a program of before noted has its state still, as far as can be told: nothing differs."""
    noted_before = not last.figures.startswith(_VERSION)
    return noted_before and not day.differences and last.state in (day.state, "signed off")


#: What somebody may have gone by.
_SETTLED = ("balanced", "differs", "signed off")


def sign(day: Day, at: datetime, by: str, why: str) -> DayState:
    """The day signed off, as it is."""
    return DayState(
        store=day.store, day=day.day, state="signed off", at=at, by=by, figures=figures_digest(day), why=why
    )
