"""Which offset may be committed: up to the end of the leading settled slices, whatever Faust does with the others."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.consumer import ThreadDelegateConsumer
from faust.types import TP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mode import Service
from mode.supervisors import OneForOneSupervisor
from mode.utils.trees import Node
from mode.utils.types.trees import NodeT

from streams.worker.broker_clock import ClockWatch
from streams.worker.state import WorkerState
from streams.worker.transport import (
    POLL,
    SHORT_POLL,
    LineApp,
    Slice,
    SliceConsumer,
    SliceTransport,
    cut,
    forget_stopped,
)

TP0, TP1 = TP("pos.sales", 0), TP("pos.sales", 1)


@dataclass
class KafkaRecord:
    """As aiokafka delivers them."""

    offset: int
    topic: str = "pos.sales"
    partition: int = 0
    timestamp: int = 1_000
    timestamp_type: int = 0
    value: bytes = b"{}"
    key: bytes | None = None
    checksum: int | None = None
    serialized_key_size: int = -1
    serialized_value_size: int = 2
    headers: list[Any] = field(default_factory=list)


async def no_wait() -> None:
    """No agent is at work."""


@pytest.fixture
async def consumer() -> AsyncIterator[SliceConsumer]:
    app = LineApp("test", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
    app.transport = SliceTransport(
        app, "pos.sales", 100, no_wait, ClockWatch(time.time, WorkerState(time.monotonic).warn)
    )
    app.topics._acking_topics.add("pos.sales")
    made = app.consumer
    assert isinstance(made, SliceConsumer)
    yield made
    made._thread.thread_loop.close()  # made for a thread that is never started


def deliver(consumer: SliceConsumer, *offsets: int, tp: TP = TP0) -> Any:
    part = Slice(tp, [KafkaRecord(offset, partition=tp.partition) for offset in offsets], consumer._reading)
    return consumer._to_message(tp, part)


def settle(consumer: SliceConsumer, message: Any) -> None:
    message.value.settled = True
    consumer.ack(message)


async def test_slice_is_one_message_at_the_offset_of_its_last_record(consumer: SliceConsumer) -> None:
    message = deliver(consumer, 5, 6, 9)
    assert (message.offset, message.partition, message.topic) == (9, 0, "pos.sales")
    assert [record.offset for record in message.value.records] == [5, 6, 9]


async def test_settled_slices_may_be_committed_to_their_end(consumer: SliceConsumer) -> None:
    first, second = deliver(consumer, 0, 1, 2), deliver(consumer, 3, 4)
    assert consumer._new_offset(TP0) is None
    settle(consumer, first)
    assert consumer._new_offset(TP0) == 3
    settle(consumer, second)
    assert consumer._new_offset(TP0) == 5


async def test_nothing_past_a_slice_that_is_missing_may_be_committed(consumer: SliceConsumer) -> None:
    deliver(consumer, 0, 1)
    settle(consumer, deliver(consumer, 2, 3))
    assert consumer._new_offset(TP0) is None


async def test_slice_that_faust_skips_and_acks_is_not_settled(consumer: SliceConsumer) -> None:
    message = deliver(consumer, 0, 1)
    assert consumer.ack(message) is False
    assert consumer._new_offset(TP0) is None


async def test_gaps_in_the_offsets_do_not_matter(consumer: SliceConsumer) -> None:
    settle(consumer, deliver(consumer, 3, 70))
    settle(consumer, deliver(consumer, 500))
    assert consumer._new_offset(TP0) == 501


async def test_offsets_without_records_are_counted_once_and_records_that_come_again_are_none(
    consumer: SliceConsumer,
) -> None:
    consumer._committed_offset[TP0] = 2
    first = deliver(consumer, 3, 70)
    assert consumer.take_skipped() == 1 + 66
    settle(consumer, first)
    assert consumer._new_offset(TP0) == 71
    deliver(consumer, 71, 72)
    assert consumer.take_skipped() == 0
    deliver(consumer, 500)
    assert consumer.take_skipped() == 427
    consumer._read_offset[TP0], consumer._committed_offset[TP0] = 500, 71
    deliver(consumer, 71, 72)
    assert consumer.take_skipped() == 0


async def test_partitions_have_books_of_their_own(consumer: SliceConsumer) -> None:
    deliver(consumer, 0)
    settle(consumer, deliver(consumer, 9, tp=TP1))
    assert consumer._new_offset(TP0) is None
    assert consumer._new_offset(TP1) == 10


async def test_partition_with_a_slice_waiting_is_left_out_of_polls_and_the_others_are_not(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[tuple[set[TP], float]] = []

    async def poll(_: Any, wanted: set[TP], timeout: float) -> dict[TP, Any]:
        polls.append((wanted, timeout))
        return {}

    monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", poll)
    consumer.app.rebalancing = False
    first = deliver(consumer, 0)
    await consumer._getmany({TP0, TP1}, 1.0)
    deliver(consumer, 1)
    await consumer._getmany({TP0, TP1}, 1.0)
    await consumer._getmany({TP0}, 1.0)
    settle(consumer, first)
    await consumer._getmany({TP0, TP1}, 1.0)
    assert polls == [({TP0, TP1}, POLL), ({TP1}, SHORT_POLL), ({TP0, TP1}, POLL)]


async def test_partition_is_polled_after_a_seek_whatever_was_polled_before(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def committed() -> dict[TP, int]:
        return {TP0: 0}

    async def poll(_: Any, wanted: set[TP], timeout: float) -> dict[TP, Any]:
        return {tp: [KafkaRecord(0)] for tp in wanted}

    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", poll)
    consumer.app.rebalancing = False
    deliver(consumer, 0)
    deliver(consumer, 1)
    assert await consumer._getmany({TP0}, 1.0) == {}
    await consumer.perform_seek()
    assert list(await consumer._getmany({TP0}, 1.0)) == [TP0]


async def test_after_a_seek_slices_in_flight_count_until_records_come_again(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def committed() -> dict[TP, int]:
        return {TP0: 0}

    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    first, second = deliver(consumer, 0, 1), deliver(consumer, 2, 3)
    await consumer.perform_seek()
    settle(consumer, first)
    assert consumer._new_offset(TP0) == 2
    again = deliver(consumer, 0, 1)
    settle(consumer, second)
    assert consumer._new_offset(TP0) is None
    settle(consumer, again)
    assert consumer._new_offset(TP0) == 2


async def test_seek_waits_for_the_poll_that_is_under_way(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that began before a rebalance and read on after the seek would have its records dropped for good."""
    happened: list[str] = []
    under_way, answer = asyncio.Event(), asyncio.Event()

    async def poll(_: Any, wanted: set[TP], timeout: float) -> dict[TP, Any]:
        under_way.set()
        await answer.wait()
        happened.append("polled")
        return {TP0: [KafkaRecord(0)]}

    async def committed() -> dict[TP, int]:
        happened.append("sought")
        return {TP0: 0}

    monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", poll)
    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    consumer.app.rebalancing = False
    polling = asyncio.create_task(consumer._getmany({TP0}, 1.0))
    await under_way.wait()
    consumer.app.rebalancing = True
    seeking = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0.01)
    answer.set()
    await seeking
    assert await polling == {}
    assert happened == ["polled", "sought"]


