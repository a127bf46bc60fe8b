"""Looks up the topics that a worker needs, and creates them where the settings allow it."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    ConfigResource,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from streams.kafka.errors import (
    BrokerUnreachable,
    TopicChanged,
    TopicsUnusable,
    code_of,
    kafka_errors,
    reason_of,
    unreachable,
)
from streams.settings import KafkaAccess, TopicNames, TopicPlan

TIMEOUT = 10.0
MONITOR_TIMEOUT = 5.0
EMBEDDED_CLUSTER = "mockCluster"  # the cluster id of librdkafka's mock
#: For topics that only Tillstream writes to. A broker refuses timestamps of a clock that is an hour ahead of its own;
#: with this it sets the timestamps itself.
BROKER_TIMESTAMPS = {"message.timestamp.type": "LogAppendTime"}
HEADER_ROOM = 2**14  # bytes that a dead letter's headers may add to its record


def client_config(access: KafkaAccess) -> dict[str, Any]:
    """Return librdkafka's settings for connecting to the brokers; the caller adds its own."""
    security = access.security
    config: dict[str, Any] = {
        "bootstrap.servers": access.servers,
        "security.protocol": security.protocol,
        "log_level": 2,  # errors that matter are raised as exceptions
        "log.connection.close": False,
    }
    if security.protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.username,
            "sasl.password": security.secret(),
        }
    for name, file in (
        ("ssl.ca.location", security.ca_file),
        ("ssl.certificate.location", security.certificate_file),
        ("ssl.key.location", security.key_file),
    ):
        if file is not None:
            config[name] = str(file)
    return config


def partitions_of_topics(access: KafkaAccess) -> dict[str, int]:
    """Return the number of partitions of each topic the broker has. Raises BrokerUnreachable."""
    connection_errors: list[KafkaError] = []
    admin = AdminClient(client_config(access) | {"error_cb": connection_errors.append})
    try:
        topics = admin.list_topics(timeout=TIMEOUT).topics
    except KafkaException as error:
        admin.poll(0)
        raise unreachable(access.servers, error.args[0], connection_errors) from None
    return {name: len(topic.partitions) for name, topic in topics.items()}


def ensure_topics(access: KafkaAccess, plan: TopicPlan) -> int:
    """Create the dead-letter and changelog topics, and partitions of the latter, if missing and allowed.

    Returns the source topic's number of partitions. Raises BrokerUnreachable and TopicsUnusable.
    """
    there = partitions_of_topics(access)
    partitions = there.get(plan.names.source)
    if partitions is None:
        raise TopicsUnusable(
            f"the topic {plan.names.source} does not exist at {access.servers}; `tillstream check --apply` creates it "
            f"with {plan.partitions} partitions (`partitions`: as many as you want workers), or set `topic`"
        )
    missing = [topic for topic in worker_topics(plan, partitions) if topic.topic not in there]
    if missing:
        _create(access, plan, missing)
    changelog = plan.names.changelog
    if plan.create and there.get(changelog, partitions) < partitions:
        _add_partitions(access, changelog, partitions)
    elif there.get(changelog, partitions) != partitions:
        raise TopicsUnusable(
            f"{plan.names.source} has {partitions} partitions and {changelog} has {there[changelog]}; the changelog is "
            "only a cache: delete that topic and start again"
        )
    return partitions


