"""The demo's reconciliation: the tills' records compared with the ERP and the dead-letter topic, from the facts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from ops.simulator.tills import ConfirmedTally
from ops.worker.process import WorkerReadings
from sinks.base import StoreDay
from streams.dead_letters.record import reason_of


@dataclass(frozen=True)
class Balance:
    """Counts of records, and money to the cent; `differences` is empty when every record is accounted for.

    `money_tills` is the gross that must be in the ERP, and `money_unbooked` the gross of the receipts that are
    dead letters now.
    """

    sent: int
    delivered: int
    duplicates: int
    dead_letters: int
    skipped: int
    by_reason: dict[str, int]
    money_tills: Decimal
    money_erp: Decimal
    differences: list[str]
    money_unbooked: Decimal = Decimal(0)

    @property
    def accounted(self) -> bool:
        """Whether every record became a document, duplicate, dead letter or was skipped, and the documents' money
        agrees."""
        return not self.differences

    @property
    def balanced(self) -> bool:
        """Whether, besides, everything is booked: nothing is in dead letters."""
        return self.accounted and not self.dead_letters

    def in_words(self) -> str:
        """Return whether every record is accounted for, and how many are not booked."""
        if not self.accounted:
            return "NOT ACCOUNTED FOR"
        if not self.dead_letters:
            return "Books agree, to the cent. Everything is booked. Balanced."
        letters = f"{self.dead_letters:,} dead letter{'' if self.dead_letters == 1 else 's'}"
        return f"Every record is accounted for. Books agree, to the cent. NOT BOOKED: {letters}"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "sent": self.sent,
            "delivered": self.delivered,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "skipped": self.skipped,
            "dead_letters_by_reason": self.by_reason,
            "money": {
                "tills": str(self.money_tills),
                "erp": str(self.money_erp),
                "unbooked": str(self.money_unbooked),
            },
            "accounted": self.accounted,
            "balanced": self.balanced,
            "differences": self.differences,
        }


def balance(tally: ConfirmedTally, held: Iterable[StoreDay], dead: Counter[str], readings: WorkerReadings) -> Balance:
    """Compare the tally with the ERP's tables, the dead-letter topic and the worker's duplicates."""
    documents, erp = 0, Counter[str]()
    gross: dict[str, Decimal] = {}
    for day in held:
        documents += day.documents
        erp[day.store] += day.documents
        gross[day.store] = gross.get(day.store, Decimal(0)) + day.gross
    duplicates = sum(readings.duplicates.values())
    made = Balance(
        sent=tally.sent,
        delivered=documents,
        duplicates=duplicates,
        dead_letters=dead.total(),
        skipped=readings.skipped,
        by_reason=dict(sorted(dead.items())),
        money_tills=sum(tally.gross.values(), Decimal(0)),
        money_erp=sum(gross.values(), Decimal(0)),
        differences=[],
        money_unbooked=tally.broken_gross,
    )
    made.differences.extend(differences(made, tally, gross, dead))
    return made


def differences(made: Balance, tally: ConfirmedTally, gross: dict[str, Decimal], dead: Counter[str]) -> list[str]:
    """Return one sentence for each disagreement."""
    found = []
    accounted = made.delivered + made.duplicates + made.dead_letters + made.skipped
    pairs: list[tuple[str, object, object]] = [
        ("records sent, and delivered + duplicates + dead letters + skipped", made.sent, accounted),
        ("documents due, and in the ERP", tally.documents, made.delivered),
        ("records sent again, and duplicates recognised", tally.resent, made.duplicates),
    ]
    for reason in sorted({*dead, *(str(reason) for reason in tally.broken)}):
        pairs.append((f"dead letters due, and there, for {reason}", tally.broken_by(reason), dead[reason]))
    for store in sorted({*tally.gross, *gross}):
        pairs.append(
            (f"gross at the tills, and in the ERP, of {store}", tally.gross.get(store, 0), gross.get(store, 0))
        )
    found = [f"{what}: {left} and {right}" for what, left, right in pairs if left != right]
    if tally.failed:
        found.append(f"records that the broker did not confirm: {dict(tally.failed)}")
    return found


def dead_letter_reasons(config: dict[str, Any], topic: str) -> Counter[str]:
    """How many dead letters the topic holds by reason; a record that a crash doubled counts once."""
    consumer = Consumer(
        {**config, "group.id": "tillstream-demo", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        reasons: dict[tuple[bytes, ...], str] = {}
        left = len(partitions)
        while left:
            message = consumer.poll(10)
            if message is None:
                raise KafkaException(f"{topic} gives no records")
            error = message.error()
            if error is None:
                headers: list[tuple[str, bytes]] = message.headers() or []  # type: ignore[assignment]  # bytes, ours
                identity = tuple(text for name, text in headers if name.startswith("__connect.errors."))[:3]
                reasons[identity] = str(reason_of(headers))
            elif error.code() == KafkaError._PARTITION_EOF:
                left -= 1
            else:
                raise KafkaException(error)
        return Counter(reasons.values())
    finally:
        consumer.close()
