"""Which dead letters a filter selects, and how the audit topic keeps it."""

from dataclasses import replace
from decimal import Decimal

import pytest

from ops.dlq.filters import DeadLetterFilter
from tests.support.dead_letters import dead, head


@pytest.mark.parametrize(("amount", "selected"), [("4.99", False), ("5", True), ("-5", True), ("5.01", True)])
def test_least_amount_is_inclusive_and_of_either_sign(amount: str, selected: bool) -> None:
    matches = DeadLetterFilter(min_amount=Decimal(5)).matcher()
    assert matches(replace(head(1), amount=Decimal(amount)), dead(1)) is selected


def test_dead_letter_without_an_amount_has_not_the_least_one() -> None:
    assert not DeadLetterFilter(min_amount=Decimal(0)).matcher()(replace(head(1), amount=None), dead(1))


def test_filter_of_an_earlier_release_keeps_its_meaning() -> None:
    old = DeadLetterFilter().resumed({"over": "5"})
    assert [old.matcher()(replace(head(1), amount=Decimal(amount)), dead(1)) for amount in (5, 6)] == [False, True]
    assert DeadLetterFilter(min_amount=Decimal(5)).stated() == {"min_amount": "5"}
