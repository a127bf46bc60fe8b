"""The Kafka and the PostgreSQL that all other integration tests stand on."""

import os
from contextlib import ExitStack

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from deploy.components import postgres_folder
from deploy.kafka import distribution
from tests.support.docker_engine import docker_answers
from tests.support.kafka import EmbeddedBrokerWarning, Kafka, embedded_kafka, kafka_kind
from tests.support.postgres import postgres_kind
from tests.support.postgres_server import LocalPostgres, Postgres
from tests.support.wait import wait_until


def commit(kafka: Kafka, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_records_come_back_byte_for_byte(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name)
    headers: list[tuple[str, bytes | None]] = [("a", b"\x00\xff"), ("a", b"again"), ("none", None)]
    ((partition, offset),) = kafka.produce(topic_name, [(b"till", b"\xfe\x00", headers)])
    (record,) = kafka.records(topic_name)
    assert (record.key, record.value, record.headers) == (b"till", b"\xfe\x00", headers)
    assert (record.partition, record.offset) == (partition, offset)


def test_records_of_all_partitions_come_in_their_order(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, partitions=4)
    for partition in (3, 0):
        kafka.produce(topic_name, [(None, b"%d" % n, []) for n in range(500)], partition=partition)
    found = [(record.partition, record.value) for record in kafka.records(topic_name)]
    assert found == [(partition, b"%d" % n) for partition in (0, 3) for n in range(500)]


def test_an_empty_topic_has_no_records(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name)
    assert kafka.records(topic_name) == []


def test_a_topic_that_nobody_created_is_not_there(kafka: Kafka, topic_name: str) -> None:
    if kafka.kind in ("given", "embedded"):
        pytest.skip("this broker may create topics by itself")
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC_OR_PART"):
        kafka.records(topic_name)


def test_lag_is_what_a_group_has_not_committed(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name)
    kafka.produce(topic_name, [(None, b"x", [])] * 5, partition=0)
    group = f"{topic_name}-group"
    assert (kafka.committed(group, topic_name), kafka.lag(group, topic_name)) == ({}, 5)
    commit(kafka, group, topic_name, 3)
    assert (kafka.committed(group, topic_name), kafka.lag(group, topic_name)) == ({0: 3}, 2)


def test_topics_are_created_with_their_settings(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, partitions=1, config={"max.message.bytes": "1000"})
    kafka.produce(topic_name, [(None, bytes(500), [])])
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        kafka.produce(topic_name, [(None, bytes(2000), [])])


def test_the_embedded_broker_serves_and_says_what_it_is(topic_name: str) -> None:
    with ExitStack() as stack:
        with pytest.warns(EmbeddedBrokerWarning, match="NOT a real broker"):
            kafka = stack.enter_context(embedded_kafka())
        kafka.create_topic(topic_name)
        kafka.produce(topic_name, [(b"k", b"v", [("h", b"1")])], partition=0)
        assert [(r.key, r.value, r.headers) for r in kafka.records(topic_name)] == [(b"k", b"v", [("h", b"1")])]
        commit(kafka, "group", topic_name, 1)
        assert kafka.lag("group", topic_name) == 0


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_gets_an_empty_database(postgres_url: str, time: str) -> None:
    with psycopg.connect(plain(postgres_url), autocommit=True) as connection:
        connection.execute("CREATE TABLE here (time text)")
        connection.execute("INSERT INTO here VALUES (%s)", [time])
        assert connection.execute("SELECT * FROM here").fetchall() == [(time,)]


def test_a_dropped_database_is_gone_with_its_connections(postgres: Postgres) -> None:
    with psycopg.connect(plain(postgres.create_database("short_lived"))) as connection:
        postgres.drop("short_lived")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_local_postgres_keeps_its_port_and_data(own_postgres: LocalPostgres, mode: str) -> None:
    with own_postgres.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    url = own_postgres.url
    own_postgres.restart("fast" if mode == "fast" else "immediate")
    assert own_postgres.url == url
    with own_postgres.connect() as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_the_real_ones_are_used_where_the_binaries_are() -> None:
    if docker_answers() or {"TILLSTREAM_TEST_KAFKA", "TILLSTREAM_TEST_POSTGRES"} & set(os.environ):
        pytest.skip("others come first")
    assert kafka_kind() == ("local" if distribution.is_available() else "embedded")
    assert postgres_kind() == ("local" if postgres_folder() else None)


def test_waiting_returns_the_value_and_fails_in_words() -> None:
    values = iter([0, None, "there"])
    assert wait_until(lambda: next(values)) == "there"
    with pytest.raises(AssertionError, match=r"waited 0 s for the moon; last seen: ''"):
        wait_until(lambda: "", timeout=0, what="the moon")
