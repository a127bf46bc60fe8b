"""How the demo ends: every record is accounted for, and what is in dead letters is not booked."""

from collections import Counter
from datetime import date
from decimal import Decimal

import pytest

from ops.demo.balance import Balance, balance
from ops.demo.screen import print_balance
from ops.simulator.tills import ConfirmedTally, SimulatedRecord
from ops.worker.process import WorkerReadings
from schemas.dead_letter import Reason
from sinks.base import StoreDay


def sent(gross: str, reason: Reason | None = None) -> SimulatedRecord:
    return SimulatedRecord(b"S1", b"{}", "broken" if reason else "fresh", reason, Decimal(gross), "S1", "sale")


def ended(*records: SimulatedRecord, booked: str) -> Balance:
    """The end of a demo that has sold these records, with one document booked."""
    tally = ConfirmedTally()
    for record in records:
        tally.confirm(record)
    day = StoreDay("S1", date(2026, 3, 10), "EUR", 1, 1, Decimal(booked), Decimal(0), Decimal(booked), Decimal(1), {})
    dead = Counter(str(record.reason) for record in records if record.reason is not None)
    return balance(tally, [day], dead, WorkerReadings())


def test_demo_with_dead_letters_is_accounted_for_and_not_balanced(capsys: pytest.CaptureFixture[str]) -> None:
    conflict = sent("7.00", Reason.CONFLICTING_DUPLICATE)  # its receipt is booked in the first version
    result = ended(sent("3.00"), sent("9.99", Reason.TOTALS_MISMATCH), conflict, booked="3.00")
    assert (result.accounted, result.balanced) == (True, False)
    assert result.as_json()["money"] == {"tills": "3.00", "erp": "3.00", "unbooked": "9.99"}
    print_balance(result)
    told = capsys.readouterr().out
    assert "3 sent = 1 documents + 0 duplicates + 2 dead letters + 0 skipped" in told
    assert "Books agree, to the cent. NOT BOOKED: 2 dead letters, worth 9.99" in told
    assert "Balanced" not in told


def test_demo_without_dead_letters_is_balanced(capsys: pytest.CaptureFixture[str]) -> None:
    print_balance(ended(sent("3.00"), booked="3.00"))
    assert "Books agree, to the cent. Everything is booked. Balanced." in capsys.readouterr().out


def test_demo_whose_money_differs_is_neither(capsys: pytest.CaptureFixture[str]) -> None:
    result = ended(sent("3.00"), booked="2.99")
    assert (result.accounted, result.balanced, result.in_words()) == (False, False, "NOT ACCOUNTED FOR")
    print_balance(result)
    assert "DIFFERS: gross at the tills, and in the ERP, of S1: 3.00 and 2.99" in capsys.readouterr().out
