"""Tills and ERP are compared from the facts, and every difference is named."""

import os
import re
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.reconcile import certificate
from ops.reconcile.certificate_page import render_page
from ops.reconcile.day_states import current_state
from ops.reconcile.render import day_as_json
from ops.reconcile.store_day import DayDifference, DayReport
from tests.support.books import AFTER, World
from tests.support.events import NOON, value


def world(*values: bytes | None) -> World:
    made = World()
    made.send(*values)
    made.work()
    return made


def only(days: list[DayReport]) -> DayReport:
    (day,) = days
    return day


def named(days: list[DayReport]) -> Counter[tuple[str, str]]:
    return Counter((one.kind, one.ref) for day in days for one in day.differences)


def one_difference(days: list[DayReport]) -> DayDifference:
    (found,) = [one for day in days for one in day.differences]
    return found


def ref(number: int) -> str:
    return f"pos/S1/R1/{number}/sale"


BAD = value(9, totals={"gross": "9.99"}, tenders=[])
MIXED = (value(1), value(1), value(2), BAD, value(3, type="return"), value(2, event_id="e-2b", revision=1), None)


def test_books_of_a_day_agree_with_duplicates_dead_letters_and_revisions() -> None:
    day = next(day for day in world(*MIXED).reconcile() if day.day)
    assert (day.state, day.books, day.differences) == ("incomplete", "agree", [])
    assert [day.count(status) for status in ("erp", "duplicate", "dead", "superseded")] == [3, 1, 1, 1]
    (account,) = day.accounts
    assert (account.held.receipts, account.held.gross, account.held.quantity) == (3, Decimal("3.00"), 2)
    assert account.counts["dead"] == (1, Decimal("9.99"))
    assert [letter.dead_letter for letter in day.dead_letters] == ["0:0 totals_mismatch"]


def test_record_that_can_not_be_read_is_told_of_without_a_store() -> None:
    days = world(b"{", value(1)).reconcile()
    assert [(each.store, each.day, each.state) for each in days] == [
        ("", "", "incomplete"),
        ("S1", "2026-03-10", "balanced"),
    ]
    assert days[0].count("dead") == 1


def test_why_no_document_is_made_is_told() -> None:
    days = world(None, value(1), close("2026-03-10T13:00:00Z", "3.00")).reconcile()
    assert [day.skipped for day in days] == [{"tombstone": 1}, {"day_close": 1}]


def test_document_that_is_deleted_is_missing() -> None:
    made = world(*MIXED)
    del made.sink.documents[ref(1)]
    found = one_difference(made.reconcile(deep=False))
    assert (found.kind, found.ref, found.place, found.sent) == ("missing", ref(1), "0:0", Decimal("3.00"))
    assert found.detail.startswith("event pos:e-1 was delivered at ")
    assert found.repair == "tillstream reconcile repair --store S1 --day 2026-03-10 --revoke"


def test_record_that_was_passed_over_was_never_delivered() -> None:
    made = World(skipped={0})
    made.send(value(1))
    made.work()
    found = one_difference(made.reconcile())
    assert (found.kind, found.detail) == ("missing", "event pos:e-1")
    assert found.repair == "tillstream reconcile repair --store S1 --day 2026-03-10"


def test_amount_that_is_changed_is_named_with_both_amounts() -> None:
    made = world(*MIXED)
    made.sink.documents[ref(1)].gross += 1
    found = one_difference(made.reconcile(deep=False))
    assert (found.kind, found.ref, found.sent, found.held) == ("altered", ref(1), Decimal("3.00"), Decimal("4.00"))


def test_what_is_altered_is_told() -> None:
    made = world(*map(value, range(1, 6)))
    first, second, third, fourth = (made.sink.documents[ref(number)] for number in range(1, 5))
    first.net += Decimal("0.01")
    first.tax -= Decimal("0.01")
    second.payments = [replace(second.payments[0], kind="card")]
    third.lines = []
    fourth.lines = [replace(fourth.lines[0], sku="B")]
    fifth = made.sink.documents[ref(5)]
    fifth.gross += 1
    fifth.net += 1
    assert {one.ref: one.detail for day in made.reconcile() for one in day.differences} == {
        ref(5): "gross, net 3.52 instead of 2.52",
        ref(1): "net 2.53 instead of 2.52, tax 0.47 instead of 0.48",
        ref(2): "payment 1: kind card instead of cash",
        ref(3): "lines 0 instead of 1",
        ref(4): "line 1: sku B instead of A",
    }


