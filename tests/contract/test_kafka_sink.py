"""A topic of documents: one record per document and revision, whoever writes and whatever crashes."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.document import ErpDocument, from_json
from sinks.base import DocumentsRefused, Sink, SinkMisconfigured, SinkUnavailable
from sinks.kafka.client import TransactionalWriter
from sinks.kafka.sink import KafkaSink, partition_of
from sinks.registry import open_sink
from tests.contract.conftest import with_transactions
from tests.contract.test_sink_contract import effects
from tests.contract.test_sink_values import AWKWARD
from tests.support.documents import document, documents, line
from tests.support.kafka import Kafka

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kafka(kafka: Kafka) -> Kafka:
    """A broker with transactions."""
    return with_transactions(kafka)


@pytest.fixture
def topic(kafka: Kafka, topic_name: str) -> str:
    """An empty topic for documents."""
    kafka.create_topic(topic_name, config={"retention.ms": "-1", "max.message.bytes": "20000"})
    return topic_name


@pytest.fixture
def url(kafka: Kafka, topic: str) -> str:
    """The topic's URL; every sink that is opened there has an index of its own."""
    return f"kafka://{kafka.bootstrap}/{topic}"


@pytest.fixture
def sink(url: str) -> Iterator[Sink]:
    """A sink without a lasting index."""
    sink = open_sink(url)
    yield sink
    sink.close()


@pytest.fixture
def other(url: str) -> Iterator[Sink]:
    """Another one, as another worker has it."""
    other = open_sink(url)
    yield other
    other.close()


def held(kafka: Kafka, topic: str) -> list[ErpDocument]:
    """What a consumer of committed records gets."""
    return [from_json(record.value or b"") for record in kafka.records(topic)]


def test_check_of_one_topic_leaves_the_writer_of_another_alone(sink: Sink, kafka: Kafka, topic: str) -> None:
    kafka.create_topic(f"{topic}-check", partitions=1, config={"retention.ms": "-1"})
    writer = open_sink(f"kafka://{kafka.bootstrap}/{topic}-check")
    assert effects(writer.write([document(1)])) == ["written"]
    sink.check()
    assert effects(writer.write([document(2)])) == ["written"]
    writer.close()


def test_each_document_and_revision_is_one_record(sink: Sink, kafka: Kafka, topic: str) -> None:
    written = [document(1, 0), document(2, 0), document(1, 1)]
    sink.write(written[:2])
    sink.write([*written[1:], document(3, 0, cashier="\0")])
    sink.write([document(1, 0), document(1, 1, event_id="pos:again", content=written[2].content)])
    assert held(kafka, topic) == written
    last = kafka.records(topic)[-1]
    assert last.key == written[2].external_ref.encode()
    assert dict(last.headers) == {
        "tillstream.event_id": b"pos:e-1-1",
        "tillstream.revision": b"1",
        "tillstream.effect": b"replaced",
    }


def test_stores_documents_stand_in_one_partition(sink: Sink, kafka: Kafka, topic: str) -> None:
    sink.write([document(number, store=f"S{number % 5}") for number in range(20)])
    places = {(from_json(r.value or b"").store, r.partition) for r in kafka.records(topic)}
    assert places == {(f"S{number}", partition_of(f"S{number}", 4)) for number in range(5)}


def test_partition_is_where_a_till_that_writes_by_store_puts_it(kafka: Kafka, topic: str) -> None:
    stores = [f"S{number}" for number in range(10)]
    kafka.produce(topic, [(store.encode(), b"", []) for store in stores])
    assert {(r.key or b"").decode(): r.partition for r in kafka.records(topic)} == {
        s: partition_of(s, 4) for s in stores
    }