def check_record_sizes(access: KafkaAccess, plan: TopicPlan) -> str | None:
    """Return advice if the dead-letter topic takes smaller records than the source topic, else None.

    Nothing is lost then: larger records are truncated there. But they can only be replayed from the source topic, while
    that still has them. Also None if the broker does not let the client read the topics' configuration.
    """
    topics = [plan.names.source, plan.names.dead_letters]
    admin = AdminClient(client_config(access))
    if (admin.list_topics(timeout=TIMEOUT).cluster_id or "").startswith(EMBEDDED_CLUSTER):
        return None  # the mock does not answer this request at all
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    try:
        answers = admin.describe_configs(resources, request_timeout=TIMEOUT)
        source, dead = (int(answers[topic].result(TIMEOUT)["max.message.bytes"].value) for topic in resources)
    except (KafkaException, TimeoutError):
        return None
    largest = min(source, plan.max_record_bytes)
    if dead >= largest:
        return None
    return (
        f"{plan.names.dead_letters} takes records of {dead} bytes and {plan.names.source} of {source}: larger bad "
        "records are truncated there, and only the source topic has the whole, until its retention ends; set "
        f"max.message.bytes of {plan.names.dead_letters} to at least {largest + HEADER_ROOM}"
    )


def ensure_dead_letter_topics(access: KafkaAccess, plan: TopicPlan) -> dict[str, int]:
    """Create the topics for work on dead letters (parked ones, and the audit log) if missing and allowed.

    Returns the partitions of all topics. Raises BrokerUnreachable and TopicsUnusable.
    """
    there = partitions_of_topics(access)
    dead = there.get(plan.names.dead_letters)
    if dead is None:
        raise TopicsUnusable(
            f"the topic {plan.names.dead_letters} does not exist at {access.servers}; a worker creates it, or set "
            "`dead_letter_topic`"
        )
    missing = [topic for topic in dead_letter_topics(plan, dead) if topic.topic not in there]
    if missing:
        _create(access, plan, missing)
    return there | {topic.topic: topic.num_partitions for topic in missing}


def dead_letter_topics(plan: TopicPlan, partitions: int) -> list[NewTopic]:
    """Return the topics for work on dead letters to create. The audit log has one partition, since its order counts."""
    return [
        NewTopic(
            plan.names.parked,
            num_partitions=partitions,
            replication_factor=plan.replication_factor,
            config=BROKER_TIMESTAMPS | {"retention.ms": "-1", "max.message.bytes": str(plan.max_record_bytes + 2**17)},
        ),
        NewTopic(
            plan.names.audit,
            num_partitions=1,
            replication_factor=plan.replication_factor,
            config=BROKER_TIMESTAMPS | {"retention.ms": "-1"},
        ),
    ]


def worker_topics(plan: TopicPlan, partitions: int) -> list[NewTopic]:
    """Return the topics that a worker writes to, as they should be created."""
    retention = str(int(3 * plan.window_hours * 3600 * 1000))
    return [
        NewTopic(
            plan.names.dead_letters,
            num_partitions=partitions,
            replication_factor=plan.replication_factor,
            config=BROKER_TIMESTAMPS | {"retention.ms": "-1", "max.message.bytes": str(plan.max_record_bytes + 2**16)},
        ),
        NewTopic(
            plan.names.changelog,
            num_partitions=partitions,
            replication_factor=plan.replication_factor,
            config=BROKER_TIMESTAMPS | {"cleanup.policy": "compact,delete", "retention.ms": retention},
        ),
    ]


def create_source_topic(access: KafkaAccess, plan: TopicPlan, partitions: int) -> None:
    """Create the source topic if missing and allowed; a worker never does. Raises as `ensure_topics`."""
    if plan.names.source not in partitions_of_topics(access):
        topic = NewTopic(plan.names.source, num_partitions=partitions, replication_factor=plan.replication_factor)
        _create(access, plan, [topic])


