"""Tillstream's errors about Kafka, and the one translation of the client's errors into them.

Only `streams.kafka` catches confluent_kafka's exceptions for the rest of the project; sinks have errors of their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

#: For records that a broker refuses because of their timestamps.
CLOCK_ADVICE = "set the clock of this machine (NTP)"
#: Errors that don't go away by waiting.
ACCESS_ERRORS = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


class BrokerUnreachable(Exception):
    """No broker answered; the message has the address, and says which settings to check."""


class AccessLost(BrokerUnreachable):
    """The broker answers and refuses: other credentials or other rights are needed."""


class TopicsUnusable(Exception):
    """A topic is missing or doesn't fit; the message has the topic, and says how to fix it."""


class TopicChanged(Exception):
    """The source topic's number of partitions has changed since the start: restart the worker."""


@contextmanager
def kafka_errors(action: str) -> Iterator[None]:
    """Raise BrokerUnreachable instead of the client's KafkaException; its message starts with `action`."""
    try:
        yield
    except KafkaException as error:
        raise BrokerUnreachable(f"{action}: {reason_of(error)}") from None


def reason_of(error: KafkaException) -> str:
    """Return the client's text for the error."""
    cause = error.args[0]
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def code_of(error: KafkaException) -> int | None:
    """Return the error's code: one of KafkaError's constants, or None where the client gave none."""
    cause = error.args[0]
    return cause.code() if isinstance(cause, KafkaError) else None


def unreachable(servers: str, error: KafkaError, connection_errors: Sequence[KafkaError]) -> BrokerUnreachable:
    """Return the error of a request that failed, as AccessLost if the broker refuses the client.

    `connection_errors` are those the client reported meanwhile: when connections are refused, the request itself only
    times out.
    """
    refusal = next((fault for fault in (error, *connection_errors) if fault.code() in ACCESS_ERRORS), None)
    if refusal is not None:
        return AccessLost(f"the Kafka broker at {servers} refuses: {refusal.str()}; see kafka.* in the settings")
    return BrokerUnreachable(
        f"no Kafka broker answers at {servers} ({error.name()}); is it running, and are broker and kafka.* in "
        "the settings right?"
    )
