"""What a preflight says about a Tryton, and what to do. Reads only."""

from datetime import UTC, datetime

from sinks.base import Finding, SinkUnavailable
from sinks.tryton_master import Facts, MasterData
from sinks.tryton_rpc import TrytonClient

SERIES = "8.2"


def findings(client: TrytonClient, master: MasterData, default_point: str | None, rounding: str) -> list[Finding]:
    """Version, module, rights, and the master data without which nothing could be booked. Raises SinkUnavailable."""
    version = client.version()
    found = [Finding("server", version == SERIES, f"Tryton {version}", f"The module is made for Tryton {SERIES}.")]
    today = datetime.now(UTC).date()
    try:
        facts = master.facts(on=today)
    except SinkUnavailable as error:
        if error.kind not in ("schema", "fault"):
            raise
        install = (
            "pip install deploy/tryton/module where Tryton is, and trytond-admin -u tillstream --activate-dependencies"
        )
        return [*found, Finding("module", False, "tillstream is not active", f"To activate it: {install}.")]
    found.append(Finding("module", True, f"tillstream {facts.version}"))
    found.append(Finding("company", True, f"{facts.company_name}, {facts.currency}"))
    found += _rights_and_books(facts, default_point)
    item = master.items([rounding], today).get(rounding)
    fine = item is not None and not item.rate
    add = (
        f"Add an untaxed service with the code {rounding}, or name another: ?rounding=CODE. Until then, receipts with "
    )
    add += "cash rounding are dead letters."
    found.append(Finding("rounding", fine, rounding if fine else f"no {rounding}", add))
    period = "there is one" if facts.has_period else f"none is open on {today}"
    found.append(
        Finding("fiscal period", facts.has_period, period, "Create a fiscal year with periods, or reopen one.")
    )
    return found


def _rights_and_books(facts: Facts, default_point: str | None) -> list[Finding]:
    missing = ", ".join(facts.missing_groups)
    found = [Finding("groups", not missing, f"not in: {missing}" if missing else "POS, POS Posting", "Add the user.")]
    points = ", ".join(sorted(facts.points)) or "none"
    found.append(Finding("points of sale", bool(facts.points), points, "Create one for each store, with its code."))
    if default_point is not None:
        there = default_point.casefold() in facts.points
        found.append(Finding("point=", there, default_point, "No point of sale has this code, nor this name."))
    bare = ", ".join(facts.points_without_return)
    found.append(
        Finding(
            "return location",
            not bare,
            f"none at: {bare}" if bare else "everywhere",
            "Choose one at each point of sale: refunds can't be posted without.",
        )
    )
    methods = ", ".join(sorted(facts.methods)) or "none"
    found.append(Finding("payment methods", bool(facts.methods), methods, "Create one for each tender, with its code."))
    found.append(Finding("cash", facts.cash, "yes" if facts.cash else "no", "Mark one payment method as cash."))
    return found
