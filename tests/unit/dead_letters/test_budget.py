"""The rejection budget stops a bad deploy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letters.budget import BudgetExceeded, BudgetGuard


def test_budget_stops_a_topic_of_rejections_within_the_sample() -> None:
    guard = BudgetGuard(0.5, 1000)
    passed = 0
    while passed < 500:
        guard.spend(100, 100)
        passed += 100
    with pytest.raises(BudgetExceeded, match="600 of the latest 600 records"):
        guard.spend(100, 100)


def test_one_batch_over_the_ratio_is_stopped_whatever_its_size() -> None:
    with pytest.raises(BudgetExceeded):
        BudgetGuard(0.5, 1000).spend(2000, 1001)
    BudgetGuard(0.5, 1000).spend(2000, 1000)


def test_run_of_rejections_is_stopped_before_the_ratio_is() -> None:
    guard = BudgetGuard(0.5, 1000, max_consecutive=10)
    guard.spend(8, 8, [True] * 8)
    guard.spend(4, 2, [True, True, False, False])
    guard.spend(9, 9, [True] * 9)
    guard.spend(100, 0)
    guard.spend(10, 10, [True] * 10)
    for _ in range(2):  # what is stopped counts nothing
        with pytest.raises(BudgetExceeded, match="more than 10 records in a row"):
            guard.spend(2, 1, [True, False])
    guard.spend(2, 1, [False, True])
    guard.reset()
    guard.spend(10, 10, [True] * 10)


def test_reset_starts_counting_from_zero() -> None:
    guard = BudgetGuard(0.5, 1000)
    guard.spend(500, 500)
    guard.reset()
    assert guard.used == 0
    guard.spend(500, 500)
    with pytest.raises(BudgetExceeded):
        guard.spend(1, 1)


def test_old_rejections_are_forgotten() -> None:
    guard = BudgetGuard(0.1, 100)
    guard.spend(10, 10)
    for _ in range(10):
        guard.spend(10, 0)
    assert guard.used == 0
    guard.spend(10, 10)


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 0.5)), max_size=60))
def test_stream_within_the_ratio_is_never_stopped(batches: list[tuple[int, float]]) -> None:
    guard = BudgetGuard(0.5, 100)
    for records, share in batches:
        guard.spend(records, int(records * share / 2))
