"""`tillstream import`: the records of a file into the topic, each confirmed by the broker."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException, Producer

from ops.inspect.layout import NotReadable
from ops.inspect.records import Progress
from ops.maps.files import records_of
from schemas.contract import Contract
from streams.settings import Settings
from streams.topics import BrokerUnreachable, client_config, create_source_topic

_PATIENCE = 60.0
_FULL = 0.1


@dataclass
class Imported:
    """Records that the broker has confirmed, and those that it has not, with its last reason."""

    confirmed: int = 0
    failed: int = 0
    reason: str = ""


def import_file(settings: Settings, path: Path, contract: Contract, told: Progress) -> Imported:
    """Sends the file's records to the settings' topic, which is created if it is missing, in the file's order.

    Raises NotReadable, BrokerUnreachable and TopicsUnusable.
    """
    if not path.is_file():
        raise NotReadable(f"{path}: no such file")
    create_source_topic(settings, partitions=4)
    producer = Producer(
        client_config(settings.broker, settings.kafka)
        | {"enable.idempotence": True, "compression.type": "zstd", "linger.ms": 50}
    )
    done = Imported()

    def confirmed(error: object, _: object) -> None:
        if error is None:
            done.confirmed += 1
        else:
            done.failed, done.reason = done.failed + 1, str(error)

    try:
        for key, value in records_of(path, contract, told):
            _send(producer, settings.topic, key, value, confirmed)
    finally:
        left = producer.flush(_PATIENCE)
    if left:
        raise BrokerUnreachable(f"{settings.broker} did not confirm {left} records; import again: duplicates are known")
    return done


def _send(
    producer: Producer, topic: str, key: bytes | None, value: bytes, confirmed: Callable[[object, object], None]
) -> None:
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=confirmed)
            producer.poll(0)
            return
        except BufferError:  # the queue is full: let the broker take some
            producer.poll(_FULL)
        except KafkaException as error:
            confirmed(error.args[0].str(), None)
            return
