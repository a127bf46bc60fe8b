"""A day is balanced only if its books agree and all of it is booked; what is not is shown with its money."""

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.reconcile.completeness import CurrencySums
from ops.reconcile.day_states import current_state, figures_digest, sign
from ops.reconcile.render import as_json, report
from ops.reconcile.rows import ReceiptFigures, SentRow
from ops.reconcile.run import ReconciliationResult, StatesByDay
from ops.reconcile.scope import ReconciliationScope
from ops.reconcile.store_day import DayReport
from ops.reconcile.verdict import colour, is_settled, verdict
from streams.dead_letters.day_states import DayState, DayStates
from tests.support.books import AFTER, World
from tests.support.events import NOON, value

YESTERDAY = "2026-03-09T12:00:00Z"
TODAY = NOON.date()


def bad(number: int, gross: str = "9.99", **changes: Any) -> bytes:
    """A receipt whose totals are not those of its lines."""
    return value(number, totals={"gross": gross}, tenders=[], **changes)


def world(*values: bytes | None, **more: Any) -> World:
    made = World(**more)
    made.send(*values)
    made.work()
    return made


def only(days: list[DayReport]) -> DayReport:
    (day,) = days
    return day


def found_in(made: World, **scope: Any) -> tuple[ReconciliationResult, StatesByDay]:
    days = made.reconcile(**scope)
    found = ReconciliationResult(AFTER, days, None, unplaced=made.unplaced)
    return found, {(day.store, day.day): current_state(day, [], AFTER, "ada") for day in days}


def ref(number: int) -> str:
    return f"pos/S1/R1/{number}/sale"


def test_day_with_money_in_dead_letters_is_not_balanced() -> None:
    found, now = found_in(world(value(1), bad(2), bad(3, "0.01")))
    day = only(found.days)
    assert (day.state, day.books, day.is_complete, found.balanced) == ("incomplete", "agree", False, False)
    assert verdict(found, now) == "1 store-day: 1 incomplete. Books agree. NOT BOOKED: 10.00 EUR in 2 receipts."
    assert colour(found, now) == "yellow"
    assert (is_settled(found, now, allow_open=False), is_settled(found, now, allow_open=True)) == (False, True)


def test_difference_is_wrong_whatever_is_allowed() -> None:
    made = world(value(1), bad(2))
    made.sink.documents[ref(1)].gross += 1
    found, now = found_in(made)
    assert verdict(found, now) == "1 store-day: 1 differs. 1 difference. NOT BOOKED: 9.99 EUR in 1 receipt."
    assert (colour(found, now), is_settled(found, now, allow_open=True)) == ("red", False)


def test_receipt_that_failed_several_times_counts_once_by_its_latest_revision() -> None:
    again = bad(2, "8.00", event_id="e-2b", revision=1)
    assert only(world(bad(2), bad(2), again).reconcile()).not_booked.in_words() == "8.00 EUR in 1 receipt"


def test_currencies_are_never_added_up() -> None:
    usd = bad(3, "5.00", currency="USD")
    found, now = found_in(world(bad(2), usd, bad(4, "300", currency="JPY")))
    left = "9.99 EUR in 1 receipt, 300 JPY in 1 receipt, and 5.00 USD in 1 receipt"
    assert verdict(found, now) == f"1 store-day: 1 incomplete. Books agree. NOT BOOKED: {left}."
    both = only(world(bad(2), bad(2, currency="USD", event_id="e-2b")).reconcile())
    assert both.not_booked.in_words() == "9.99 EUR in 1 receipt, and 9.99 USD in 1 receipt"


def test_returns_do_not_hide_sales() -> None:
    given_back = bad(3, type="return")
    left = only(world(bad(2), given_back).reconcile()).not_booked
    assert left.in_words() == "0.00 EUR in 2 receipts (9.99 sold, -9.99 returned)"


def test_amount_that_can_not_be_read_is_said_to_be_unknown() -> None:
    found, now = found_in(world(value(1), b"{", b"[]", bad(2), bad(4, currency="EUX")))
    left = "9.99 EUR in 1 receipt, and 3 records of unknown amount"
    assert verdict(found, now) == f"2 store-days: 2 incomplete. Books agree. NOT BOOKED: {left}."
    told = json.loads("".join(as_json(found, now)))
    assert told["unbooked"] == {
        "receipts": 1,
        "amounts": {"EUR": {"receipts": 1, "gross": "9.99"}},
        "records_of_unknown_amount": 3,
        "dead_letters_of_booked_receipts": 0,
    }
    assert (told["balanced"], told["books"], told["complete"]) == (False, "agree", False)


