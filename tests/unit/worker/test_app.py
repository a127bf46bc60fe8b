"""The parts that the worker's app is put together from."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.dead_letter import Reason
from streams.dead_letters.retry import RetrySchedule
from streams.kafka.errors import BrokerUnreachable
from streams.settings import RejectionBudget, RetrySettings
from streams.worker.app import new_budget, translate_error, watch_dependencies
from streams.worker.background import FIRST_REFUND_PAUSE, retry_schedule
from streams.worker.state import EVERYONE, WorkerState

RETRIES = {Reason.UNMAPPED_ITEM: RetrySettings(first_seconds=5, for_minutes=10)}


class Dependency:
    """A sink, source or publisher in trouble, or not."""

    def __init__(self, trouble: str | None = None, *waiting: object) -> None:
        self.trouble = trouble
        self.waiting = waiting


def state_of(sink: Dependency, publisher: Dependency, source: Dependency | None) -> WorkerState:
    state = WorkerState(lambda: 0.0)
    app = SimpleNamespace(rebalancing_count=1, rebalancing=False)
    watch_dependencies(cast(Any, app), state, cast(Any, sink), cast(Any, publisher), cast(Any, source))
    return state


def test_worker_waits_for_every_dependency_in_trouble() -> None:
    state = state_of(Dependency("sink: refused", "write"), Dependency("no topic", "put"), Dependency())
    assert state.causes() == ["sink: refused", "no topic"]
    assert [*state.waiting()] == ["write", "put"]
    assert state.recovered()


def test_all_partitions_wait_for_the_registry_of_the_source() -> None:
    state = state_of(Dependency(), Dependency(), Dependency("no registry"))
    assert state.causes() == ["no registry"]
    assert [*state.waiting()] == [EVERYONE]


def test_reason_is_retried_as_the_settings_say() -> None:
    assert retry_schedule("unmapped_item", RETRIES, None) == (timedelta(seconds=5), timedelta(minutes=10), False)
    assert retry_schedule("unmapped_store", RETRIES, None) is None


@pytest.mark.parametrize(
    ("retries", "first"),
    [({}, FIRST_REFUND_PAUSE), ({Reason.HELD_REFUND: RetrySettings(first_seconds=60)}, timedelta(seconds=60))],
)
def test_refund_waits_as_long_as_the_mapping_says(retries: dict[Reason, RetrySettings], first: timedelta) -> None:
    assert retry_schedule("held_refund", retries, 30) == RetrySchedule(first, timedelta(minutes=30), last=True)


def test_refund_without_a_rule_is_retried_like_any_other_reason() -> None:
    assert retry_schedule("held_refund", {}, None) is None


def test_lost_connection_is_an_outage_and_a_bug_stays_a_bug() -> None:
    outage = translate_error(KafkaConnectionError("gone"), "k:9092")
    assert isinstance(outage, BrokerUnreachable)
    assert "k:9092" in str(outage)
    bug = ZeroDivisionError()
    assert translate_error(bug, "k:9092") is bug


def test_new_budget_has_counted_nothing() -> None:
    assert new_budget(RejectionBudget()).used == 0
