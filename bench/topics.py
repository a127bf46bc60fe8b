"""The job in a topic, and how far a group has come with it."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bench.generate import PARTITIONS, Job
from tests.support.topics import Topics


class Preloaded:
    """A job that waits in a topic of its own."""

    def __init__(self, kafka: Topics, job: Job) -> None:
        self.kafka = kafka
        self.job = job
        self.topic = f"bench-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(self.topic, PARTITIONS)
        preload(kafka.bootstrap, self.topic, job.records)

    def done(self, group: str) -> bool:
        """Whether the group has committed every record."""
        return sum(self.kafka.committed(group, self.topic).values()) == len(self.job.records)


def preload(bootstrap: str, topic: str, records: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Writes (partition, key, value) records as a busy producer does, with librdkafka's default batching."""
    producer = Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.messages": len(records) + 1})
    failures: list[KafkaError] = []

    def confirmed(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    for partition, key, value in records:
        producer.produce(topic, value, key, partition, confirmed)
        producer.poll(0)
    if producer.flush(120) or failures:
        raise KafkaException(*failures[:1])


@contextmanager
def leaving_no_topics(kafka: Topics, prefix: str = "bench-") -> Iterator[None]:
    """Afterwards no topic is there that starts with `prefix`."""
    try:
        yield
    finally:
        ours = [name for name in kafka.admin.list_topics(timeout=10).topics if name.startswith(prefix)]
        if ours:
            for future in kafka.admin.delete_topics(ours).values():
                future.result(30)