def test_receipt_that_is_booked_in_another_version_is_an_open_letter_and_no_unbooked_money() -> None:
    for letter in (value(1, cashier="B"), bad(1, event_id="e-0")):
        day = only(world(value(1, revision=1), letter).reconcile())
        assert (day.state, day.not_booked.receipts) == ("incomplete", 0)
        assert day.not_booked.in_words() == "1 dead letter of a receipt that is booked in another version"


def test_record_that_waits_is_not_booked() -> None:
    found, now = found_in(world(value(1), value(2), b"{", committed=1))
    left = "3.00 EUR in 1 receipt, and 1 record of unknown amount"
    assert verdict(found, now).endswith(f"Books agree. NOT BOOKED: {left}.")
    assert not is_settled(found, now, allow_open=False)


def test_letter_that_is_parked_is_not_booked() -> None:
    day = only(world(value(1), bad(2), closed={1: ("parked", "ada", "later")}).reconcile())
    assert (day.state, day.count("parked"), day.not_booked.in_words()) == ("incomplete", 1, "9.99 EUR in 1 receipt")


def test_letter_that_a_person_resolved_is_complete_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found, now = found_in(world(value(1), bad(2), closed={1: ("resolved", "ada", "a test sale")}))
    decided = "Resolved by hand, not to be booked: 9.99 EUR in 1 receipt."
    assert verdict(found, now) == f"1 store-day: 1 balanced. Books agree. {decided} Balanced."
    assert is_settled(found, now, allow_open=False)
    report(found, now, everything=True)
    told = " ".join(capsys.readouterr().out.split())
    assert "dead letters, resolved by ada (a test sale): totals_mismatch (1; 9.99 EUR)" in told
    (day,) = json.loads("".join(as_json(found, now)))["days"]
    (letter,) = day["dead_letters"]
    assert (letter["fate"], letter["closed_by"], letter["closed_why"]) == ("resolved", "ada", "a test sale")
    assert day["resolved"]["amounts"] == {"EUR": {"receipts": 1, "gross": "9.99"}}


def test_receipt_of_which_one_letter_is_resolved_and_another_open_is_not_booked() -> None:
    day = only(world(bad(2), bad(2, event_id="e-2b"), closed={0: ("resolved", "ada", "")}).reconcile())
    assert (day.not_booked.receipts, day.resolved.receipts) == (1, 0)


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        ({"first": TODAY, "last": TODAY}, 1),
        ({"first": TODAY}, 1),
        ({"store": "S1"}, 1),
        ({"store": "S1", "first": TODAY, "last": TODAY}, 1),
        ({"first": TODAY + timedelta(days=2)}, 0),
        ({"last": TODAY - timedelta(days=2)}, 0),
    ],
)
def test_unreadable_record_counts_in_the_range_in_which_it_arrived(scope: dict[str, Any], count: int) -> None:
    found, now = found_in(world(value(1), b"{"), **scope)
    assert [day for day in found.days if not day.day] == []
    assert sum(day.not_booked.unknown for day in found.all) == count
    assert is_settled(found, now, allow_open=False) == (not count)
    assert ("NOT BOOKED: 1 record of unknown amount." in verdict(found, now)) == bool(count)


def test_unreadable_record_that_vanished_is_a_difference_of_the_range_too() -> None:
    found, now = found_in(world(value(1), b"{", lost_letters={1}), first=TODAY, last=TODAY)
    assert [each.kind for day in found.all for each in day.differences] == ["vanished"]
    assert not is_settled(found, now, allow_open=True)


@pytest.mark.parametrize("at", ["1999-12-31T12:00:00Z", "2031-01-01T12:00:00Z"])
def test_receipt_whose_time_is_not_plausible_counts_in_the_range_in_which_it_arrived(at: str) -> None:
    made = world(value(1), value(2, occurred_at=at))
    found, now = found_in(made, first=TODAY, last=TODAY)
    assert verdict(found, now).endswith("Books agree. NOT BOOKED: 3.00 EUR in 1 receipt.")
    assert not is_settled(found, now, allow_open=False)
    found, now = found_in(made)  # all days: it is on its own
    assert [day.not_booked.receipts for day in found.days] == ([1, 0] if at < "2026" else [0, 1])
    assert found.unplaced is None


# What the topic has lost


