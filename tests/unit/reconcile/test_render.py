"""What people read of a reconciliation."""

from typing import Any

import pytest
from rich.console import Console

from ops.dlq.render import report_audit
from ops.reconcile.certificate_page import render_page
from ops.reconcile.certificate_wording import FORMAT
from ops.reconcile.day_states import current_state, sign
from ops.reconcile.render import day_as_json, report
from ops.reconcile.repair import describe_unrepaired
from ops.reconcile.run import ReconciliationResult
from ops.reconcile.store_day import DayReport
from ops.reconcile.verdict import counted
from streams.dead_letters.audit import ActionKind, AuditAction
from tests.support.books import AFTER, World
from tests.support.events import NOON, value


def told(days: list[DayReport], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the report."""
    now = {(day.store, day.day): current_state(day, [], AFTER, "ada") for day in days}
    report(ReconciliationResult(AFTER, days, None), now, everything=True)
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def world() -> World:
    made = World()
    made.send(value(1), value(2), value(3, store="S9", totals={"gross": "9.99"}, tenders=[]))
    made.work()
    return made


def test_verdict_counts_in_the_singular_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sink.documents["pos/S1/R1/1/sale"].gross += 1
    days = world.reconcile(store="S1")
    assert told(days, capsys)[-1] == "1 store-day: 1 differs. 1 difference."
    assert [counted(2, "copy", "copies"), counted(1_000, "day")] == ["2 copies", "1,000 days"]


def test_verdict_answers_both_questions(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(world.reconcile(store="S1"), capsys)[-1] == "1 store-day: 1 balanced. Books agree. Balanced."
    both = "2 store-days: 1 balanced, 1 incomplete. Books agree. NOT BOOKED: 9.99 EUR in 1 receipt."
    assert told(world.reconcile(), capsys)[-1] == both
    opened = "2 store-days: 2 open. Books agree. NOT BOOKED: 9.99 EUR in 1 receipt. 2 business days are not over yet."
    assert told(world.reconcile(NOON), capsys)[-1] == opened
    assert (
        told(world.reconcile(NOON, store="S1"), capsys)[-1]
        == "1 store-day: 1 open. Books agree. 1 business day is not over yet."
    )
    assert told([], capsys)[-1] == "Nothing was sent, and the ERP holds nothing."


def test_verdict_says_what_can_not_be_proved(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.lost_records = 1
    lines = told(world.reconcile(store="S1"), capsys)
    proof = "NOT PROVED: 3.00 EUR in 1 receipt, whose records have left the topic."
    assert lines[-1] == f"1 store-day: 1 unproved. Books agree as far as can be proved. {proof}"


def test_money_that_is_in_dead_letters_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    line = "in dead letters: totals_mismatch (1; 9.99 EUR): tillstream dlq list --reason totals_mismatch"
    assert line in told(world.reconcile(), capsys)


def test_letters_that_were_closed_by_hand_are_looked_for_among_the_closed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    days = world.reconcile()
    for day in days:
        day.dead_letters = [letter._replace(dead_letter="0:2 resolved") for letter in day.dead_letters]
    assert "in dead letters: resolved (1; 9.99 EUR): tillstream dlq list --all" in told(days, capsys)


def test_what_a_terminal_would_obey_in_tills_names_is_shown_escaped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.send(value(4, store="S\x1b[2J"))
    days = world.reconcile()
    report(
        ReconciliationResult(AFTER, days, None),
        {(d.store, d.day): current_state(d, [], AFTER, "ada") for d in days},
        everything=True,
    )
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count(r"S\x1b[2J") >= 2


UNSIGNED = dict.fromkeys(("made_at", "made_by", "tills", "erp", "method", "key", "signature"), "") | {
    "certificate": FORMAT
}


def paged(day: DayReport) -> str:
    return render_page(UNSIGNED | {"found": day_as_json(day, current_state(day, [], AFTER, "ada"))})


def test_page_of_a_day_that_is_not_judged_does_not_deny_differences(world: World) -> None:
    (day,) = world.reconcile(store="S1")
    (still_open,) = world.reconcile(NOON, store="S1")
    for one, said in ((day, "None."), (still_open, "None found so far: the day is open.")):
        assert f"<p>{said}</p>" in paged(one)


def test_page_is_green_only_if_all_is_booked(world: World) -> None:
    (right,), (left,) = world.reconcile(store="S1"), world.reconcile(store="S9")
    assert '<div class="state good">balanced</div>' in paged(right)
    assert '<td class="good">All that was sent is booked.</td>' in paged(right)
    assert '<div class="state open">incomplete</div>' in paged(left)
    assert '<td class="bad">NOT BOOKED: 9.99 EUR in 1 receipt.</td>' in paged(left)
    signed = render_page(UNSIGNED | {"found": day_as_json(left, sign(left, AFTER, "ada", "agreed"))})
    assert '<div class="state open">signed off</div>' in signed


def test_gap_is_not_said_to_be_missing_at_the_till_for_sure(capsys: pytest.CaptureFixture[str]) -> None:
    made = World()
    made.send(value(1), value(2)[:-9], value(3))
    made.work()
    lines = told(made.reconcile(), capsys)
    gap = "missing at the till, or in a record that can't be read: store S1, 2026-03-10, register R1: 2"
    assert [line for line in lines if "register R1" in line] == [gap]


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("repair", {"store": "S1", "day": "2026-03-10", "forget": True}, "store S1; day 2026-03-10"),
        ("repair", {"store": None, "day": None, "forget": False}, "all"),
        ("undo", {"repair": "20260310-120000-1232a"}, "repair 20260310-120000-1232a"),
    ],
)
def test_audit_says_of_which_day_a_repair_was(
    what: ActionKind, options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report_audit([AuditAction(id="a", what=what, state="done", by="ada", at=NOON, options=options, counts={"kept": 1})])
    assert capsys.readouterr().out.splitlines()[1].split("done")[1].split("1 kept")[0].strip() == said


def test_repair_says_which_kinds_it_does_not_touch() -> None:
    made = World()
    made.send(value(1), value(2))
    made.work()
    made.sink.documents["pos/S1/R1/1/sale"].gross += 1
    made.sink.documents["pos/S1/R1/2/sale"].store = "S2"
    differences = [each for day in made.reconcile() for each in day.differences]
    person = "left to a person who knows which side is right: 2 moved"
    assert describe_unrepaired(differences, forget=False) == ["repaired only with --revoke: 1 altered", person]
    assert describe_unrepaired(differences, forget=True) == [person]


def test_sentences_are_never_broken_by_a_narrow_terminal(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.reconcile.render.table_console", lambda: Console(width=40))
    lines = told(world.reconcile(), capsys)
    assert lines[-1] == "2 store-days: 1 balanced, 1 incomplete. Books agree. NOT BOOKED: 9.99 EUR in 1 receipt."