def test_writers_that_take_turns_know_of_each_other(sink: Sink, other: Sink, kafka: Kafka, topic: str) -> None:
    assert effects(sink.write(documents(3))) == ["written"] * 3
    assert effects(other.write(documents(5))) == ["duplicate"] * 3 + ["written"] * 2
    with pytest.raises(SinkUnavailable) as fenced:  # it did not know that the partition had been taken from it
        sink.write(documents(6))
    assert fenced.value.kind == "lock"
    assert effects(sink.write(documents(6))) == ["duplicate"] * 5 + ["written"]
    assert held(kafka, topic) == documents(6)
    assert other.totals() == sink.totals()


def test_index_that_is_read_anew_tells_when_the_topic_got_its_records(sink: KafkaSink, other: KafkaSink) -> None:
    sink.write([document(1, 0)])
    sink.write([document(1, 1), document(2, 0)])
    written = datetime.now(UTC)
    events = ["pos:e-1-0", "pos:e-1-1", "pos:e-2-0"]
    told = {each.event_id: (each.effect, each.at) for each in other.deliveries(events)}
    assert {event: effect for event, (effect, _) in told.items()} == {
        "pos:e-1-0": "written",
        "pos:e-1-1": "replaced",
        "pos:e-2-0": "written",
    }
    assert max(at for _, at in told.values()) <= written


