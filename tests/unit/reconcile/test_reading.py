"""How far a group is, asked of a broker that is not ready to say."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ops.reconcile import reading
from streams.settings import Settings
from streams.topics import BrokerUnreachable


class Coordinator:
    """A consumer whose broker answers with these errors first."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        return [TopicPartition(place.topic, place.partition, 7) for place in places]

    def close(self) -> None:
        assert not self._errors


def ask(monkeypatch: pytest.MonkeyPatch, consumer: Coordinator) -> dict[int, int]:
    def there(_: Any) -> dict[str, int]:
        return {"pos.sales": 2}

    monkeypatch.setattr(reading, "partitions_of_topics", there)
    monkeypatch.setattr(reading, "reading_consumer", lambda *_, **__: consumer)
    return reading.committed(Settings(broker="127.0.0.1:9", topic="pos.sales", sink_url="sqlite:///erp.db"))


def test_coordinator_that_is_being_made_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert ask(monkeypatch, Coordinator(*errors)) == {0: 7, 1: 7}


def test_what_does_not_pass_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerUnreachable, match="offsets of tillstream"):
        ask(monkeypatch, Coordinator(KafkaError.GROUP_AUTHORIZATION_FAILED))