def test_what_is_left_of_a_topic_is_compared_record_by_record() -> None:
    made = world(*map(value, range(1, 7)), lost_records=2)
    made.sink.documents[ref(3)].gross += 1
    del made.sink.documents[ref(4)]
    made.sink.documents["copy"] = replace(made.sink.documents[ref(5)], external_ref="copy")
    day = only(made.reconcile())
    assert {(each.kind, each.ref) for each in day.differences} == {
        ("altered", ref(3)),
        ("missing", ref(4)),
        ("doubled", "copy"),
    }
    assert (day.state, day.books, day.unproved.in_words()) == ("differs", "differ", "6.00 EUR in 2 receipts")


def test_day_of_which_records_are_lost_is_unproved_and_wrong_unless_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    found, now = found_in(world(value(1), value(2), lost_records=1))
    proof = "NOT PROVED: 3.00 EUR in 1 receipt, whose records have left the topic."
    assert verdict(found, now) == f"1 store-day: 1 unproved. Books agree as far as can be proved. {proof}"
    assert (is_settled(found, now, allow_open=False), is_settled(found, now, allow_open=True)) == (False, True)
    assert colour(found, now) == "yellow"
    report(replace(found, reach=TODAY), now, everything=True)
    told = " ".join(capsys.readouterr().out.split())
    assert "3.00 EUR in 1 receipt can't be proved: their records have left the topic" in told


def test_day_of_which_nothing_is_left_is_unproved_without_asking_for_its_documents() -> None:
    made = world(value(1, occurred_at=YESTERDAY), value(2), lost_records=2)
    made.records[1].timestamp += 1
    made.sink.prints = None  # type: ignore[assignment,method-assign]  # must not be called
    days = made.reconcile(lost=AFTER)
    assert [(day.state, day.unproved.in_words()) for day in days] == [("unproved", "3.00 EUR in 1 receipt")] * 2


def test_newer_revision_whose_record_is_lost_is_no_difference() -> None:
    made = world(value(1, revision=1), value(1, event_id="e-0"), value(2), lost_records=1)
    day = only(made.reconcile())
    assert (day.differences, day.unproved.receipts) == ([], 1)


def test_first_version_of_a_conflict_whose_record_is_lost_is_no_difference() -> None:
    made = world(value(1), value(1, cashier="B"), value(2), lost_records=1)
    day = only(made.reconcile())
    assert (day.differences, day.unproved.receipts, day.count("dead")) == ([], 1, 1)


def test_day_that_began_after_the_last_lost_record_is_proved() -> None:
    made = world(value(1, occurred_at=YESTERDAY), value(2))
    made.lost_records = 1
    lost = NOON - timedelta(days=1)
    assert [(day.day, day.state) for day in made.reconcile(lost=lost)] == [
        ("2026-03-09", "unproved"),
        ("2026-03-10", "balanced"),
    ]


def test_registers_first_total_in_what_is_left_is_not_compared() -> None:
    total = {"event_id": "z", "type": "day_close", "receipt": "Z", "lines": [], "tenders": []}
    z = value(9, **total, totals={"gross": "6.00"}, occurred_at="2026-03-10T13:00:00Z")
    assert only(world(value(1), value(2), z).reconcile()).state == "balanced"
    assert only(world(value(1), value(2), z, lost_records=1).reconcile()).differences == []


@given(st.integers(0, 8), st.sets(st.integers(1, 8)), st.sets(st.integers(1, 8)))
def test_of_any_lost_beginning_all_else_is_found(lost: int, deleted: set[int], altered: set[int]) -> None:
    made = world(*map(value, range(1, 9)), lost_records=lost)
    for number in altered:
        made.sink.documents[ref(number)].tax += 1
    for number in deleted:
        del made.sink.documents[ref(number)]
    days = made.reconcile(**({"lost": NOON} if lost else {}))
    expected = {("missing", ref(n)) for n in deleted if n > lost}
    expected |= {("altered", ref(n)) for n in altered - deleted if n > lost}
    assert {(each.kind, each.ref) for day in days for each in day.differences} == expected
    assert sum(day.unproved.receipts for day in days) == len(set(range(1, lost + 1)) - deleted)


# What was noted and signed


def noted_before(day: DayReport, state: str, why: str = "") -> DayState:
    """An entry of the audit topic of before what is not booked was noted."""
    old = {"store": day.store, "day": day.day, "state": state, "at": NOON, "by": "grace", "why": why}
    entry = DayState.model_validate(old | {"figures": figures_digest(day)}).model_dump(mode="json")
    for name in ("books", "unbooked", "held"):
        del entry[name]
    (read,) = DayStates.model_validate_json(json.dumps({"kind": "days", "days": [entry]})).days
    return read


@pytest.mark.parametrize("state", ["open", "closed", "balanced", "differs", "signed off"])
def test_entries_of_before_stay_readable(state: str) -> None:
    day = only(world(value(1)).reconcile())
    assert (noted_before(day, state).state, noted_before(day, state).unbooked) == (state, None)