def test_crash_between_topic_and_index_is_read_back(
    sink: KafkaSink, kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = sink._move

    def crash(*_: object) -> None:
        raise SinkUnavailable("disk", "full")

    sink.write(documents(1))
    monkeypatch.setattr(sink, "_move", crash)
    with pytest.raises(SinkUnavailable):
        sink.write(documents(3))
    monkeypatch.setattr(sink, "_move", move)
    assert effects(sink.write(documents(4))) == ["duplicate"] * 3 + ["written"]
    assert held(kafka, topic) == documents(4)


def test_lasting_index_is_a_cache(kafka: Kafka, url: str, topic: str, tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    for known in (0, 3, 6):
        if known == 6:
            index.unlink()
        sink = open_sink(f"{url}?index={index}")
        batch = documents(known + 3)
        assert effects(sink.write(batch)) == ["duplicate"] * known + ["written"] * 3
        sink.close()
    assert held(kafka, topic) == documents(9)


def test_index_of_a_topic_that_was_deleted_is_not_believed(kafka: Kafka, url: str, topic: str, tmp_path: Path) -> None:
    sink = open_sink(f"{url}?index={tmp_path}/index.sqlite")
    sink.write(documents(1))
    sink.close()
    kafka.delete_topic(topic)
    kafka.create_topic(topic)
    sink = open_sink(f"{url}?index={tmp_path}/index.sqlite")
    with pytest.raises(SinkMisconfigured, match="another topic"):
        sink.write(documents(1))
    sink.close()


def test_what_is_awkward_comes_back_to_another_writer(sink: Sink, other: Sink) -> None:
    largest = Decimal(10) ** 12 - Decimal("0.0001")
    awkward = [
        document(number, cashier=text, lines=[line(1, largest, 0, quantity=Decimal("0.000001"), description=text)])
        for number, text in enumerate(AWKWARD)
    ]
    assert effects(sink.write(awkward)) == ["written"] * len(awkward)
    assert other.read([d.external_ref for d in awkward]) == sorted(awkward, key=lambda d: d.external_ref)


def too_large(number: int) -> ErpDocument:
    """A document that no compression makes small enough for `topic`."""
    noise = random.Random(7)
    return document(number, lines=[line(n, description=noise.randbytes(200).hex()) for n in range(300)])


def test_document_too_large_for_the_topic_is_refused_alone(sink: Sink, kafka: Kafka, topic: str) -> None:
    written = sink.write([document(1), too_large(2), document(3)])
    assert effects(written) == ["written", "refused_by_sink", "written"]
    assert held(kafka, topic) == [document(1), document(3)]


def test_refusal_that_comes_while_the_rest_is_still_being_sent_is_told(kafka: Kafka, topic: str) -> None:
    writer = TransactionalWriter({"bootstrap.servers": kafka.bootstrap, "log_level": 0}, topic, 0)

    class Unhurried(list[tuple[ErpDocument, str]]):
        """Gives the second one after the broker has answered to the first."""

        def __iter__(self) -> Iterator[tuple[ErpDocument, str]]:
            first, second = self[0], self[1]
            yield first
            assert writer._producer.poll(30), "the broker does not answer"
            yield second

    with pytest.raises(DocumentsRefused, match="too_large_for_the_topic"):
        writer.commit(Unhurried([(too_large(1), "written"), (document(2), "written")]))
    writer.close()
    assert held(kafka, topic) == []


def test_missing_topic_is_sink_unavailable_with_the_way_out(kafka: Kafka, topic_name: str) -> None:
    sink = open_sink(f"kafka://{kafka.bootstrap}/{topic_name}?partitions=3")
    with pytest.raises(SinkUnavailable, match="tillstream check --apply") as caught:
        sink.write([document()])
    assert caught.value.kind == "schema"
    assert [finding.ok for finding in sink.check()] == [False]
    found = sink.check(apply=True)
    assert [finding.ok for finding in found] == [True] * 3
    assert found[0].detail == "3 partitions, cleanup.policy=delete, retention.ms=-1"
    assert effects(sink.write([document()])) == ["written"]
    sink.close()


def test_topic_that_forgets_is_found(kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name, config={"retention.ms": "86400000"})
    sink = open_sink(f"kafka://{kafka.bootstrap}/{topic_name}")
    assert next((finding.subject, finding.ok) for finding in sink.check()) == (f"topic {topic_name}", False)
    sink.close()


def test_record_that_is_no_document_is_told_with_its_place(sink: Sink, kafka: Kafka, topic: str) -> None:
    kafka.produce(topic, [(b"", b"{}", [])], partition=2)
    with pytest.raises(SinkUnavailable, match="partition 2, offset 0"):
        sink.write([document()])


def test_broker_that_is_away_is_sink_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.kafka.client.TIMEOUT", 0.2)
    sink = open_sink("kafka://127.0.0.1:1/nowhere")
    with pytest.raises(SinkUnavailable):
        sink.ping()
    sink.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafka://h", "a topic"),
        ("kafka://h/a/b", "a topic"),
        ("kafka://h/t?protocol=NONE", "security.protocol"),
        ("kafka://h/t?ca_file=/no/such", "ssl.ca.location"),
        ("kafka://h/t?index=/no/such/i.db", "does not exist"),
        ("kafka://h/t?partitions=many", "partitions"),
        ("kafka://h/t?topic=t", "parameter that is not known: topic"),
        ("kafka://h/t?index=a&index=b", "twice"),
    ],
)
def test_url_that_can_not_be_meant_is_told(url: str, told: str) -> None:
    with pytest.raises(SinkMisconfigured, match=told) as caught:
        open_sink(url, password="hunter2")
    assert "hunter2" not in str(caught.value)


WRITE_FOR_EVER = """
import random
import sys
import time
from sinks.base import SinkUnavailable
from sinks.registry import open_sink
from tests.support.documents import documents

sink = open_sink(sys.argv[1])
for first in range(1, 1_000_000, 20):
    while True:
        try:
            sink.write(documents(20, first=first))
            break
        except SinkUnavailable as error:
            assert error.kind == "lock", error  # the other one has taken the partition over
            time.sleep(random.uniform(0.05, 0.5))  # as a worker does
    print(first + 19, flush=True)
"""


def test_writers_that_are_killed_and_fight_write_each_document_once(
    kafka: Kafka, url: str, topic: str, sink: Sink
) -> None:
    pair = [
        subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    acknowledged = 0
    try:
        for _ in range(3):
            for each in pair:
                assert each.stdout
                acknowledged = max(acknowledged, int(each.stdout.readline()))
    finally:
        for each in pair:
            each.kill()
            each.communicate()
    assert set(effects(sink.write(documents(acknowledged)))) == {"duplicate"}
    found = Counter(d.external_ref for d in held(kafka, topic))
    assert set(found.values()) == {1}
    assert len(found) >= acknowledged