def test_sums_are_compared_where_the_record_can_not_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(value(1), value(2))
    monkeypatch.setattr(made, "_documents", lambda *_: {})
    document = made.sink.documents[ref(1)]
    document.gross, document.net = document.gross + 1, document.net + 1
    made.sink.documents[ref(2)].payments = []
    assert {one.ref: one.detail for day in made.reconcile() for one in day.differences} == {
        ref(1): "gross, net 3.52 instead of 2.52",
        ref(2): "paid by cash 0.00 instead of 3.00",
    }


def test_changes_that_cancel_out_are_found_by_digests_alone() -> None:
    made = world(value(1), value(2))
    for number, change in ((1, 1), (2, -1)):
        document = made.sink.documents[ref(number)]
        document.lines[0] = replace(document.lines[0], gross=document.lines[0].gross + change)
        document.gross += change
    assert only(made.reconcile(deep=False)).state == "balanced"
    assert named(made.reconcile()) == {("altered", ref(1)): 1, ("altered", ref(2)): 1}


def test_day_that_is_known_to_differ_is_looked_into_even_if_its_sums_agree() -> None:
    made = world(value(1))
    document = made.sink.documents[ref(1)]
    document.lines = [replace(document.lines[0], sku="B")]
    assert only(made.reconcile(deep=False)).state == "balanced"
    assert named(made.reconcile(deep=False, doubtful={("S1", "2026-03-10")})) == {("altered", ref(1)): 1}


def test_rates_that_lines_have_swapped_are_found_by_digests() -> None:
    line = {"quantity": "1", "unit_price": "1.50"}
    lines = [{"sku": "A", "tax_rate": "7", **line}, {"sku": "B", "tax_rate": "19", **line}]
    made = world(value(1, lines=lines))
    document = made.sink.documents[ref(1)]
    seven, nineteen = document.lines
    document.lines = [replace(seven, tax_rate=nineteen.tax_rate), replace(nineteen, tax_rate=seven.tax_rate)]
    assert named(made.reconcile()) == {("altered", ref(1)): 1}


def test_document_twice_is_named_as_a_copy() -> None:
    made = world(value(1))
    made.sink.documents["pos/S1/R1/1b/sale"] = replace(made.sink.documents[ref(1)], external_ref="pos/S1/R1/1b/sale")
    found = one_difference(made.reconcile())
    assert (found.kind, found.ref, found.detail) == ("doubled", "pos/S1/R1/1b/sale", f"a copy of {ref(1)}")


def test_document_that_no_till_sent_is_named() -> None:
    made = world(value(1))
    other = world(value(7))
    made.sink.documents[ref(7)] = other.sink.documents[ref(7)]
    assert named(made.reconcile()) == {("only_in_erp", ref(7)): 1}


def test_record_that_was_passed_over_is_missing_and_so_is_a_day() -> None:
    made = World(skipped={1, 2})
    made.send(value(1), value(2), value(3, occurred_at="2026-03-09T12:00:00Z"))
    made.work()
    days = made.reconcile()
    assert [(day.day, day.state, named([day])) for day in days] == [
        ("2026-03-09", "differs", {("missing", ref(3)): 1}),
        ("2026-03-10", "differs", {("missing", ref(2)): 1}),
    ]


def test_newer_revision_that_did_not_land_is_named() -> None:
    made = World(skipped={1})
    made.send(value(1), value(1, event_id="e-1b", revision=1, cashier="B"))
    made.work()
    found = one_difference(made.reconcile())
    assert (found.kind, found.detail) == ("older_revision", "revision 0 instead of 1: event pos:e-1b")
    assert found.repair == "tillstream reconcile repair --store S1 --day 2026-03-10"


def test_newer_revision_that_the_erp_remembers_has_to_be_forgotten() -> None:
    made = world(value(1), value(1, event_id="e-1b", revision=1, cashier="B"))
    made.sink.documents[ref(1)].revision = 0
    found = one_difference(made.reconcile())
    assert found.detail.startswith("revision 0 instead of 1: event pos:e-1b was delivered at ")
    assert found.repair == "tillstream reconcile repair --store S1 --day 2026-03-10 --revoke"


def test_document_on_another_day_is_moved() -> None:
    made = world(value(1))
    document = made.sink.documents[ref(1)]
    document.business_date -= timedelta(days=1)
    assert named(made.reconcile()) == {("moved", ref(1)): 2}


def test_dead_letter_that_is_gone_has_vanished() -> None:
    made = world(value(1), BAD, b"{")
    made.lost_letters = {1, 2}
    assert named(made.reconcile()) == {("vanished", "0:2"): 1, ("vanished", ref(9)): 1}


def test_conflict_is_a_dead_letter_and_without_it_has_vanished() -> None:
    made = world(value(1), value(1, cashier="B"))
    assert (only(made.reconcile()).state, only(made.reconcile()).books) == ("incomplete", "agree")
    made.lost_letters = {1}
    assert named(made.reconcile()) == {("vanished", ref(1)): 1}


