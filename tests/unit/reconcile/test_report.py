"""The report on the screen where there is much to say: many days, many differences, and what people have closed."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from ops.reconcile.day_states import current_state
from ops.reconcile.render import MAX_ROWS, day_as_json, report, report_history
from ops.reconcile.rows import EventRow, ReceiptFigures
from ops.reconcile.run import ReconciliationResult
from ops.reconcile.store_day import CurrencyTotals, DayDifference, DayReport
from streams.dead_letters.day_states import DayState, NotBooked

AT = datetime(2026, 3, 20, tzinfo=UTC)


def day(number: int, state: Any = "balanced", **changes: Any) -> DayReport:
    """A day of store `S{number}`."""
    figures = ReceiptFigures(receipts=1_234, gross=Decimal("3.00"))
    account = CurrencyTotals("EUR", {"erp": (1_234, Decimal("3.00"))}, figures, figures)
    return replace(DayReport(f"S{number}", "2026-03-10", [account], state), **changes)


def shown(
    capsys: pytest.CaptureFixture[str], days: list[DayReport], *, everything: bool = False, **found: Any
) -> list[str]:
    """The lines of the report, with spaces as one."""
    now = {(each.store, each.day): current_state(each, [], AT, "ada") for each in days}
    report(ReconciliationResult(AT, days, found.pop("reach", None), **found), now, everything=everything)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def difference(number: int) -> DayDifference:
    return DayDifference(
        "altered", "S1", "2026-03-10", "EUR", f"r{number}", "gross", "0:1", Decimal(3), Decimal(4), "fix it"
    )


def letter(ref: str, gross: str, **changes: Any) -> EventRow:
    """A dead letter."""
    bare: dict[str, Any] = dict.fromkeys(EventRow._fields, "") | {
        "status": "dead",
        "currency": "EUR",
        "has_gross": True,
    }
    made = {"ref": ref, "gross": Decimal(gross), "dead_letter": "0:1 not_json", "revision": 0, "arrived": 0}
    return EventRow(**(bare | made | changes))


def test_of_many_days_those_are_shown_at_which_somebody_has_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    right = [day(number) for number in range(MAX_ROWS)]
    row = "2026-03-10 balanced 1,234 1,234 3.00 3.00 EUR"
    lines = shown(capsys, right)
    assert [line for line in lines if row in line] == [f"S{number} {row}" for number in range(MAX_ROWS)]
    lines = shown(capsys, [*right, day(99, "open")])
    assert [line.split()[0] for line in lines if "2026-03-10" in line] == ["S99"]
    lines = shown(capsys, [*right, day(99, "open")], everything=True)
    assert sum("2026-03-10" in line for line in lines) == MAX_ROWS + 1
    many = [day(number, "open") for number in range(MAX_ROWS + 2)]
    lines = shown(capsys, many)
    assert sum("2026-03-10" in line for line in lines) == MAX_ROWS
    assert "… and 2 more days; --all shows them, --json has them" in lines
    lines = shown(capsys, many, everything=True)
    assert sum("2026-03-10" in line for line in lines) == MAX_ROWS + 2
    assert not any("more days" in line for line in lines)


def test_of_many_differences_the_first_are_shown_and_all_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    found = [difference(number) for number in range(MAX_ROWS + 3)]
    lines = shown(capsys, [day(1, "differs", differences=found[:MAX_ROWS])])
    assert sum(line.endswith("0:1 3.00 4.00 gross fix it") for line in lines) == MAX_ROWS
    assert not any("more;" in line for line in lines)
    lines = shown(capsys, [day(1, "differs", differences=found)])
    assert sum(line.startswith("altered r") for line in lines) == MAX_ROWS
    assert "… and 3 more; --json has them all" in lines
    assert "altered: what the ERP holds is not what the till sent (53)" in lines
    assert "what receipt record sent ERP detail to repair" in lines


def test_of_many_gaps_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    gaps = [f"register R1: {number}" for number in range(MAX_ROWS + 1)]
    lines = shown(capsys, [day(1, gaps=gaps[:MAX_ROWS])])
    assert sum("missing at the till" in line for line in lines) == MAX_ROWS
    assert not any("more gaps" in line for line in lines)
    lines = shown(capsys, [day(1, gaps=gaps)])
    assert "missing at the till, or in a record that can't be read: store S1, 2026-03-10, register R1: 49" in lines
    assert "… and 1 more gap; --json has them all" in lines
    assert sum("missing at the till" in line for line in lines) == MAX_ROWS


def test_late_days_are_told_with_the_command_that_looks_at_them(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, [day(1)], late=date(2026, 3, 5))
    assert "events of 2026-03-05 arrived late: tillstream reconcile --since 2026-03-05" in lines


def test_dead_letters_are_summed_up_by_reason_and_by_who_closed_them(capsys: pytest.CaptureFixture[str]) -> None:
    by_ada = {"status": "resolved", "closed_by": "ada", "closed_why": "a test"}
    letters = [
        letter("r1", "9.00", revision=1),
        letter("r1", "5.00"),  # of which revision 1 counts
        letter("r2", "1.00", arrived=2),
        letter("r2", "8.00", arrived=1),
        letter("r3", "7.00", has_gross=False),
        letter("r4", "6.00", currency=""),
        letter("r1", "4.00", currency="CHF"),
        letter("r5", "2.00", **by_ada),
        letter("r6", "2.50", **by_ada),
        letter("r7", "0.00", status="parked", closed_by="bob"),
    ]
    lines = shown(capsys, [day(1, dead_letters=letters)])
    assert [line for line in lines if "dead letters" in line] == [
        "in dead letters: not_json (7; 4.00 CHF; 10.00 EUR): tillstream dlq list --reason not_json",
        "dead letters, parked by bob: not_json (1): tillstream dlq list --all",
        "dead letters, resolved by ada (a test): not_json (2; 4.50 EUR): tillstream dlq list --all",
    ]
    found = day_as_json(day(1, dead_letters=letters), current_state(day(1), [], AT, "ada"))["dead_letters"]
    assert found[4] == {"receipt": "r3", "letter": "0:1 not_json", "fate": "dead", "gross": None}
    assert found[7] == {
        "receipt": "r5", "letter": "0:1 not_json", "fate": "resolved", "gross": "2.00", "closed_by": "ada",
        "closed_why": "a test",
    }  # fmt: skip


def test_rows_have_seldom_fates_and_what_differs_in_each_currency(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"erp": (1, Decimal(3)), "parked": (2, Decimal(4)), "vanished": (3, Decimal(5))}
    euros = CurrencyTotals("EUR", counts, ReceiptFigures(gross=Decimal(3)), ReceiptFigures(gross=Decimal("2.50")))
    yen = CurrencyTotals(
        "JPY", {"erp": (1, Decimal(70))}, ReceiptFigures(gross=Decimal(70)), ReceiptFigures(gross=Decimal(70))
    )
    lines = shown(capsys, [DayReport("", "2026-03-10", [euros, yen], "differs")])
    assert "+ duplicates + replaced + dead + held + parked + vanished + waiting + skipped" in lines[0]
    assert lines[1:3] == ["(no store) 2026-03-10 differs 6 2 3 3.00 2.50 -0.50 EUR", "1 70 70 JPY"]


def test_last_arrival_of_a_day_of_which_nothing_arrived_is_unknown() -> None:
    def said(one: DayReport) -> Any:
        return day_as_json(one, current_state(one, [], AT, "ada"))["last_arrival"]

    assert said(day(1)) is None
    assert said(day(1, arrived=1_000)) == "1970-01-01T00:00:01+00:00"


def test_history_tells_what_was_not_booked(capsys: pytest.CaptureFixture[str]) -> None:
    left = NotBooked(receipts=2, amounts={"CHF": "1.00", "EUR": "2.00"}, others=1)
    old = DayState(store="", day="2026-03-10", state="closed", at=AT, by="ada", reopened=True)
    new = DayState(store="S1", day="2026-03-10", state="incomplete", at=AT, by="bob", why="so", unbooked=left)
    report_history([old, new])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "store day state not booked since by why",
        "(no store) 2026-03-10 closed (reopened) not recorded 2026-03-20 00:00:00 ada",
        "S1 2026-03-10 incomplete 1.00 CHF, 2.00 EUR, 1 record 2026-03-20 00:00:00 bob so",
    ]
