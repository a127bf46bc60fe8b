"""The embedded broker: the mock cluster inside librdkafka, for the demo and as the tests' last resort.

It needs nothing installed, keeps about 5 MB per partition, answers fetches late (half a second end to end is its
latency, not the worker's), knows no security and forgets everything when the process ends.
"""

from collections.abc import Sequence

from confluent_kafka import Producer

PARTITIONS = 4  # of every topic: the mock's own choice

#: The mock answers a fetch with one producer batch per partition, so batches must be worth it.
PRODUCER = {"linger.ms": 300}

NOT_FOR = (
    "The embedded broker is the mock cluster inside librdkafka: right for this demo, wrong for anything else. "
    "It keeps 5 MB per partition, answers late and forgets everything at the end. "
    "A real Kafka: --broker HOST:PORT."
)


class EmbeddedBroker:
    """Runs until closed, on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        self._cluster: Producer | None = Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0}
        )
        broker = next(iter(self._cluster.list_topics(timeout=10).brokers.values()))
        self.address = f"{broker.host}:{broker.port}"

    def create_topics(self, topics: Sequence[str]) -> None:
        """Create the topics: the mock does so when it is first asked for one."""
        for topic in topics:
            assert self._cluster is not None, "closed"
            self._cluster.list_topics(topic, timeout=10)

    def close(self) -> None:
        """End the cluster, which lives as long as the client that made it."""
        self._cluster = None