def test_dead_letter_that_came_through_after_all_counts_as_delivered() -> None:
    made = World()
    made.send(value(1))
    made.line.stores = type(made.line.stores)({}, None)
    made.work()
    assert only(made.reconcile()).count("dead") == 1
    made.line.stores = World().line.stores
    made.work()
    day = only(made.reconcile())
    assert (day.count("dead"), day.count("erp"), day.state) == (0, 1, "balanced")


def test_day_is_open_until_it_is_over_and_incomplete_while_records_wait() -> None:
    made = World(committed=1)
    made.send(value(1), value(2))
    made.work()
    assert only(made.reconcile(NOON)).state == "open"
    day = only(made.reconcile())
    assert (day.state, day.count("waiting"), day.differences) == ("incomplete", 1, [])
    assert day.not_booked.in_words() == "3.00 EUR in 1 receipt"


def test_document_of_no_record_is_no_difference_before_the_day_is_over() -> None:
    made = world(value(1))
    made.sink.documents[ref(2)] = replace(
        made.sink.documents[ref(1)], external_ref=ref(2), receipt="2", content="other"
    )
    assert only(made.reconcile(NOON)).differences == []
    assert named(made.reconcile()) == {("only_in_erp", ref(2)): 1}


def test_record_without_a_day_is_counted_for_its_own_store() -> None:
    made = world(value(1), value(2, occurred_at="1999-01-01T12:00:00Z"))
    found = {}
    for store in ("S1", "S9"):
        made.reconcile(store=store, first=date(2026, 3, 10), last=date(2026, 3, 10))
        found[store] = (
            None if made.unplaced is None else {key: sums.receipts for key, sums in made.unplaced.unbooked.items()}
        )
    assert found == {"S1": {"dead": 1}, "S9": None}


def test_document_whose_record_has_left_the_topic_is_unproved_and_no_difference() -> None:
    made = world(value(1))
    made.records.clear()
    day = only(made.reconcile(lost=NOON))
    assert (day.state, day.books, day.differences) == ("unproved", "not proved", [])
    assert day.unproved.in_words() == "3.00 EUR in 1 receipt"
    assert only(made.reconcile()).state == "differs"


def close(at: str, gross: str, **changes: Any) -> bytes:
    said = {"event_id": f"z-{at}", "type": "day_close", "receipt": "Z", "occurred_at": at, "totals": {"gross": gross}}
    return value(99, **said | {"lines": [], "tenders": []} | changes)


def test_registers_own_totals_are_compared_since_the_close_before() -> None:
    sales = [value(1), value(2, occurred_at="2026-03-10T23:30:00Z")]
    made = world(*sales, close("2026-03-10T13:00:00Z", "3.00"), close("2026-03-11T00:10:00Z", "3.00"))
    assert [(day.day, day.differences) for day in made.reconcile()] == [("2026-03-10", []), ("2026-03-11", [])]
    made = world(*sales, close("2026-03-11T00:10:00Z", "9.00"))
    found = one_difference(made.reconcile())
    assert (found.kind, found.day, found.sent) == ("register", "2026-03-10", Decimal(6))
    assert found.detail == "register R1 printed 9.00"


def test_close_that_is_revised_counts_once_as_its_highest_revision() -> None:
    wrong = close("2026-03-10T13:00:00Z", "9.00", receipt="Z1")
    right = close("2026-03-10T13:00:00Z", "3.00", receipt="Z1", event_id="z-b", revision=1)
    assert only(world(value(1), wrong, right).reconcile()).state == "balanced"
    assert only(world(value(1), right, wrong).reconcile()).state == "balanced"
    assert one_difference(world(value(1), wrong).reconcile()).kind == "register"


def test_numbers_that_never_came_are_gaps_and_no_difference() -> None:
    day = only(world(value(1), value(2), value(5), value(7), value(500)).reconcile())
    assert (day.state, day.gaps) == ("balanced", ["register R1: 3 to 4", "register R1: 6"])


def test_close_that_takes_a_number_leaves_no_gap_and_no_account_of_its_own() -> None:
    totals = {"gross": "3.00"}
    z = value(2, type="day_close", occurred_at="2026-03-10T13:00:00Z", lines=[], tenders=[], totals=totals)
    day = only(world(value(1), z, value(3, occurred_at="2026-03-10T14:00:00Z")).reconcile())
    assert (day.state, day.gaps, day.count("noted"), len(day.accounts)) == ("balanced", [], 1, 1)


def test_event_that_was_sent_again_after_its_revision_is_still_a_duplicate() -> None:
    day = only(world(value(1), value(1, event_id="e-1b", revision=1), value(1)).reconcile())
    assert [day.count(status) for status in ("erp", "superseded", "duplicate")] == [1, 1, 1]
    assert day.state == "balanced"


