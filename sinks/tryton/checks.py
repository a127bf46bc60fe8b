"""Preflight checks of a Tryton, with advice. Reads only.

A worker starts despite faults that keep only some receipts from being booked, or all from being posted for now.
"""

import re
from datetime import UTC, date, datetime

from sinks.base import PreflightFinding, SinkUnavailable
from sinks.tryton.master_data import CompanyFacts, TrytonMasterData
from sinks.tryton.rpc import TrytonClient

SERIES = "8.2"
#: The first version of the module that knows references from before their parts were escaped.
MODULE = (8, 2, 1)
_INSTALL = (
    "Where Tryton is: pip install deploy/tryton/module; trytond-admin -u tillstream --activate-dependencies; restart."
)


def findings(
    client: TrytonClient, master: TrytonMasterData, default_point: str | None, rounding: str
) -> list[PreflightFinding]:
    """Version, module, rights, and the master data without which nothing could be booked. Raises SinkUnavailable."""
    version = client.version()
    found = [
        PreflightFinding("server", version == SERIES, f"Tryton {version}", f"The module is made for Tryton {SERIES}.")
    ]
    today = datetime.now(UTC).date()
    master.context()  # whether the database is there, and the user
    try:
        facts = master.facts(on=today)
    except SinkUnavailable as error:
        if error.kind not in ("schema", "fault"):
            raise
        return [*found, PreflightFinding("module", False, "tillstream is not active", _INSTALL)]
    found.append(_module(facts.version))
    found.append(PreflightFinding("company", True, f"{facts.company_name}, {facts.currency}"))
    found += [*_rights(facts), *_places(facts, default_point)]
    return [*found, _rounding(master, rounding, today), _period(facts, today)]


def _module(version: str) -> PreflightFinding:
    detail = f"tillstream {version}"
    if tuple(map(int, re.findall("[0-9]+", version)))[:3] >= MODULE:
        return PreflightFinding("module", True, detail)
    advice = f"Upgrade it: receipts with a / that were booked before are not recognised by their reference. {_INSTALL}"
    return PreflightFinding("module", False, detail, advice, vital=False)


def _rights(facts: CompanyFacts) -> list[PreflightFinding]:
    posting = "POS Posting" not in facts.missing_groups
    return [
        PreflightFinding("group POS", "POS" not in facts.missing_groups, "for delivering", "Add the user to it."),
        PreflightFinding(
            "group POS Posting", posting, "for posting", "Add the user that runs `tillstream post`.", vital=False
        ),
    ]


def _places(facts: CompanyFacts, default_point: str | None) -> list[PreflightFinding]:
    points = ", ".join(sorted(facts.points)) or "none"
    found = [
        PreflightFinding("points of sale", bool(facts.points), points, "Create one for each store, with its code.")
    ]
    if default_point is not None:
        there = default_point.casefold() in facts.points
        found.append(PreflightFinding("point=", there, default_point, "No point of sale has this code, nor this name."))
    bare = ", ".join(facts.points_without_return)
    where = f"none at: {bare}" if bare else "everywhere"
    choose = "Choose one at each point of sale: refunds can't be posted without."
    methods = ", ".join(sorted(facts.methods)) or "none"
    return [
        *found,
        PreflightFinding("return location", not bare, where, choose, vital=False),
        PreflightFinding("payment methods", bool(facts.methods), methods, "Create one for each tender, with its code."),
        PreflightFinding(
            "cash", facts.cash, "yes" if facts.cash else "no", "Mark one payment method as cash.", vital=False
        ),
    ]


def _rounding(master: TrytonMasterData, code: str, day: date) -> PreflightFinding:
    item = master.items([code], day).get(code)
    fine = item is not None and not item.rate
    advice = (
        "Add an untaxed service with this code, or name another: ?rounding=CODE. Until then, cash rounding is refused."
    )
    return PreflightFinding("rounding", fine, code if fine else f"no {code}", advice, vital=False)


def _period(facts: CompanyFacts, day: date) -> PreflightFinding:
    detail = "there is one" if facts.has_period else f"none is open on {day}"
    advice = "Create a fiscal year with periods, or reopen one: until then, sales are delivered and not posted."
    return PreflightFinding("fiscal period", facts.has_period, detail, advice, vital=False)
