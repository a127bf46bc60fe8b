"""`tillstream reconcile`: what it says of days, how it is narrowed, and how days are signed off and noted."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ops.reconcile.run import first_unsettled_day
from streams.dead_letters.day_states import DayState, write_day_states
from tests.support.reconciliation import DAYS, Desk, ref

S1, S2 = "S1", "S2"
LEFT = "NOT BOOKED: 9.99 EUR in 1 receipt."
DELETE_S2 = (
    "DELETE FROM documents WHERE store = 'S2' AND business_date = '2026-03-10'",
    f"DELETE FROM deliveries WHERE external_ref = '{ref(2, S2)}'",
    f"DELETE FROM document_lines WHERE external_ref = '{ref(2, S2)}'",
    f"DELETE FROM document_payments WHERE external_ref = '{ref(2, S2)}'",
)


def by_day(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """By store and day what was found."""
    return {(day["store"], day["day"]): day for day in found["days"]}


def noted(desk: Desk, *arguments: str) -> list[tuple[str, ...]]:
    """What was noted of days: store, day, state, by whom, and why."""
    states = json.loads(desk.raw("reconcile", "history", *arguments, "--json"))
    return [tuple(state[name] for name in ("store", "day", "state", "by", "why")) for state in states]


def test_report_has_a_row_for_each_day_and_the_verdict_at_its_end(desk: Desk) -> None:
    lines = [" ".join(line.split()) for line in desk.raw("reconcile", code=1).splitlines()]
    assert lines == [
        "store day state sent = ERP + duplicates + replaced + dead + held + waiting + skipped gross due gross ERP "
        "difference not booked",
        "S1 2026-03-09 balanced 5 3 1 1 9.00 9.00 EUR",
        "S1 2026-03-10 incomplete 4 3 1 3.00 3.00 9.99 EUR",
        "S1 2026-03-11 balanced 2 2 6.00 6.00 EUR",
        "S2 2026-03-09 balanced 2 1 1 3.00 3.00 EUR",
        "S2 2026-03-10 balanced 1 1 3.00 3.00 EUR",
        "",
        "in dead letters: totals_mismatch (1; 9.99 EUR): tillstream dlq list --reason totals_mismatch",
        "",
        "skipped, no document is due: day_close (1)",
        "",
        "missing at the till, or in a record that can't be read: store S1, 2026-03-10, register R1: 4 to 10",
        "missing at the till, or in a record that can't be read: store S1, 2026-03-11, register R1: 14 to 20",
        "missing at the till, or in a record that can't be read: store S1, 2026-03-11, register R1: 22",
        "missing at the till, or in a record that can't be read: store S2, 2026-03-09, register R1: 3 to 4",
        "",
        "not booked, in dead letters: 9.99 EUR in 1 receipt",
        f"5 store-days: 4 balanced, 1 incomplete. Books agree. {LEFT}",
    ]  # fmt: skip
    states = ["balanced", "incomplete", "balanced", "balanced", "balanced"]
    places = [(S1, DAYS[0]), (S1, DAYS[1]), (S1, DAYS[2]), (S2, DAYS[0]), (S2, DAYS[1])]
    assert noted(desk) == [(*place, state, "ada", "") for place, state in zip(places, states, strict=True)]
    assert noted(desk, "--store", S2, "--day", DAYS[1]) == [(S2, DAYS[1], "balanced", "ada", "")]
    assert [state[:2] for state in noted(desk, "--day", DAYS[1])] == [(S1, DAYS[1]), (S2, DAYS[1])]
    shown = desk.run("reconcile", "history", "--store", S1)
    assert "store day state not booked since by why S1 2026-03-09 balanced 20" in shown
    assert "S1 2026-03-10 incomplete 9.99 EUR 20" in shown
    assert "S2" not in shown


def test_found_as_json_has_both_answers_and_all_sums(desk: Desk) -> None:
    before = datetime.now(UTC)
    found = desk.reconcile("--deep", "--no-save", "--allow-open")
    assert before <= datetime.fromisoformat(found.pop("at")) <= datetime.now(UTC)
    days = by_day(found)
    del found["days"]
    nothing = {"receipts": 0, "amounts": {}, "records_of_unknown_amount": 0, "dead_letters_of_booked_receipts": 0}
    left = nothing | {"receipts": 1, "amounts": {"EUR": {"receipts": 1, "gross": "9.99"}}}
    assert found == {
        "balanced": False, "books": "agree", "complete": False, "unbooked": left, "resolved": nothing,
        "unproved": nothing, "verdict": f"5 store-days: 4 balanced, 1 incomplete. Books agree. {LEFT}", "unjudged": 0,
        "unsettled": 1, "lost_until": None, "late": None, "without_a_day": None,
    }  # fmt: skip
    day = days[S1, DAYS[1]]
    assert day.pop("since") >= before.isoformat()
    (account,) = day.pop("accounts")
    assert day == {
        "store": S1, "day": DAYS[1], "state": "incomplete", "by": "ada", "why": "", "reopened": False,
        "last_arrival": "2026-03-10T13:00:00+00:00", "books": "agree", "complete": False,
        "unbooked": left | {"by_fate": {"dead": left}}, "resolved": nothing, "records_lost": False,
        "unproved": nothing, "differences": [], "noted": {}, "gaps": ["register R1: 4 to 10"],
        "dead_letters": [{"receipt": ref(13), "letter": "3:0 totals_mismatch", "fate": "dead", "gross": "9.99"}],
    }  # fmt: skip
    assert account["erp"].pop("digest") == account["sent"].pop("digest") is not None
    sums = {
        "receipts": 3, "lines": 3, "quantity": "2", "net": "2.52", "tax": "0.48", "gross": "3.00",
        "tenders": {"cash": "3.00"},
    }  # fmt: skip
    assert account == {
        "currency": "EUR", "events": 4, "by_fate": {"dead": 1, "erp": 3}, "agrees": True, "sent": sums, "erp": sums,
        "gross_by_fate": {"dead": "9.99", "erp": "3.00"},
    }  # fmt: skip
    assert days[S1, DAYS[0]]["accounts"][0]["by_fate"] == {"duplicate": 1, "erp": 3, "superseded": 1}
    assert days[S2, DAYS[0]]["noted"] == {"day_close": 1}
    assert noted(desk) == []


def test_days_that_are_not_asked_for_are_not_judged(desk: Desk) -> None:
    desk.execute(f"UPDATE documents SET gross = gross + 10000 WHERE external_ref = '{ref(2)}'")
    assert list(by_day(desk.reconcile("--since", DAYS[1], "--store", S1, "--no-save", code=1))) == [
        (S1, DAYS[1]),
        (S1, DAYS[2]),
    ]
    assert list(by_day(desk.reconcile("--day", DAYS[0], "--store", S2, "--no-save"))) == [(S2, DAYS[0])]
    one = desk.run("reconcile", "--day", DAYS[0], code=1)
    assert one.endswith("2 store-days: 1 balanced, 1 differs. 1 difference.")
    assert "give --day or --since, not both" in desk.run("reconcile", "--day", DAYS[0], "--since", DAYS[0], code=2)
    assert "'10.3.2026' is not a date such as 2026-03-10" in desk.run("reconcile", "--day", "10.3.2026", code=2)


def test_money_that_is_not_booked_is_no_failure_where_that_is_allowed(desk: Desk) -> None:
    assert LEFT in desk.run("reconcile", "--allow-open", "--no-save")
    desk.execute(*DELETE_S2)
    shown = desk.run("reconcile", "--allow-open", "--no-save", code=1)
    assert shown.endswith(f"5 store-days: 3 balanced, 1 differs, 1 incomplete. 1 difference. {LEFT}")


def test_signed_day_is_right_until_something_changes(desk: Desk) -> None:
    narrowed = ("--store", S1, "--day", DAYS[1])
    what = "not booked: 9.99 EUR in 1 receipt"
    refused = desk.run("reconcile", "sign", *narrowed, code=2)
    assert f"the day is not balanced ({what}): give the reason with --comment" in refused
    signed = desk.run("reconcile", "sign", *narrowed, "--comment", "on paper", "--by", "grace")
    assert signed.startswith("store S1, 2026-03-10: signed off by grace at 20")
    assert signed.endswith(f" UTC, with {what}")
    shown = desk.run("reconcile", *narrowed)
    assert "S1 2026-03-10 signed off by grace (not booked) 4 3 1 3.00 3.00 9.99 EUR" in shown
    assert shown.endswith(f"1 store-day: 1 signed off. Books agree. {LEFT[:-1]}, all signed off.")
    desk.execute(f"UPDATE documents SET gross = gross + 10000 WHERE external_ref = '{ref(11)}'")
    assert "S1 2026-03-10 differs (reopened) 4 3 1 3.00 4.00 1.00 9.99 EUR" in desk.run("reconcile", code=1)
    assert noted(desk, *narrowed) == [
        (S1, DAYS[1], "signed off", "grace", "on paper"),
        (S1, DAYS[1], "differs", "ada", ""),
    ]
    assert "S1 2026-03-10 differs (reopened) 9.99 EUR" in desk.run("reconcile", "history")


def test_balanced_day_is_signed_off_without_a_reason_and_one_of_nothing_is_not(desk: Desk) -> None:
    signed = desk.run("reconcile", "sign", "--store", S1, "--day", DAYS[0])
    assert signed.endswith(" UTC")
    assert noted(desk) == [(S1, DAYS[0], "signed off", "ada", "")]
    nothing = desk.run("reconcile", "sign", "--store", "S3", "--day", DAYS[0], code=2)
    assert "store S3 has nothing on 2026-03-09, neither sent nor in the ERP" in nothing


def test_metrics_have_what_differs_and_what_is_left(desk: Desk, tmp_path: Path) -> None:
    desk.execute(
        *DELETE_S2,
        f"UPDATE documents SET gross = gross - 10000 WHERE external_ref = '{ref(2)}'",
        f"UPDATE documents SET gross = gross + 20000 WHERE external_ref = '{ref(21)}'",
    )
    file = tmp_path / "tillstream.prom"
    before = datetime.now(UTC).timestamp()
    desk.run("reconcile", "--metrics", str(file), code=1)
    lines = [line.rpartition(" ") for line in file.read_text().splitlines() if not line.startswith("#")]
    numbers = {name.removeprefix("tillstream_reconciliation_"): float(number) for name, _, number in lines}
    assert before <= next(number for name, number in numbers.items() if "{" not in name)
    assert {name: number for name, number in numbers.items() if number and "{" in name} == {
        'differences{kind="altered"}': 2,
        'differences{kind="missing"}': 1,
        'store_days{state="balanced"}': 1,
        'store_days{state="differs"}': 3,
        'store_days{state="incomplete"}': 1,
        'gross_difference{currency="EUR"}': 6,
        'unbooked_receipts{fate="dead"}': 1,
        'unbooked_gross{currency="EUR"}': 9.99,
    }
    zeros = {name for name, number in numbers.items() if not number}
    assert {'differences{kind="doubled"}', 'store_days{state="open"}', 'unbooked_receipts{fate="held"}'} <= zeros


def test_unsettled_days_of_before_stay_in_view(desk: Desk) -> None:
    at = datetime(2026, 3, 12, tzinfo=UTC)
    first = date(2026, 3, 11)
    assert first_unsettled_day(desk.settings, first) == first
    last: dict[str, Any] = {
        "2026-03-01": "balanced",
        "2026-03-02": "signed off",
        "2026-03-05": "differs",
        "": "differs",
    }
    write_day_states(desk.settings, [DayState(store=S1, day="2026-03-03", state="incomplete", at=at, by="ada")])
    write_day_states(
        desk.settings, [DayState(store=S1, day=day, state=said, at=at, by="ada") for day, said in last.items()]
    )
    assert first_unsettled_day(desk.settings, first) == date(2026, 3, 3)
    write_day_states(desk.settings, [DayState(store=S1, day="2026-03-03", state="balanced", at=at, by="ada")])
    assert first_unsettled_day(desk.settings, first) == date(2026, 3, 5)
    assert first_unsettled_day(desk.settings, date(2026, 3, 4)) == date(2026, 3, 4)


@pytest.mark.parametrize("command", ["sign", "certificate"])
@pytest.mark.parametrize(("given", "missing"), [(("--day", DAYS[0]), "--store"), (("--store", S1), "--day")])
def test_one_day_is_named_by_store_and_date(desk: Desk, command: str, given: tuple[str, str], missing: str) -> None:
    assert f"Missing option '{missing}'" in desk.run("reconcile", command, *given, code=2)


def test_days_of_one_date_or_store_are_all_shown_and_others_up_to_a_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.reconcile.render.MAX_ROWS", 1)

    def rows(*arguments: str, code: int = 1) -> int:
        return sum(
            line.split()[:1] in ([S1], [S2]) for line in desk.raw("reconcile", *arguments, code=code).splitlines()
        )

    assert (rows(), rows("--all")) == (1, 5)
    assert (rows("--store", S1), rows("--day", DAYS[0], code=0)) == (3, 2)


def test_altered_field_is_named_by_the_event_that_was_sent(desk: Desk) -> None:
    desk.execute(f"UPDATE document_lines SET sku = 'OTHER' WHERE external_ref = '{ref(2)}'")
    day = by_day(desk.reconcile("--deep", "--store", S1, code=1))[S1, DAYS[0]]
    assert [each["detail"] for each in day["differences"]] == ["line 1: sku OTHER instead of A"]


def test_open_day_can_not_be_signed_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.reconcile.scope.ReconciliationScope.is_over", lambda *_: False)
    refused = desk.run("reconcile", "sign", "--store", S1, "--day", DAYS[0], "--comment", "early", code=2)
    assert "the day is still open: it can be signed off after it is over" in refused
