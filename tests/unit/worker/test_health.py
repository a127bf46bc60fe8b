"""Alive, ready, or why not."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import get_args
from urllib.request import Request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from schemas.dead_letter import Reason
from sinks.sql.errors import _KINDS, _SQLITE_KINDS
from streams.dead_letters.audit import OutcomeEnd
from streams.metrics import MOST_STORES, OTHER_STORES, BatchHistogram, WorkerMetrics
from streams.settings import WatchdogSettings
from streams.worker.health import HealthServer
from streams.worker.state import EVERYONE, WorkerState


class Clock:
    """Monotonic seconds, by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> WorkerState:
    result = WorkerState(clock)
    result.recovered = lambda: True
    return result


@pytest.fixture
def server(state: WorkerState) -> Iterator[HealthServer]:
    result = HealthServer("127.0.0.1", 0, WorkerMetrics().registry, state)
    yield result
    result.close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_health_are_served(server: HealthServer) -> None:
    assert "tillstream_events_delivered_total 0.0" in get(server, "/metrics")[1]
    assert get(server, "/healthz") == (200, '{"ok": true, "reasons": []}\n')
    assert get(server, "/readyz")[0] == 200
    assert get(server, "/")[0] == 404


def test_metrics_are_openmetrics_for_who_asks_for_them(server: HealthServer) -> None:
    asked = Request(f"http://127.0.0.1:{server.port}/metrics", headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        families = {family.name: family.type for family in text_string_to_metric_families(answer.read().decode())}
    assert families["tillstream_event_to_commit_seconds"] == "histogram"
    assert families["tillstream_events_delivered"] == "counter"


def test_trouble_of_a_background_task_is_a_warning_of_a_ready_worker(server: HealthServer, state: WorkerState) -> None:
    assert get(server, "/readyz") == (200, '{"ok": true, "reasons": [], "warnings": []}\n')
    state.warn("retry", "dead letters are not tried again: no topic")
    assert json.loads(get(server, "/readyz")[1])["warnings"] == ["dead letters are not tried again: no topic"]
    assert get(server, "/readyz")[0] == 200
    state.warn("retry", None)
    assert json.loads(get(server, "/readyz")[1])["warnings"] == []


def test_counters_are_exported_as_0_from_the_start() -> None:
    samples = [sample for family in WorkerMetrics().registry.collect() for sample in family.samples]
    found = {name: {s.labels[label] for s in samples if s.name == name and s.value == 0} for name, label in COUNTED}
    assert found["tillstream_sink_errors_total"] >= {*_KINDS.values(), *_SQLITE_KINDS.values(), "other"}
    ends_by_hand = {"resolved", "refused"}
    assert found["tillstream_dead_letters_retried_total"] == {*get_args(OutcomeEnd)} - ends_by_hand
    assert found["tillstream_events_rejected_total"] == {reason.value for reason in Reason}


COUNTED = [
    ("tillstream_sink_errors_total", "kind"),
    ("tillstream_dead_letters_retried_total", "end"),
    ("tillstream_events_rejected_total", "reason"),
]


def test_tasks_in_trouble_are_1() -> None:
    metrics = WorkerMetrics()
    metrics.note_troubles({"retry": "no topic"})
    name = "tillstream_dead_letters_trouble"
    found = [metrics.registry.get_sample_value(name, {"task": task}) for task in ("retry", "watch")]
    assert found == [1, 0]


def test_worker_that_is_joining_is_live_but_not_ready(server: HealthServer, state: WorkerState) -> None:
    state.recovered = lambda: False
    assert get(server, "/healthz")[0] == 200
    status, body = get(server, "/readyz")
    assert status == 503
    assert "joining the group" in json.loads(body)["reasons"][0]


def test_loop_that_hangs_is_not_live(server: HealthServer, clock: Clock) -> None:
    clock.now += 31
    assert get(server, "/healthz") == (503, '{"ok": false, "reasons": ["the event loop hangs for 31 s"]}\n')
    assert get(server, "/readyz")[0] == 503


def test_batch_that_is_stuck_is_not_live_unless_the_sink_is_down(state: WorkerState, clock: Clock) -> None:
    with state.at_work():
        clock.now += 121
        state.heartbeat = clock.now
        assert state.not_live() == ["a batch is in flight for 121 s"]
        state.troubles = lambda: ["sink: connection: refused"]
        assert state.not_live() == []
        assert state.not_ready() == ["sink: connection: refused"]
    state.troubles = list
    assert state.not_live() == []


def test_records_that_wait_without_progress_are_not_live(state: WorkerState, clock: Clock) -> None:
    clock.now += 301
    state.heartbeat = clock.now
    assert state.not_live() == ["records wait and none was settled for 301 s"]
    state.progress = clock.now
    assert state.not_live() == []


def test_held_worker_is_live_but_not_ready(state: WorkerState) -> None:
    state.pause("too many dead letters")
    assert state.not_live() == []
    assert state.not_ready() == ["held: too many dead letters"]


async def test_held_worker_continues_when_it_is_resumed(state: WorkerState, clock: Clock) -> None:
    assert not state.resume()
    state.pause("too many dead letters")
    waiting = asyncio.ensure_future(state.wait_resumed())
    await asyncio.sleep(0)
    clock.now = state.heartbeat = clock.now + 1000
    assert state.resume()
    await waiting
    assert state.not_ready() == []  # the time of waiting is no stall
    state.pause("again")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(state.wait_resumed(), 0.01)


def test_waiting_for_a_dependency_is_no_stall(state: WorkerState, clock: Clock) -> None:
    clock.now = state.heartbeat = clock.now + 1000
    state.outage = "no broker answers"
    assert state.stalled() == []
    assert state.not_ready() == ["no broker answers"]


def test_limits_are_settings(clock: Clock) -> None:
    state = WorkerState(clock, WatchdogSettings(loop_seconds=3))
    clock.now += 4
    assert state.stalled() == ["the event loop hangs for 4 s"]


async def test_idle_is_when_no_slice_is_in_flight(state: WorkerState) -> None:
    assert await state.wait_idle(0)
    with state.at_work():
        assert not await state.wait_idle(0.01)
    assert await state.wait_idle(0)


def test_histogram_counts_a_batch_as_prometheus_would() -> None:
    registry = CollectorRegistry()
    histogram = BatchHistogram("seconds", "Text.", (0.1, 1.0), registry)
    histogram.observe_all([0.05, 0.1, 0.5, 7.0])
    histogram.observe_all([])
    counts = [registry.get_sample_value("seconds_bucket", {"le": bound}) for bound in ("0.1", "1.0", "+Inf")]
    assert counts == [2, 3, 4]
    assert registry.get_sample_value("seconds_sum") == pytest.approx(7.65)


def test_lag_of_a_partition_that_went_away_disappears() -> None:
    metrics = WorkerMetrics()
    metrics.note_lags({0: 5, 1: 7})
    metrics.note_lags({1: 6})
    lags = [metrics.registry.get_sample_value("tillstream_lag_records", {"partition": number}) for number in "01"]
    assert lags == [None, 6]


def test_stores_beyond_the_cap_share_one_series() -> None:
    metrics = WorkerMetrics()
    for number in range(MOST_STORES + 5):
        metrics.note_store(f"S{number}", float(number))
    gauge = "tillstream_store_newest_event_timestamp_seconds"
    assert metrics.registry.get_sample_value(gauge, {"store": OTHER_STORES}) == MOST_STORES + 4
    assert metrics.registry.get_sample_value(gauge, {"store": f"S{MOST_STORES + 1}"}) is None


def test_missing_receipts_of_stores_beyond_the_cap_share_one_series() -> None:
    metrics = WorkerMetrics()
    for number in range(MOST_STORES + 5):
        metrics.note_missing_receipts({f"S{number}": 1})
    metrics.note_missing_receipts({"S0": 2})
    counter = "tillstream_receipts_missing_total"
    found = [metrics.registry.get_sample_value(counter, {"store": store}) for store in ("S0", OTHER_STORES)]
    assert found == [3, 5]


def test_reason_without_waiting_dead_letters_is_zero() -> None:
    metrics = WorkerMetrics()
    metrics.note_waiting({"held_refund": 2})
    metrics.note_waiting({})
    assert metrics.registry.get_sample_value("tillstream_dead_letters_waiting", {"reason": "held_refund"}) == 0


def test_every_reason_is_counted_from_zero_so_that_the_first_dead_letter_has_a_rate() -> None:
    registry = WorkerMetrics().registry
    for reason in Reason:
        assert registry.get_sample_value("tillstream_events_rejected_total", {"reason": reason.value}) == 0


async def test_batch_that_waits_for_a_flapping_sink_is_no_stall_though_others_are_answered(
    state: WorkerState, clock: Clock
) -> None:
    answered = asyncio.Event()
    waiting: list[object] = []
    state.waiting = lambda: waiting

    async def wait_for_the_sink() -> None:
        with state.at_work():
            waiting.append(asyncio.current_task())
            await answered.wait()
            waiting.clear()
            clock.now = state.heartbeat = clock.now + 100
            assert state.stalled() == []  # the time of waiting does not count
            clock.now = state.heartbeat = clock.now + 100
            assert state.stalled() == ["a batch is in flight for 200 s"]

    task = asyncio.create_task(wait_for_the_sink())
    await asyncio.sleep(0)
    for _ in range(10):
        clock.now = state.heartbeat = state.progress = clock.now + 100
        assert state.stalled() == []
    answered.set()
    await task


async def test_batch_that_hangs_is_a_stall_though_another_waits_for_the_sink(state: WorkerState, clock: Clock) -> None:
    other = asyncio.create_task(asyncio.sleep(0))
    state.waiting = lambda: [other]
    state.troubles = lambda: ["sink: connection: refused"]
    with state.at_work():
        clock.now = state.heartbeat = clock.now + 121
        assert state.stalled() == ["a batch is in flight for 121 s"]
        state.waiting = lambda: [other, EVERYONE]
        clock.now = state.heartbeat = clock.now + 121
        assert state.stalled() == []
    await other
