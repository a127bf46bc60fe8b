"""Three days of two stores on the embedded broker, booked into an SQLite file, and the program that reconciles them."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.cli import program
from ops.demo.embedded_broker import PARTITIONS, PRODUCER, EmbeddedBroker
from streams.assembly import build_replay_pipeline
from streams.batch import Batch
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.producer import ConfirmingProducer
from streams.pipeline import process
from streams.settings import Settings
from tests.support.events import FakeRecord, value

TOPIC, GROUP = "pos.sales", "office"
DAYS = ("2026-03-09", "2026-03-10", "2026-03-11")


def sold(number: int, day: str = DAYS[0], **changes: Any) -> bytes:
    """Receipt `number` of store S1, 3.00 EUR, unless changed, at noon of the day."""
    return value(number, occurred_at=f"{day}T12:00:{number % 60:02}Z", **changes)


def ref(number: int, store: str = "S1", kind: str = "sale") -> str:
    """The reference of a receipt."""
    return f"pos/{store}/R1/{number}/{kind}"


def arrived(day: str) -> int:
    """When the records of a day arrive, in milliseconds since 1970."""
    return int(datetime.fromisoformat(f"{day}T13:00:00Z").timestamp() * 1000)


#: By partition what the tills send, and on which day: S1 in partition 1, S2 in partition 2, where one is dead.
SENT: dict[int, list[tuple[str, bytes | None]]] = {
    1: [
        *((DAYS[0], sold(number)) for number in (1, 2, 3)),
        (DAYS[0], sold(3)),  # again
        (DAYS[0], sold(1, event_id="e-1b", revision=1, cashier="Zoe Zimmer")),
        (DAYS[1], sold(11, DAYS[1])),
        (DAYS[1], sold(12, DAYS[1])),
        (DAYS[1], sold(12, DAYS[1], type="return", event_id="e-12r")),
        (DAYS[1], sold(13, DAYS[1], totals={"gross": "9.99"}, tenders=[])),
        (DAYS[2], sold(21, DAYS[2])),
        (DAYS[2], sold(23, DAYS[2])),
    ],
    2: [
        (DAYS[0], sold(1, store="S2", event_id="s2-1")),
        (DAYS[0], sold(5, store="S2", event_id="s2-5", type="day_close", lines=[], tenders=[])),
        (DAYS[1], sold(2, DAYS[1], store="S2", event_id="s2-2")),
    ],
}


class Clock(Consumer):
    """A consumer that knows when records of the topic arrived: the mock always answers that none came since."""

    #: By partition the first record that retention has left.
    begins: ClassVar[dict[int, int]] = {}

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        """The first offsets of these times; -1 where nothing came since."""
        return [TopicPartition(place.topic, place.partition, self._since(place)) for place in partitions]

    def _since(self, place: TopicPartition) -> int:
        begin = self.begins.get(place.partition, 0)
        sent = list(enumerate(SENT.get(place.partition, ())))[begin:]
        return next((number for number, (day, _) in sent if arrived(day) >= place.offset), -1)


class Office:
    """A topic whose records are all booked, or dead letters. Make a `Desk` of it for each test."""

    def __init__(self, folder: Path) -> None:
        self.broker = EmbeddedBroker()
        self.sink = folder / "erp.sqlite"
        self.settings = Settings(
            broker=self.broker.address,
            topic=TOPIC,
            group=GROUP,
            sink_url=f"sqlite:///{self.sink}",
            apply_migrations=True,
        )
        self.broker.create_topics([self.settings.topic, self.settings.dead_letter_topic])
        self._produce()
        self._work()
        self._commit()

    def _produce(self) -> None:
        producer = Producer({"bootstrap.servers": self.broker.address, "log_level": 0} | PRODUCER)
        for partition, records in SENT.items():
            for day, said in records:
                producer.produce(TOPIC, said, b"S1", partition=partition, timestamp=arrived(day))
        assert producer.flush(10) == 0

    def _work(self) -> None:
        """What workers do with all of it."""
        sender = ConfirmingProducer(self.settings.kafka_access, self.settings.max_record_bytes)

        async def publish(letters: Sequence[DeadLetterRecord]) -> None:
            for letter in letters:
                sender.send(self.settings.dead_letter_topic, *letter)
            sender.confirm()

        desk = build_replay_pipeline(self.settings)
        try:
            services = replace(desk.services, dead_letters=DeadLetterWriter(publish, lambda: datetime.now(UTC)))
            for partition, records in SENT.items():
                batch = [FakeRecord(place, said, timestamp=arrived(day)) for place, (day, said) in enumerate(records)]
                asyncio.run(process(Batch(TOPIC, partition, batch), services))
        finally:
            desk.sink.close()

    def _commit(self) -> None:
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": GROUP, "log_level": 0})
        ends = [TopicPartition(TOPIC, partition, len(SENT.get(partition, ()))) for partition in range(PARTITIONS)]
        consumer.commit(offsets=ends, asynchronous=False)
        consumer.close()

    def close(self) -> None:
        """End the broker."""
        self.broker.close()


class Desk:
    """The program, with an ERP and an audit topic of one test's own."""

    def __init__(self, office: Office, folder: Path, name: str, **settings: Any) -> None:
        self.folder = folder
        self.sink = folder / "erp.sqlite"
        shutil.copy(office.sink, self.sink)
        office.broker.create_topics([f"audit.{name}", f"parked.{name}"])
        self.said: dict[str, Any] = {
            "broker": office.broker.address, "topic": TOPIC, "group": GROUP, "sink_url": f"sqlite:///{self.sink}",
            "audit_topic": f"audit.{name}", "parked_topic": f"parked.{name}", **settings,
        }  # fmt: skip
        self.config = folder / "tillstream.yaml"
        self.config.write_text(json.dumps(self.said))

    @property
    def settings(self) -> Settings:
        """Those of the program."""
        return Settings(**self.said)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the program says, with its spaces as one; it must end with this exit code, and with no traceback."""
        told = self.raw(*arguments, code=code)
        return " ".join(told.split())

    def raw(self, *arguments: str, code: int = 0) -> str:
        """What the program says."""
        return self.both(*arguments, code=code).output

    def both(self, *arguments: str, code: int = 0) -> Result:
        """What the program says on either stream."""
        told = CliRunner().invoke(
            program, [*arguments, "--config", str(self.config)], env={"TILLSTREAM_OPERATOR": "ada", "COLUMNS": "300"}
        )
        assert told.exception is None or isinstance(told.exception, SystemExit), told.exc_info
        assert told.exit_code == code, told.output
        return told

    def reconcile(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """What was found, without keeping it."""
        found: dict[str, Any] = json.loads(self.raw("reconcile", *arguments, "--json", code=code))
        return found

    def execute(self, *statements: str) -> None:
        """Do something to the ERP."""
        with sqlite3.connect(self.sink) as database:
            for each in statements:
                database.execute(each)
        database.close()