def test_balanced_of_before_does_not_make_a_day_with_dead_letters_balanced() -> None:
    day = only(world(value(1), bad(2)).reconcile())
    now = current_state(day, [noted_before(day, "balanced")], AFTER, "ada")
    assert (now.state, now.reopened, now.books) == ("incomplete", False, "agree")
    assert now.unbooked is not None
    assert (now.unbooked.receipts, now.unbooked.amounts) == (1, {"EUR": "9.99"})


def test_balanced_of_before_is_noted_with_both_answers_once() -> None:
    day = only(world(value(1)).reconcile())
    now = current_state(day, [noted_before(day, "balanced")], AFTER, "ada")
    assert (now.state, now.reopened, now.at) == ("balanced", False, AFTER)
    assert current_state(day, [now], AFTER + timedelta(days=1), "bob") is now


def test_sign_off_of_before_does_not_cover_what_is_not_booked() -> None:
    day, whole = only(world(value(1), bad(2)).reconcile()), only(world(value(1)).reconcile())
    now = current_state(day, [noted_before(day, "signed off")], AFTER, "ada")
    assert (now.state, now.reopened) == ("incomplete", True)
    assert current_state(whole, [noted_before(whole, "signed off")], AFTER, "ada").state == "signed off"


def test_sign_off_covers_both_figures_until_one_changes() -> None:
    made = world(value(1), bad(2))
    day = only(made.reconcile())
    signed = sign(day, NOON, "grace", "the till was broken")
    assert signed.unbooked is not None
    assert (signed.books, signed.unbooked.amounts) == ("agree", {"EUR": "9.99"})
    found = ReconciliationResult(AFTER, [day], None)
    now = {("S1", "2026-03-10"): current_state(day, [signed], AFTER, "ada")}
    text = "1 store-day: 1 signed off. Books agree. NOT BOOKED: 9.99 EUR in 1 receipt, all signed off."
    assert verdict(found, now) == text
    assert is_settled(found, now, allow_open=False)
    assert (found.balanced, colour(found, now)) == (False, "yellow")
    made.send(bad(3))
    made.work()
    later = current_state(only(made.reconcile()), [signed], AFTER, "ada")
    assert (later.state, later.reopened) == ("incomplete", True)


def test_signed_day_is_not_reopened_by_records_that_leave_the_topic_but_by_a_change_in_the_erp() -> None:
    made = world(value(1), value(2))
    signed = sign(only(made.reconcile()), NOON, "grace", "")
    made.lost_records = 1
    assert current_state(only(made.reconcile()), [signed], AFTER, "ada") is signed
    made.sink.documents[ref(1)].gross += 1
    later = current_state(only(made.reconcile()), [signed], AFTER, "ada")
    assert (later.state, later.reopened) == ("unproved", True)


@given(st.lists(st.tuples(st.sampled_from(["EUR", "USD", "JPY"]), st.integers(-10_000, 10_000)), max_size=20))
def test_sums_of_any_receipts_keep_currencies_and_signs_apart(receipts: list[tuple[str, int]]) -> None:
    sums = CurrencySums()
    for currency, gross in receipts:
        sums.add(currency, 1, Decimal(gross))
    assert sums.count == len(receipts)
    for currency, amount in sums.amounts.items():
        of_it = [gross for name, gross in receipts if name == currency]
        negative = sum(gross for gross in of_it if gross < 0)
        assert (amount.receipts, amount.gross, amount.returned) == (len(of_it), sum(of_it), negative)


def test_range_that_ends_on_the_last_day_that_there_is_can_be_asked_for() -> None:
    assert found_in(world(value(1), b"{"), first=TODAY, last=date.max)[0].unplaced is not None


def test_figures_of_no_receipts_are_zero() -> None:
    nothing = Decimal(0)
    assert ReceiptFigures() == ReceiptFigures(0, 0, nothing, nothing, nothing, nothing, {}, None, None, 0)


def test_row_of_a_record_without_an_event_has_no_amounts_and_no_digests() -> None:
    row = SentRow(0, 0, 0, "", 0)
    assert (row.lines, row.quantity, row.net, row.tax, row.gross, row.has_gross) == (0, 0, 0, 0, 0, 0)
    assert (row.print, row.personal, row.occurred, row.revision) == (0, 0, 0, 0)


def test_scope_reads_no_records_unless_it_is_given_a_way_to() -> None:
    assert ReconciliationScope(AFTER, lambda store, day: AFTER).sent([]) == {}
