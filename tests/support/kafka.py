"""A Kafka for tests, from wherever one can be had, in this order:

1. the one whose address is in TILLSTREAM_TEST_KAFKA (host:port),
2. a container, when a Docker engine answers,
3. a real broker on this machine (`deploy/kafka/broker.py`: Java, and Maven the first time),
4. librdkafka's mock inside this process, with a warning: it is enough for demonstrations, not for promises.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

from confluent_kafka import KafkaException, Producer

from deploy.kafka import distribution
from deploy.kafka.broker import SETTINGS, Broker
from deploy.processes import free_port
from tests.support.docker_engine import docker_answers
from tests.support.topics import Topics
from tests.support.wait import wait_until

Kind = Literal["given", "container", "local", "embedded"]

_ADDRESS = "TILLSTREAM_TEST_KAFKA"
_EXPLAINED: dict[Kind, str] = {
    "given": f"the one in {_ADDRESS}",
    "container": "a container",
    "local": "a real broker on this machine",
    "embedded": "WARNING: librdkafka's mock, NOT a real broker (install Java and Maven, or start Docker)",
}


class EmbeddedBrokerWarning(UserWarning):
    """The tests run on a mock of Kafka."""


class Kafka(Topics):
    """A running Kafka. `broker` is there when it is one of this machine, to be killed, paused and restarted."""

    def __init__(self, bootstrap: str, kind: Kind, broker: Broker | None = None) -> None:
        super().__init__(bootstrap, creates_topics=kind != "embedded")
        self.kind = kind
        self.broker = broker


@cache
def kafka_kind() -> Kind:
    """Which Kafka the tests of this run get."""
    if os.environ.get(_ADDRESS):
        return "given"
    if docker_answers():
        return "container"
    return "local" if distribution.is_available() else "embedded"


def kafka_in_words() -> str:
    """One line for pytest's header."""
    kind = kafka_kind()
    return f"kafka: {_EXPLAINED[kind]}" + (f", {distribution.kafka_version()}" if kind == "local" else "")


@contextmanager
def open_kafka() -> Iterator[Kafka]:
    """The Kafka of this run, started if need be, gone afterwards."""
    kind = kafka_kind()
    if kind == "given":
        yield Kafka(os.environ[_ADDRESS], kind)
    elif kind == "container":
        with _container() as kafka:
            yield kafka
    elif kind == "local":
        with local_kafka() as kafka:
            yield kafka
    else:
        with embedded_kafka() as kafka:
            yield kafka


@contextmanager
def local_kafka() -> Iterator[Kafka]:
    """A broker of its own, on this machine: for tests that do it harm."""
    with Broker() as broker:
        yield Kafka(broker.bootstrap, "local", broker)


@contextmanager
def embedded_kafka() -> Iterator[Kafka]:
    """A mock broker in this process. Topics spring up when named, with four partitions each."""
    warnings.warn(_EXPLAINED["embedded"], EmbeddedBrokerWarning, stacklevel=2)
    # The mock lives as long as this producer, whose real address setting is replaced by the mock's.
    owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2})
    (node,) = owner.list_topics(timeout=10).brokers.values()
    yield Kafka(f"{node.host}:{node.port}", "embedded")
    owner.flush(1)


@contextmanager
def _container() -> Iterator[Kafka]:
    """Apache's own image in the version and with the settings of the local broker."""
    from testcontainers.core.container import DockerContainer

    port = free_port()  # clients are sent to the advertised port, so it has to be known before the start
    container = DockerContainer(f"apache/kafka:{distribution.kafka_version()}").with_bind_ports(port, port)
    host = container.get_container_host_ip()
    settings = SETTINGS | {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": "1@localhost:9093",
    }
    for key, value in settings.items():
        container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
    with container:
        kafka = Kafka(f"{host}:{port}", "container")
        wait_until(lambda: _answers(kafka), timeout=60, what="the Kafka container")
        yield kafka


def _answers(kafka: Kafka) -> bool:
    try:
        kafka.admin.list_topics(timeout=1)
    except KafkaException:
        return False
    return True
