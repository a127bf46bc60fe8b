"""What each cleaning rule finds, and what each policy makes of it."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from schemas.mapping import CleaningRules
from streams.cleaning.rules import REASONS
from tests.support.events import NOON, event
from tests.support.mapping import evaluated, mapped, outcome, refused, table_mapper

LINE = event()["lines"][0]
APPLE = [{"sku": "A", "list_price": "1.50", "description": "Boskoop"}]
STORES = [{"store": "S1", "currency": "CHF"}]


def receipt(gross: str, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Changes that make a receipt of these lines, not paid yet."""
    return {"lines": list(lines), "tenders": [], "totals": {"gross": gross}, **changes}


#: Each rule: its options but for the policy, the tables it needs, a receipt that breaks it, what is said, and a receipt
#: that just does not.
BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str, dict[str, Any]]] = {
    "quantity": (
        {"at_most": 100},
        {},
        receipt("151.50", {**LINE, "quantity": "101"}),
        "lines.0.quantity: above_limit",
        receipt("150.00", {**LINE, "quantity": "100"}),
    ),
    "unit_price": (
        {"at_least": "0.01", "at_most": 500},
        {},
        receipt("0.00", {**LINE, "unit_price": "0"}),
        "lines.0.unit_price: below_limit",
        receipt("0.02", {**LINE, "unit_price": "0.01"}),
    ),
    "discount_share": (
        {"at_most": "0.5"},
        {},
        receipt("1.49", {**LINE, "discounts": [{"amount": "1.51"}]}),
        "lines.0.discount_share: above_limit",
        receipt("1.50", {**LINE, "discounts": [{"amount": "1.50"}]}),
    ),
    "gross": (
        {"at_most": "3.00"},
        {},
        receipt("6.00", LINE, {**LINE, "sku": "B"}),
        "totals.gross: above_limit",
        receipt("3.00", LINE),
    ),
    "list_price": (
        {"share": "0.3"},
        {"items": APPLE},
        receipt("3.92", {**LINE, "unit_price": "1.96"}),
        "lines.0.unit_price: far_from_list_price",
        receipt("3.90", {**LINE, "unit_price": "1.95"}),
    ),
    "future": (
        {"minutes": 10},
        {},
        {"occurred_at": "2026-03-10T12:10:01Z"},
        "occurred_at: in_the_future",
        {"occurred_at": "2026-03-10T12:10:00Z"},
    ),
    "old": (
        {"days": 30},
        {},
        {"occurred_at": (NOON - timedelta(days=30, seconds=1)).isoformat()},
        "occurred_at: too_old",
        {"occurred_at": (NOON - timedelta(days=30)).isoformat()},
    ),
    "currency": ({}, {"stores": STORES}, {}, "currency: not_the_stores_own", {"currency": "CHF"}),
    "duplicate_lines": (
        {},
        {},
        receipt("9.00", LINE, {**LINE, "sku": "B"}, LINE),
        "lines.2: repeats_another",
        receipt("6.00", LINE, {**LINE, "sku": "B"}),
    ),
    "description": (
        {},
        {},
        receipt("3.00", {**LINE, "description": ""}),
        "lines.0.description: missing",
        receipt("3.00", LINE),
    ),
}


def rule(name: str, policy: str) -> dict[str, Any]:
    options = BROKEN[name][0]
    return {name: {**options, "then": policy} if options else policy}


def ruled(name: str, policy: str) -> Any:
    return table_mapper(cleaning=rule(name, policy), **BROKEN[name][1])


@pytest.mark.parametrize("name", BROKEN)
def test_receipt_that_breaks_a_rule_is_rejected_or_held_with_its_reason(name: str) -> None:
    _, _, broken, told, _ = BROKEN[name]
    rejected, held = REASONS[name]
    assert refused(ruled(name, "reject"), **broken) == (rejected.value, told)
    assert refused(ruled(name, "hold"), **broken) == (held.value, told)


@pytest.mark.parametrize("name", BROKEN)
def test_flagged_receipt_is_booked_with_a_review(name: str) -> None:
    _, _, broken, told, whole = BROKEN[name]
    assert mapped(ruled(name, "flag"), **broken).review == told
    assert mapped(ruled(name, "flag"), **whole).review is None


@pytest.mark.parametrize("name", BROKEN)
def test_nothing_is_on_unless_it_is_configured(name: str) -> None:
    assert mapped(table_mapper(**BROKEN[name][1]), **BROKEN[name][2]).review is None


def test_findings_are_returned_with_rule_and_policy() -> None:
    table = table_mapper(cleaning=rule("quantity", "flag") | rule("old", "hold"))
    evaluation = evaluated(table, **BROKEN["quantity"][2], occurred_at="2020-01-01T00:00:00Z")
    assert {(found.rule, found.policy) for found in evaluation.findings} == {("quantity", "flag"), ("old", "hold")}
    assert len(evaluation.findings) == 2


def test_every_rule_has_its_reasons() -> None:
    rules = set(CleaningRules.model_fields) - {"usual", "refunds"} | {"usual_price", "usual_receipt"}
    assert rules == set(REASONS)
    held = {reason for reason in Reason if reason.value.startswith("held_")} - {Reason.HELD_REFUND}
    assert held == {reasons[1] for reasons in REASONS.values()}


def test_released_rules_hold_nothing_and_find_the_same() -> None:
    held = CleaningRules.model_validate(
        {name: options for rule_of in BROKEN for name, options in rule(rule_of, "hold").items()}
        | {"refunds": {"then": "hold"}}
    )
    released = held.released()
    assert '"hold"' not in released.model_dump_json()
    assert released.model_fields_set == held.model_fields_set
    assert released.refunds is not None
    assert released.refunds.wait_minutes == 0