async def test_slice_polled_before_a_seek_and_delivered_after_it_moves_no_offset(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def committed() -> dict[TP, int]:
        return {TP0: 300}

    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    late = Slice(TP0, [KafkaRecord(500), KafkaRecord(501)], consumer._reading)
    await consumer.perform_seek()
    settle(consumer, consumer._to_message(TP0, late))
    assert consumer._new_offset(TP0) is None
    settle(consumer, deliver(consumer, 300, 301))
    assert consumer._new_offset(TP0) == 302


async def test_recovery_that_a_rebalance_overtakes_seeks_only_known_partitions_of_its_own(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[dict[TP, int]] = []

    async def seek_wait(partitions: dict[TP, int]) -> None:
        sought.append(partitions)
        if len(sought) > 1:
            raise IllegalStateError("moved")

    monkeypatch.setattr(consumer._thread, "seek_wait", seek_wait)
    monkeypatch.setattr(consumer, "assignment", lambda: {TP0, TP1})
    table = TP("table-changelog", 0)
    for _ in range(2):
        await consumer.seek_wait({TP0: 5, TP1: None, table: 7})  # type: ignore[dict-item]  # as Faust does
    assert sought == [{TP0: 5}, {TP0: 5}]


async def test_records_that_were_dropped_are_sought_before_the_next_poll_until_it_succeeds(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    async def poll(_: Any, wanted: set[TP], timeout: float) -> dict[TP, Any]:
        happened.append("polled")
        return {TP0: [KafkaRecord(0)]}

    async def committed() -> dict[TP, int]:
        happened.append("sought")
        if happened.count("sought") == 1:
            raise KafkaError("not now")
        return {TP0: 0}

    async def no_sleep(_: float) -> None:
        pass

    monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", poll)
    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(consumer, "sleep", no_sleep)
    consumer.app.rebalancing = True
    assert await consumer._getmany({TP0, TP("changelog", 0)}, 1.0) == {}
    consumer.app.rebalancing = False
    assert await consumer._getmany({TP0}, 1.0) == {}
    assert list(await consumer._getmany({TP0}, 1.0)) == [TP0]
    assert list(await consumer._getmany({TP0}, 1.0)) == [TP0]
    assert happened == ["polled", "sought", "sought", "polled", "polled"]


async def test_partitions_without_a_committed_offset_are_read_from_the_beginning_after_a_rebalance(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka seeks only where there is an offset above 0, whatever it has read and we have held back."""
    changelog = TP("changelog", 0)
    rewound: list[TP] = []

    async def committed() -> dict[TP, int | None]:
        return {TP0: None, TP1: 7, changelog: None}

    async def seek_to_beginning(*partitions: TP) -> None:
        rewound.extend(partitions)

    monkeypatch.setattr(consumer, "assignment", lambda: {TP0, TP1, changelog})
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(consumer._thread, "seek_to_beginning", seek_to_beginning)
    await consumer.perform_seek()
    assert rewound == [TP0]


async def test_records_read_again_are_let_through_and_start_the_log_over(consumer: SliceConsumer) -> None:
    first = deliver(consumer, 500, 501)
    consumer._read_offset[TP0] = 501  # as Faust does after delivering
    again = deliver(consumer, 100, 101)
    assert consumer._read_offset[TP0] is None  # so that Faust does not drop it
    settle(consumer, first)
    assert consumer._new_offset(TP0) is None
    settle(consumer, again)
    assert consumer._new_offset(TP0) == 102


async def test_source_records_wait_until_a_rebalance_is_over_and_others_do_not(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    changelog = TP("changelog", 0)
    asked: list[set[TP]] = []

    async def poll(self: object, active: set[TP], timeout: float) -> dict[TP, list[KafkaRecord]]:
        asked.append(active)
        return {TP0: [KafkaRecord(0), KafkaRecord(1)], changelog: [KafkaRecord(7, topic="changelog")]}

    async def committed() -> dict[TP, int]:
        return {TP0: 0}

    monkeypatch.setattr(consumer, "assignment", set)
    monkeypatch.setattr(consumer, "seek_to_committed", committed)
    monkeypatch.setattr(ThreadDelegateConsumer, "_getmany", poll)
    consumer.app.rebalancing = True
    assert list(await consumer._getmany({TP0, changelog}, 1.0)) == [changelog]
    assert await consumer._getmany({TP0}, 1.0) == {}
    consumer.app.rebalancing = False
    (part,) = (await consumer._getmany({TP0, changelog}, 1.0))[TP0]
    assert (asked, part.next_offset) == ([{changelog}, {TP0, changelog}], 2)


async def test_markers_behind_the_last_record_are_no_lag_and_open_records_are(
    consumer: SliceConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "assignment", lambda: {TP0})
    monkeypatch.setattr(consumer._thread, "highwater", lambda _: 12)  # a record at 10, a marker at 11
    monkeypatch.setattr(consumer._thread, "next_offset", lambda _: 12)
    message = deliver(consumer, 9, 10)
    assert consumer.lag() == {0: 12}
    settle(consumer, message)
    assert consumer.lag() == {0: 0}
    consumer.ends = {0: 15}  # as the broker says, whatever the consumer has heard
    assert consumer.lag() == {0: 3}


async def test_only_committed_records_are_read(consumer: SliceConsumer) -> None:
    made = consumer._thread._create_worker_consumer(consumer.transport)
    assert made._isolation_level == "read_committed"
    made._closed = True  # it never was open


async def test_other_topics_are_fausts_own_business(consumer: SliceConsumer) -> None:
    message = consumer._to_message(TP("other", 0), KafkaRecord(4, topic="other"))
    assert (message.offset, message.value) == (4, b"{}")


def test_cut_keeps_order_and_size() -> None:
    records: list[Any] = [KafkaRecord(offset) for offset in range(7)]
    assert [[record.offset for record in part] for part in cut(records, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
async def test_whatever_the_order_of_acks_only_the_leading_ones_count(
    consumer: SliceConsumer, order: list[int]
) -> None:
    consumer._drop_log()
    messages = [deliver(consumer, 2 * number, 2 * number + 1) for number in range(6)]
    done: set[int] = set()
    for number in order:
        settle(consumer, messages[number])
        done.add(number)
        leading = next(n for n in range(7) if n not in done)
        assert consumer._new_offset(TP0) == (2 * leading or None)


class Actor(Service):
    """As Faust's: it knows its stream, and both are children of the agent's beacon."""

    def __init__(self, beacon: NodeT) -> None:
        super().__init__(beacon=beacon)
        self.stream = Service(beacon=beacon)


async def test_actors_of_revoked_partitions_are_let_go_and_the_others_are_kept() -> None:
    agent = SimpleNamespace(beacon=Node("agent"), supervisor=OneForOneSupervisor())
    stays = [Actor(agent.beacon), Actor(agent.beacon)]
    goes = Actor(agent.beacon)
    agent.supervisor.add(stays[0], goes, stays[1])
    for actor in (*stays, goes):
        await actor.start()
    await goes.stop()
    forget_stopped(agent)
    assert agent.supervisor._services == stays
    assert agent.supervisor._index == {stays[0]: 0, stays[1]: 1}
    assert {node.data for node in agent.beacon.children} == {each for actor in stays for each in (actor, actor.stream)}
    for actor in stays:
        await actor.stop()
