"""What people read of a reconciliation."""

from dataclasses import replace

import pytest

from ops.reconcile.comparing import Day
from ops.reconcile.office import Found
from ops.reconcile.page import page
from ops.reconcile.showing import counted, day_as_json, report
from ops.reconcile.states import now_is
from tests.support.books import AFTER, World
from tests.support.events import NOON, value


def told(days: list[Day], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the report."""
    now = {(day.store, day.day): now_is(day, [], AFTER, "ada") for day in days}
    report(Found(AFTER, days, None), now, everything=True)
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


def test_days_that_are_not_judged_are_not_called_balanced(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(world.reconcile(), capsys)[-1] == "2 store-days: 2 balanced. Balanced."
    assert told(world.reconcile(NOON), capsys)[-1] == "2 store-days: 2 open. No differences, and 2 days not judged."
    world.sink.documents["pos/S1/R1/1/sale"].gross += 1
    lost = world.reconcile(reach=NOON.date(), store="S1")
    assert told(lost, capsys)[-1] == "1 store-day: 1 closed. No differences, and 1 day not judged."
    assert told([], capsys)[-1] == "Nothing was sent, and the ERP holds nothing."


def test_money_that_is_in_dead_letters_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    line = "in dead letters: totals_mismatch (1; 9.99 EUR): tillstream dlq list --reason totals_mismatch"
    assert line in told(world.reconcile(), capsys)


def test_letters_that_were_closed_by_hand_are_looked_for_among_the_closed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    days = world.reconcile()
    for day in days:
        day.letters = [letter._replace(letter="0:2 resolved") for letter in day.letters]
    assert "in dead letters: resolved (1; 9.99 EUR): tillstream dlq list --all" in told(days, capsys)


def test_what_a_terminal_would_obey_in_tills_names_is_shown_escaped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.send(value(4, store="S\x1b[2J"))
    days = world.reconcile()
    report(Found(AFTER, days, None), {(d.store, d.day): now_is(d, [], AFTER, "ada") for d in days}, everything=True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count(r"S\x1b[2J") >= 2


def test_page_of_a_day_that_is_not_judged_does_not_deny_differences(world: World) -> None:
    (day,) = world.reconcile(store="S1")
    unsigned = dict.fromkeys(("made_at", "made_by", "tills", "erp", "method", "key", "signature"), "")
    closed = replace(day, state="closed")
    for one, said in ((day, "None."), (closed, "None is told: the day is closed, and not judged.")):
        assert f"<p>{said}</p>" in page(unsigned | {"found": day_as_json(one, now_is(one, [], AFTER, "ada"))})
