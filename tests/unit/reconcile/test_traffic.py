"""Days of trial traffic, with everything that tills do wrong, reconciled."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, islice

from ops.simulator.traffic import SimulatedRecord, TrafficShares, traffic
from tests.support.books import World

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def sold(shares: TrafficShares, records: int = 600) -> tuple[World, list[SimulatedRecord]]:
    ticks = count()
    endless = traffic(7, lambda: START + timedelta(seconds=300) * next(ticks), shares=shares, day_close=True)
    sent = list(islice(endless, records))
    made = World()
    made.send(*(one.value for one in sent))
    made.work()
    return made, sent


def test_registers_totals_agree_with_what_they_sent_over_days() -> None:
    made, sent = sold(TrafficShares(broken=0))
    days = made.reconcile()
    assert {day.state for day in days} == {"balanced"}
    assert sum(one.type == "day_close" for one in sent) >= 4 * 3 * 2  # of every register, twice
    statuses = Counter({status: sum(day.count(status) for day in days) for status in ("erp", "duplicate", "noted")})
    assert statuses.total() == len(sent)
    gross = sum(one.gross for one in sent if one.kind == "fresh")
    assert sum(account.held.gross for day in days for account in day.accounts) == gross


def test_whatever_tills_do_wrong_only_their_own_totals_differ() -> None:
    made, sent = sold(TrafficShares(broken=0.05))
    days = made.reconcile()
    assert {each.kind for day in days for each in day.differences} == {"register"}
    dead = sum(day.count("dead") for day in days)
    assert dead == len(made.letters()) == sum(one.kind == "broken" for one in sent)
    assert sum(day.count() for day in days) == len(sent)
    held = sum((account.held.gross for day in days for account in day.accounts), Decimal(0))
    assert held == sum(one.gross for one in sent if one.kind == "fresh")