def delete_topics(access: KafkaAccess, names: TopicNames) -> None:
    """Delete the three topics of a trial, as far as they exist. Raises TopicsUnusable."""
    admin = AdminClient(client_config(access))
    topics = [names.source, names.dead_letters, names.changelog]
    for future in admin.delete_topics(topics, operation_timeout=TIMEOUT).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if code_of(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicsUnusable(f"the topics of the trial can't be deleted: {reason_of(error)}") from None


def delete_records(access: KafkaAccess, topic: str, ends: Mapping[int, int]) -> None:
    """Delete the records of each partition before its offset in `ends`. Raises BrokerUnreachable."""
    admin = AdminClient(client_config(access))
    requests = [TopicPartition(topic, number, end) for number, end in ends.items()]
    with kafka_errors(f"deleting records of {topic} at {access.servers}"):
        for answer in admin.delete_records(requests, request_timeout=TIMEOUT).values():
            answer.result(TIMEOUT)


def _create(access: KafkaAccess, plan: TopicPlan, topics: list[NewTopic]) -> None:
    names = ", ".join(topic.topic for topic in topics)
    if not plan.create:
        raise TopicsUnusable(f"missing topics: {names}; create them, or set create_topics: true")
    admin = AdminClient(client_config(access))
    for name, future in admin.create_topics(topics, operation_timeout=TIMEOUT).items():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker has created it
                raise TopicsUnusable(f"the topic {name} can't be created: {reason_of(error)}") from None
    created, deadline = {topic.topic for topic in topics}, time.monotonic() + TIMEOUT
    while not created <= partitions_of_topics(access).keys() and time.monotonic() < deadline:
        time.sleep(0.05)  # created by the controller, but not yet known to this broker


def _add_partitions(access: KafkaAccess, topic: str, partitions: int) -> None:
    admin = AdminClient(client_config(access))
    for future in admin.create_partitions([NewPartitions(topic, partitions)], operation_timeout=TIMEOUT).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if code_of(error) != KafkaError.INVALID_PARTITIONS:  # another worker has created it
                raise TopicsUnusable(f"{topic} can't be given {partitions} partitions: {reason_of(error)}") from None


class PartitionEnd(NamedTuple):
    """The end offsets of a partition: for readers of committed records, and for readers of all records."""

    stable: int
    high: int


class TopicMonitor:
    """Checks the source topic from outside the consumer, which may stop fetching silently. Not thread-safe."""

    def __init__(self, access: KafkaAccess, topic: str, partitions: int) -> None:
        self._servers = access.servers
        self._topic = topic
        self._partitions = partitions
        self._connection_errors: list[KafkaError] = []
        self._admin = AdminClient(client_config(access) | {"error_cb": self._connection_errors.append})

    def ends(self, partitions: Iterable[int]) -> dict[int, PartitionEnd]:
        """Return the end offsets of these partitions.

        Raises BrokerUnreachable or AccessLost, TopicsUnusable when the topic is gone, and TopicChanged.
        """
        name = self._topic
        self._connection_errors.clear()
        try:
            answers = self._admin.describe_topics(TopicCollection([name]), request_timeout=MONITOR_TIMEOUT)
            there = len(answers[name].result(TIMEOUT).partitions)
            if there != self._partitions:
                raise TopicChanged(
                    f"the topic {name} has {there} partitions now, and had {self._partitions} at the start"
                )
            numbers = list(partitions)
            if not numbers:
                return {}
            stable = self._offsets(numbers, IsolationLevel.READ_COMMITTED)
            high = self._offsets(numbers, IsolationLevel.READ_UNCOMMITTED)
            return {partition: PartitionEnd(offset, high[partition]) for partition, offset in stable.items()}
        except KafkaException as error:
            if code_of(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicsUnusable(f"the topic {name} does not exist any more") from None
            self._admin.poll(0)
            raise unreachable(self._servers, error.args[0], self._connection_errors) from None
        except TimeoutError:
            raise BrokerUnreachable(f"no Kafka broker answers at {self._servers}") from None

    def _offsets(self, partitions: Iterable[int], isolation: IsolationLevel) -> dict[int, int]:
        end = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library ships types, but not for this one
        requests = {TopicPartition(self._topic, number): end for number in partitions}
        answers = self._admin.list_offsets(requests, isolation_level=isolation, request_timeout=MONITOR_TIMEOUT)
        return {place.partition: answer.result(TIMEOUT).offset for place, answer in answers.items()}