def test_rejecting_goes_before_holding_and_holding_before_booking() -> None:
    broken = BROKEN["quantity"][2] | {"occurred_at": "2020-01-01T00:00:00Z"}
    both = rule("quantity", "hold") | rule("old", "reject")
    assert refused(table_mapper(cleaning=both), **broken) == ("implausible_time", "occurred_at: too_old")
    both = rule("quantity", "hold") | rule("old", "flag")
    assert refused(table_mapper(cleaning=both), **broken) == ("held_outlier", "lines.0.quantity: above_limit")


def test_signs_do_not_count() -> None:
    taken_back = receipt("-150.00", {**LINE, "quantity": "-100"}, type="sale")
    assert mapped(ruled("quantity", "hold"), **taken_back).gross == Decimal("-150.00")


def test_missing_description_is_looked_up() -> None:
    table = table_mapper(cleaning={"description": "fix"}, items=APPLE)
    for line in ({**LINE, "description": ""}, {key: text for key, text in LINE.items() if key != "description"}):
        assert mapped(table, lines=[line]).lines[0].description == "Boskoop"
    assert mapped(table).lines[0].description == "Apple"


def test_description_that_cannot_be_looked_up_is_rejected() -> None:
    table = table_mapper(cleaning={"description": "fix"}, items=[{"sku": "A"}])
    assert refused(table, lines=[{**LINE, "description": ""}]) == ("missing_value", "lines.0.description: missing")


FIX_LINES = table_mapper(cleaning={"duplicate_lines": "fix"})


def test_repeated_line_is_taken_off_where_only_then_the_receipt_adds_up() -> None:
    fixed = mapped(FIX_LINES, lines=[LINE, LINE])
    assert (len(fixed.lines), fixed.gross, fixed.net + fixed.tax, fixed.review) == (1, 3, 3, None)


def test_line_that_was_sold_twice_stays() -> None:
    assert len(mapped(FIX_LINES, **receipt("6.00", LINE, LINE)).lines) == 2


def test_receipt_that_adds_up_neither_way_is_rejected() -> None:
    assert refused(FIX_LINES, **receipt("5.00", LINE, LINE))[0] == "totals_mismatch"


def test_taking_off_a_line_does_not_change_what_the_event_says() -> None:
    fixed = mapped(FIX_LINES, lines=[LINE, LINE])
    tolerant = table_mapper(cleaning={"totals": {"amount": 100, "then": "fix"}})
    assert fixed.content == mapped(tolerant, lines=[LINE, LINE]).content


TOLERANCE = {"totals": {"amount": "0.05", "then": "fix"}}


def test_difference_within_the_tolerance_becomes_rounding() -> None:
    fixed = mapped(table_mapper(cleaning=TOLERANCE), **receipt("3.05", LINE))
    assert (fixed.gross, fixed.rounding, fixed.net + fixed.tax) == (Decimal("3.05"), Decimal("0.05"), Decimal("3.00"))


def test_difference_beyond_the_tolerance_is_rejected_as_ever() -> None:
    told = ("totals_mismatch", "totals.gross: differs_from_lines")
    assert refused(table_mapper(cleaning=TOLERANCE), **receipt("3.06", LINE)) == told
    assert refused(table_mapper(), **receipt("3.01", LINE)) == told


def test_difference_within_the_tolerance_may_be_flagged_or_held() -> None:
    flag, hold = ({"totals": {"amount": "0.05", "then": then}} for then in ("flag", "hold"))
    off = receipt("3.05", LINE)
    assert mapped(table_mapper(cleaning=flag), **off).review == "totals: differ_from_lines"
    assert refused(table_mapper(cleaning=hold), **off) == ("held_totals", "totals: differ_from_lines")


def test_tolerance_is_in_the_receipts_currency() -> None:
    yen = [{**LINE, "unit_price": "150"}]
    table = table_mapper(cleaning={"totals": {"amount": 5, "then": "fix"}})
    assert mapped(table, currency="JPY", **receipt("305", *yen)).gross == 305
    assert refused(table, currency="JPY", **receipt("306", *yen))[0] == "totals_mismatch"


def test_tolerance_holds_for_net_and_tax() -> None:
    totals = {"gross": "3.00", "net": "2.58", "tax": "0.42"}
    assert refused(table_mapper(), totals=totals)[0] == "totals_mismatch"
    assert mapped(table_mapper(cleaning=TOLERANCE), totals=totals).net == Decimal("2.52")


cents = st.integers(0, 400).map(lambda amount: f"{amount / 100:.2f}")
sold = st.lists(st.sampled_from([LINE, {**LINE, "sku": "B"}, {**LINE, "quantity": "1"}]), min_size=1, max_size=5)


@given(lines=sold, gross=cents, fixes=st.sets(st.sampled_from(["duplicate_lines", "totals"])))
def test_fixing_never_changes_the_paid_amount(lines: Sequence[dict[str, Any]], gross: str, fixes: set[str]) -> None:
    cleaning = {name: TOLERANCE["totals"] if name == "totals" else "fix" for name in fixes}
    made = outcome(table_mapper(cleaning=cleaning), **receipt(gross, *lines))
    if isinstance(made, ErpDocument):
        assert made.gross == Decimal(gross)
        assert made.gross == sum(line.gross for line in made.lines) + made.rounding
        assert abs(made.rounding) <= (Decimal("0.05") if "totals" in fixes else 0)
    else:
        assert made.reason is Reason.TOTALS_MISMATCH
