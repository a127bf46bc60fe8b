"""Dead letters and a broker that does not take them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import faust
import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from faust.exceptions import ProducerSendError

from schemas.dead_letter import Reason
from streams.batch import Rejection
from streams.dead_letters.record import DeadLetterRecord, dead_letter_record
from streams.metrics import WorkerMetrics
from streams.sink_retry import BackOff
from streams.worker.publisher import DeadLetterPublisher
from tests.support.events import NOON, FakeRecord


@dataclass
class Topic:
    """A dead-letter topic that takes records of `most` bytes, and fails first as `failures` say, send by send."""

    most: int = 1_000_000
    failures: list[Exception | None] = field(default_factory=list)
    kept: list[DeadLetterRecord] = field(default_factory=list)

    async def maybe_start_producer(self) -> "Topic":
        return self

    async def send(self, topic: str, key: Any, value: Any, partition: Any, timestamp: Any, headers: Any) -> Any:
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, ProducerSendError):
            raise failure
        answer = asyncio.get_running_loop().create_future()
        made = DeadLetterRecord(key, value, headers)
        if failure is not None:
            answer.set_exception(failure)
        elif len(value or b"") + sum(len(text) for _, text in headers) > self.most:
            answer.set_exception(MessageSizeTooLargeError())
        else:
            self.kept.append(made)
            answer.set_result(None)
        return answer


def letters(*values: bytes) -> list[DeadLetterRecord]:
    return [
        dead_letter_record(
            Rejection(FakeRecord(offset, one), Reason.INVALID_JSON, "json_invalid", "decode"), "pos.sales", 0, NOON
        )
        for offset, one in enumerate(values)
    ]


def publisher(topic: Topic, metrics: WorkerMetrics | None = None) -> DeadLetterPublisher:
    return DeadLetterPublisher(
        cast(faust.App, topic), "pos.sales.dlq", metrics or WorkerMetrics(), BackOff(0.001, 0.002)
    )


async def test_letter_that_does_not_fit_is_kept_truncated_and_the_others_whole() -> None:
    topic, metrics = Topic(most=2000), WorkerMetrics()
    await publisher(topic, metrics)(letters(b"a", b"x" * 5000, b"b"))
    assert [kept.value for kept in topic.kept[:2]] == [b"a", b"b"]
    (cut,) = topic.kept[2:]
    headers = {name: text.decode() for name, text in cut.headers}
    assert cut.value
    assert set(cut.value) == {ord("x")}
    assert (headers["tillstream.truncated"], headers["__connect.errors.offset"]) == ("5000", "1")
    assert metrics.registry.get_sample_value("tillstream_dead_letters_truncated_total") == 1


async def test_letters_that_are_only_together_too_large_are_kept_whole() -> None:
    topic, metrics = Topic(failures=[RecordListTooLargeError(), RecordListTooLargeError()]), WorkerMetrics()
    await publisher(topic, metrics)(letters(b"a", b"b"))
    assert [kept.value for kept in topic.kept] == [b"a", b"b"]
    assert metrics.registry.get_sample_value("tillstream_dead_letters_truncated_total") == 0


async def test_size_that_the_client_itself_refuses_is_truncated_too() -> None:
    refusal = ProducerSendError("too large")
    refusal.__cause__ = MessageSizeTooLargeError()
    topic = Topic(failures=[refusal, refusal])
    await publisher(topic)(letters(b"x" * 100))
    assert [len(kept.value or b"") for kept in topic.kept] == [99 // 2]


@pytest.mark.parametrize("error", [UnknownTopicOrPartitionError(), NotEnoughReplicasError()])
async def test_broker_that_refuses_is_waited_out_and_only_missing_records_are_sent_again(error: KafkaError) -> None:
    topic = Topic(failures=[None, error])
    await publisher(topic)(letters(b"a", b"b", b"c"))
    assert [kept.value for kept in topic.kept] == [b"a", b"c", b"b"]


async def test_topic_that_is_missing_before_the_send_holds_everything_back() -> None:
    missing = ProducerSendError("no such topic")
    missing.__cause__ = UnknownTopicOrPartitionError()
    topic = Topic(failures=[missing, missing])
    await publisher(topic)(letters(b"a", b"b"))
    assert [kept.value for kept in topic.kept] == [b"a", b"b"]


async def test_trouble_is_reported_while_it_lasts() -> None:
    topic = Topic(most=0)  # not even the reference fits
    publish = publisher(topic)
    sending = asyncio.ensure_future(publish(letters(b"x" * 10)))
    while publish.trouble is None:
        await asyncio.sleep(0.001)
    assert publish.trouble.startswith("dead-letter topic pos.sales.dlq: refuses even an empty record for its size")
    topic.most = 2000
    await sending
    assert publish.trouble is None
    assert len(topic.kept) == 1


async def test_time_that_the_broker_refuses_is_waited_out_and_the_reason_names_the_clock() -> None:
    topic = Topic(failures=[InvalidTimestampError()] * 3)
    publish = publisher(topic)
    sending = asyncio.ensure_future(publish(letters(b"a")))
    while publish.trouble is None:
        await asyncio.sleep(0)
    assert publish.trouble.startswith("dead-letter topic pos.sales.dlq: this machine's clock is wrong")
    await sending
    assert [kept.value for kept in topic.kept] == [b"a"]
    assert publish.trouble is None


async def test_trouble_of_a_call_that_is_cancelled_is_over() -> None:
    topic = Topic(most=0)
    publish = publisher(topic)
    sending = asyncio.ensure_future(publish(letters(b"x" * 10)))
    while publish.trouble is None:
        await asyncio.sleep(0.001)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert publish.trouble is None


async def test_bug_is_no_trouble() -> None:
    with pytest.raises(ZeroDivisionError):
        await publisher(Topic(failures=[ZeroDivisionError()]))(letters(b"a"))
