"""The topics a worker needs: looked up, and created where the settings allow it."""

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]  # not in its __all__
from confluent_kafka.cimpl import NewPartitions, NewTopic

from streams.settings import KafkaSecurity, Settings

TIMEOUT = 10.0
EMBEDDED_CLUSTER = "mockCluster"  # how librdkafka's mock calls itself
HEADER_ROOM = 2**14  # what a dead letter may have on top of its record


class BrokerUnreachable(Exception):
    """No broker answered; the message says which address and what to look at."""


class TopicsUnusable(Exception):
    """A topic is missing or doesn't fit; the message says which and what to do."""


class TopicChanged(Exception):
    """The source topic has another number of partitions than at the start: a worker must be started again."""


def client_config(broker: str, security: KafkaSecurity) -> dict[str, Any]:
    """librdkafka's settings for reaching `broker`; the caller adds its own."""
    config: dict[str, Any] = {
        "bootstrap.servers": broker,
        "security.protocol": security.protocol,
        "log_level": 2,  # what matters comes back as an exception
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


def changelog_topic(settings: Settings) -> str:
    """The name Faust gives to the dedupe window's changelog."""
    return f"{settings.group}-{settings.window}-changelog"


def partitions_of_topics(settings: Settings) -> dict[str, int]:
    """Partitions of all topics the broker has. Raises BrokerUnreachable."""
    admin = AdminClient(client_config(settings.broker, settings.kafka))
    try:
        topics = admin.list_topics(timeout=TIMEOUT).topics
    except KafkaException as error:
        raise BrokerUnreachable(
            f"no Kafka broker answers at {settings.broker} ({error.args[0].name()}); is it running, and are broker and "
            "kafka.* in the settings right?"
        ) from None
    return {name: len(topic.partitions) for name, topic in topics.items()}


def ensure_topics(settings: Settings) -> int:
    """Creates the dead-letter and changelog topics, and partitions of the latter, where missing and allowed.

    Returns the number of the source topic's partitions.

    Raises BrokerUnreachable and TopicsUnusable.
    """
    there = partitions_of_topics(settings)
    partitions = there.get(settings.topic)
    if partitions is None:
        raise TopicsUnusable(
            f"the topic {settings.topic} does not exist at {settings.broker}; create it with as many partitions as you "
            "want workers, or set `topic`"
        )
    missing = [topic for topic in needed(settings, partitions) if topic.topic not in there]
    if missing:
        _create(settings, missing)
    changelog = changelog_topic(settings)
    if settings.create_topics and there.get(changelog, partitions) < partitions:
        _add_partitions(settings, changelog, partitions)
    elif there.get(changelog, partitions) != partitions:
        raise TopicsUnusable(
            f"{settings.topic} has {partitions} partitions and {changelog} has {there[changelog]}; the changelog is "
            "only a cache: delete that topic and start again"
        )
    return partitions


def change_of_topic(settings: Settings, partitions: int) -> TopicsUnusable | TopicChanged | None:
    """What has become of the source topic since it had so many partitions; None if nothing has, or nobody answers."""
    try:
        there = partitions_of_topics(settings).get(settings.topic)
    except BrokerUnreachable:
        return None
    if there is None:
        return TopicsUnusable(f"the topic {settings.topic} does not exist any more")
    if there != partitions:
        return TopicChanged(f"the topic {settings.topic} has {there} partitions now, and had {partitions} at the start")
    return None


def broker_outage(settings: Settings) -> str | None:
    """Why the broker does not answer; None when it does."""
    try:
        partitions_of_topics(settings)
    except BrokerUnreachable as error:
        return str(error)
    return None


def smaller_dead_letters(settings: Settings) -> str | None:
    """What to do when the dead-letter topic takes smaller records than the source topic.

    It loses nothing: larger records are truncated there. But they can only be replayed from the source topic, while
    that still has them. None when all is well, or when the broker forbids to ask.
    """
    topics = [settings.topic, settings.dead_letter_topic]
    admin = AdminClient(client_config(settings.broker, settings.kafka))
    if (admin.list_topics(timeout=TIMEOUT).cluster_id or "").startswith(EMBEDDED_CLUSTER):
        return None  # it does not answer this request at all
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    try:
        answers = admin.describe_configs(resources, request_timeout=TIMEOUT)
        source, dead = (int(answers[each].result(TIMEOUT)["max.message.bytes"].value) for each in resources)
    except (KafkaException, TimeoutError):
        return None
    largest = min(source, settings.max_record_bytes)
    if dead >= largest:
        return None
    return (
        f"{settings.dead_letter_topic} takes records of {dead} bytes and {settings.topic} of {source}: larger bad "
        "records are truncated there, and only the source topic has the whole, until its retention ends; set "
        f"max.message.bytes of {settings.dead_letter_topic} to at least {largest + HEADER_ROOM}"
    )


def needed(settings: Settings, partitions: int) -> list[NewTopic]:
    """The topics a worker writes to, as they should be created."""
    retention = str(int(3 * settings.window_hours * 3600 * 1000))
    return [
        NewTopic(
            settings.dead_letter_topic,
            num_partitions=partitions,
            replication_factor=settings.replication_factor,
            config={"retention.ms": "-1", "max.message.bytes": str(settings.max_record_bytes + 2**16)},
        ),
        NewTopic(
            changelog_topic(settings),
            num_partitions=partitions,
            replication_factor=settings.replication_factor,
            config={"cleanup.policy": "compact,delete", "retention.ms": retention},
        ),
    ]


def create_source_topic(settings: Settings, partitions: int) -> None:
    """Creates the source topic for a trial; in earnest it is there before the worker. Raises as `ensure_topics`."""
    if settings.topic not in partitions_of_topics(settings):
        topic = NewTopic(settings.topic, num_partitions=partitions, replication_factor=settings.replication_factor)
        _create(settings, [topic])


def delete_topics(settings: Settings) -> None:
    """Deletes the three topics of a trial that is over; those that are not there are no matter."""
    admin = AdminClient(client_config(settings.broker, settings.kafka))
    topics = [settings.topic, settings.dead_letter_topic, changelog_topic(settings)]
    for future in admin.delete_topics(topics, operation_timeout=TIMEOUT).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                raise TopicsUnusable(f"the topics of the trial can't be deleted: {error.args[0].str()}") from None


def _create(settings: Settings, topics: list[NewTopic]) -> None:
    names = ", ".join(topic.topic for topic in topics)
    if not settings.create_topics:
        raise TopicsUnusable(f"missing topics: {names}; create them, or set create_topics: true")
    admin = AdminClient(client_config(settings.broker, settings.kafka))
    for name, future in admin.create_topics(topics, operation_timeout=TIMEOUT).items():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another worker was faster
                raise TopicsUnusable(f"the topic {name} can't be created: {error.args[0].str()}") from None


def _add_partitions(settings: Settings, topic: str, partitions: int) -> None:
    admin = AdminClient(client_config(settings.broker, settings.kafka))
    for future in admin.create_partitions([NewPartitions(topic, partitions)], operation_timeout=TIMEOUT).values():
        try:
            future.result(TIMEOUT)
        except KafkaException as error:
            if error.args[0].name() != "INVALID_PARTITIONS":  # another worker was faster
                raise TopicsUnusable(f"{topic} can't be given {partitions} partitions: {error.args[0].str()}") from None
