"""The translation of the client's errors."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.errors import AccessLost, BrokerUnreachable, code_of, kafka_errors, unreachable

TIMED_OUT = KafkaError(KafkaError._TIMED_OUT)
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


def test_error_of_the_client_starts_with_what_was_tried() -> None:
    with (
        pytest.raises(BrokerUnreachable, match=r"^reading pos\.sales at k:9092: .*Timed out"),
        kafka_errors("reading pos.sales at k:9092"),
    ):
        raise KafkaException(TIMED_OUT)


def test_error_without_a_code_keeps_its_text() -> None:
    error = KafkaException("no records")
    assert code_of(error) is None
    with pytest.raises(BrokerUnreachable, match=r"^reading: no records$"), kafka_errors("reading"):
        raise error


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), kafka_errors("reading"):
        raise ZeroDivisionError


def test_refusal_of_a_connection_explains_a_request_that_timed_out() -> None:
    error = unreachable("k:9092", TIMED_OUT, [DENIED])
    assert isinstance(error, AccessLost)
    assert "see kafka.* in the settings" in str(error)
    assert not isinstance(unreachable("k:9092", TIMED_OUT, []), AccessLost)
