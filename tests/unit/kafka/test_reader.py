"""Requests of a consumer: which errors pass, and which are reported."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka import reader
from streams.kafka.errors import BrokerUnreachable
from streams.settings import Settings

SETTINGS = Settings(broker="127.0.0.1:9", topic="pos.sales", sink_url="sqlite:///erp.db")


class Coordinator:
    """A consumer whose broker answers with these errors first."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._fail()
        return [TopicPartition(place.topic, place.partition, 7) for place in places]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        self._fail()
        return 2, 5

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self._fail()

    def close(self) -> None:
        assert not self._errors

    def _fail(self) -> None:
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(reader.time, "sleep", pauses.append)
    return pauses


def group_offsets(monkeypatch: pytest.MonkeyPatch, consumer: Coordinator) -> dict[int, int]:
    monkeypatch.setattr(reader, "create_consumer", lambda *_, **__: consumer)
    return reader.group_offsets(SETTINGS.kafka_access, "tillstream", "pos.sales", range(2))


def test_coordinator_that_is_being_created_is_waited_for(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    errors = KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert group_offsets(monkeypatch, Coordinator(*errors)) == {0: 7, 1: 7}
    assert waited == [0.1, 0.1]


def test_error_that_does_not_pass_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    with pytest.raises(BrokerUnreachable, match=r"offsets of tillstream at 127\.0\.0\.1:9: "):
        group_offsets(monkeypatch, Coordinator(KafkaError.GROUP_AUTHORIZATION_FAILED))
    assert waited == []


def test_leader_that_moves_is_waited_for(waited: list[float]) -> None:
    consumer = Coordinator(KafkaError.NOT_LEADER_FOR_PARTITION)
    assert reader.offset_ranges(consumer, "pos.sales", [0]) == {0: (2, 5)}
    assert waited == [0.1]


def test_commit_of_partitions_that_moved_is_an_error_unless_it_may_happen() -> None:
    with pytest.raises(KafkaException):
        reader.commit_offsets(Coordinator(KafkaError.ILLEGAL_GENERATION), "pos.sales", {0: 1})
    moved = Coordinator(KafkaError.ILLEGAL_GENERATION)
    reader.commit_offsets(moved, "pos.sales", {0: 1}, ignore_moved=True)
    denied = Coordinator(KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        reader.commit_offsets(denied, "pos.sales", {0: 1}, ignore_moved=True)


def test_consumer_that_fails_is_closed_and_its_error_names_topic_and_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    consumer = Coordinator(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    monkeypatch.setattr(consumer, "close", lambda: closed.append(consumer))
    monkeypatch.setattr(reader, "create_consumer", lambda *_, **__: consumer)
    with pytest.raises(BrokerUnreachable, match=r"reading pos\.sales at 127\.0\.0\.1:9: "):
        reader.record_at(SETTINGS.kafka_access, "pos.sales", 0, 3)
    assert closed == [consumer]
