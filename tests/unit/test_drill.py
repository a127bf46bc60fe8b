"""What a drill says of itself, and the rules that it hurries."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from deploy.drills import picture
from deploy.drills.timeline import ALERT, Alert, Facts, Timeline, findings, patience, rate_of
from deploy.prometheus.server import RULES, hurried, seconds_of
from ops.demo.balance import Balance

ROOT = Path(__file__).parents[2]
BOOKS = Balance(10, 8, 1, 1, 0, {"unknown_store": 1}, Decimal(5), Decimal(5), [])
FACTS = Facts(sent_at=[], books=BOOKS, recognised=1, lag=0, codes=[0, 0])
TICKET = Alert(ALERT, "ticket", pending=5, firing=35, ended=75)
PAGE = Alert(ALERT, "page", pending=5, firing=None, ended=75)
GOOD = Timeline(
    started_at="2026-11-24T12:00:00+00:00",
    every=5,
    hurry=1,
    moments=[(-60, "tills open"), (0, "database stopped"), (60, "database started"), (80, "the ERP is current")],
    alerts=[PAGE, TICKET],
    tills=[],
    documents=[],
    behind=[],
    balance=BOOKS.as_json(),
    recognised=1,
)


def test_drill_that_went_well_finds_nothing() -> None:
    assert findings(GOOD, FACTS) == []


@pytest.mark.parametrize(
    ("alerts", "finding"),
    [
        ([PAGE], "(ticket) was not pending within 17 s"),
        ([PAGE, replace(TICKET, pending=20)], "(ticket) was not pending within 17 s"),
        ([PAGE, replace(TICKET, firing=None)], "(ticket) did not fire, though the database was away for 60 s"),
        ([PAGE, replace(TICKET, firing=20)], "(ticket) fired after less than 30 s"),
        ([PAGE, replace(TICKET, ended=None)], "(ticket) was not resolved"),
        ([replace(PAGE, firing=70), TICKET], "(page) fired after less than 180 s"),
        ([replace(PAGE, ended=None), TICKET], "(page) did not end"),
    ],
)
def test_alert_that_is_not_told_as_the_runbook_says_is_found(alerts: list[Alert], finding: str) -> None:
    (found,) = findings(replace(GOOD, alerts=alerts), FACTS)
    assert finding in found


@pytest.mark.parametrize(
    ("facts", "finding"),
    [
        (replace(FACTS, lag=3), "3 records are not acknowledged in the end"),
        (replace(FACTS, codes=[0, 75]), "workers ended with exit codes [0, 75]"),
        (replace(FACTS, recognised=0), "1 records were sent again, and 0 recognised"),
        (replace(FACTS, books=replace(BOOKS, differences=["documents due, and in the ERP: 9 and 8"])), "9 and 8"),
    ],
)
def test_loss_is_found(facts: Facts, finding: str) -> None:
    (found,) = findings(GOOD, facts)
    assert finding in found


def test_lag_that_does_not_drain_is_found() -> None:
    assert findings(replace(GOOD, moments=GOOD.moments[:-1]), FACTS) == ["the lag did not drain"]


def test_picture_in_the_readme_is_drawn_from_the_drill_that_it_tells_of() -> None:
    text = (ROOT / "deploy/drills/results/outage.json").read_text()
    timeline = Timeline.of_json(text)
    assert timeline.as_json() == text
    assert timeline.findings == []
    assert (ROOT / "docs/pictures/outage.svg").read_text() == picture.draw(timeline)


def test_rate_is_told_for_whole_steps_only() -> None:
    sent_at = [1000, *range(5000, 15_000, 100), 15_000]
    assert rate_of(sent_at, zero=10, every=5) == [(-2.5, 10.0), (2.5, 10.0)]


def test_hurried_rules_differ_in_their_durations_alone() -> None:
    given = yaml.safe_load(RULES.read_text())
    assert hurried(given, 1) == given
    made = hurried(given, 10)
    assert [group["name"] for group in made["groups"]] == [group["name"] for group in given["groups"]]
    (before,), (after,) = (
        [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == "TillstreamStalled"]
        for rules in (given, made)
    )
    assert after["expr"] == before["expr"].replace("[5m]", "[30s]").replace("[10m]", "[60s]")
    assert (before["for"], after["for"]) == ("2m", "12s")
    assert patience(10) == {"page": 18, "ticket": 3}


@pytest.mark.parametrize(("duration", "seconds"), [("30s", 30), ("2m", 120), ("1h", 3600), ("30d", 2_592_000)])
def test_duration_has_its_seconds(duration: str, seconds: int) -> None:
    assert seconds_of(duration) == seconds