def test_currencies_of_a_day_are_accounts_of_their_own() -> None:
    yen = {"currency": "JPY", "totals": {"gross": "3"}, "tenders": []}
    line = {"sku": "A", "quantity": "1", "unit_price": "3", "tax_rate": "0"}
    day = only(world(value(1), value(2, **yen, lines=[line])).reconcile())
    assert [(account.currency, account.held.receipts) for account in day.accounts] == [("EUR", 1), ("JPY", 1)]
    assert day.state == "balanced"


def test_page_of_a_certificate_shows_what_became_of_all_and_what_differs() -> None:
    made = world(*MIXED)
    del made.sink.documents[ref(1)]
    day = next(day for day in made.reconcile() if day.day)
    between = {"tills": "topic pos.sales at kafka:9092", "erp": "sqlite:///erp.db"}
    told = day_as_json(day, current_state(day, [], AFTER, "ada"))
    said = render_page(certificate.issue(told, AFTER, "ada", Ed25519PrivateKey.generate(), **between))
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr.*?</tr>", said, re.DOTALL)]
    assert ["Tills", "topic pos.sales at kafka:9092"] in cells
    assert ["ERP", "sqlite:///erp.db"] in cells
    assert ["sent by the tills", "6", "18.99"] in cells
    assert ["= due in the ERP", "3", "3.00"] in cells
    assert [row[0] for row in cells if row[0].startswith("+ ")] == [
        "+ duplicates",
        "+ replaced by a higher revision",
        "+ dead letters",
    ]
    assert ["gross", "3.00", "0.00", "-3.00"] in cells
    assert ["receipts", "3", "2", "-1"] in cells
    assert any(row[0] == "missing" and ref(1) in row[1] for row in cells)
    assert any(ref(9) in row[0] and row[1:] == ["totals_mismatch", "9.99"] for row in cells)


#: In `make faults`.
LONG = os.environ.get("TILLSTREAM_FAULTS") == "long"
FAULTS = ("delete", "alter", "double", "skip", "letter", "move")


@st.composite
def days(draw: st.DrawFn) -> tuple[list[bytes], dict[int, str]]:
    """Receipts of two days, some of them bad or sent again, and what is done to some."""
    values: list[bytes] = []
    faults: dict[int, str] = {}
    for number in range(1, draw(st.integers(1, 12)) + 1):
        bad = draw(st.booleans()) and draw(st.booleans())
        at = f"2026-03-{draw(st.integers(9, 10)):02}T12:00:00Z"
        broken = {"totals": {"gross": "9.99"}, "tenders": []} if bad else {}
        made = value(number, occurred_at=at, **broken)
        values.append(made)
        fault = draw(st.none() | st.sampled_from(FAULTS))
        if fault is not None and (fault == "letter") == bad:
            faults[number] = fault
        if fault is None and draw(st.booleans()):
            values.append(made)
    return values, faults


@settings(max_examples=1_000 if LONG else 40)
@given(days())
def test_any_mix_of_faults_is_found_and_nothing_else(drawn: tuple[list[bytes], dict[int, str]]) -> None:
    values, faults = drawn
    made = World(
        skipped={
            at for at, one in enumerate(values) for n, f in faults.items() if f == "skip" and one in _of(n, values)
        }
    )
    made.send(*values)
    made.work()
    expected: Counter[tuple[str, str]] = Counter()
    for number, fault in faults.items():
        name = ref(number)
        if fault == "skip":
            expected["missing", name] += 1
        elif fault == "delete":
            del made.sink.documents[name]
            expected["missing", name] += 1
        elif fault == "alter":
            made.sink.documents[name].tax += 1
            expected["altered", name] += 1
        elif fault == "double":
            made.sink.documents[f"{name}/copy"] = replace(made.sink.documents[name], external_ref=f"{name}/copy")
            expected["doubled", f"{name}/copy"] += 1
        elif fault == "move":
            made.sink.documents[name].business_date -= timedelta(days=7)
            expected["moved", name] += 2
        else:
            made.lost_letters |= {at for at, one in enumerate(values) if one in _of(number, values)}
            expected["vanished", name] += 1
    found = made.reconcile(AFTER)
    assert named(found) == expected
    wrong = {day.day for day in found if day.differences}
    assert {day.day for day in found if day.state == "differs"} == wrong
    assert {day.state for day in found} <= {"balanced", "incomplete", "differs"}
    unbooked = {day.day for day in found if day.count("dead")}
    assert {day.day for day in found if not day.is_complete} == unbooked


def _of(number: int, values: list[bytes]) -> list[bytes]:
    return [one for one in values if f'"receipt":"{number}"'.encode() in one]
