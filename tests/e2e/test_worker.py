"""A worker on a real Kafka and real databases: its promises, seen from outside."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from ops.worker.metrics_page import MetricsPage
from schemas.dead_letter import Reason
from streams.dead_letters.record import reason_of
from tests.support.events import value
from tests.support.kafka import Kafka
from tests.support.nursery import run
from tests.support.postgres_server import LocalPostgres
from tests.support.raw_headers import produce_raw
from tests.support.topics import Topics
from tests.support.wait import wait_until
from tests.support.workers import Shop, Worker, launch, open_shop


@pytest.fixture(params=["postgres", pytest.param("sqlite", marks=pytest.mark.faults_long)])
def shop(request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Shop]:
    """A shop on each database; on SQLite, to which the contract holds as well, in the long version only."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/erp.sqlite"
    with open_shop(tmp_path, kafka, topic_name, url) as opened:
        yield opened


@pytest.fixture
def pg_shop(tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str) -> Iterator[Shop]:
    """A shop on PostgreSQL."""
    with open_shop(tmp_path, kafka, topic_name, postgres_url) as opened:
        yield opened


def ids(*numbers: int) -> list[str]:
    return sorted(f"pos:e-{number}" for number in numbers)


def test_good_and_bad_records_go_their_ways_and_nothing_is_left(shop: Shop) -> None:
    worker = shop.start(launch=launch).wait_ready()
    theirs = [("trace", b"\xff\x00"), ("trace", b"2")]
    bad = [(b"k\x00", b"{not json\xff", theirs), (None, value(9, currency="EUX"), []), (b"S1", b"", [])]
    shop.send(value(1), value(2), value(1), None, value(3))
    shop.topics.produce(shop.topic, bad)
    shop.wait_drained()
    assert shop.event_ids() == ids(1, 2, 3)
    dead = shop.dead_letters()
    assert sorted((d.key, d.value, [h for h in d.headers if h[0] == "trace"]) for d in dead if d.key) == sorted(
        [(b"k\x00", b"{not json\xff", theirs), (b"S1", b"", [])]
    )
    assert sorted(str(reason_of(d.headers)) for d in dead) == ["invalid_json", "invalid_json", "unknown_currency"]
    readings = worker.readings()
    assert (readings.delivered, sum(readings.duplicates.values()), readings.skipped) == (3, 1, 1)
    assert worker.terminate() == 0, worker.words()


def test_header_names_that_are_not_utf8_stop_no_worker(shop: Shop) -> None:
    worker = shop.start()
    named = [(b"tr\xff\xfece", b"\x00"), (b"ok", None)]
    produce_raw(shop.topics.bootstrap, shop.topic, [(b"S1", value(1), named), (b"S1", b"{not json", named)])
    shop.send(value(2))
    shop.wait_drained()
    assert shop.event_ids() == ids(1, 2)
    (dead,) = shop.dead_letters()
    assert (dead.key, dead.value) == (b"S1", b"{not json")
    assert dead.headers[:2] == [(r"tr\xff\xfece", b"\x00"), ("ok", None)]
    produce_raw(shop.topics.bootstrap, shop.dead_letter_topic, [(b"theirs", b"{}", named)], partition=2)
    wait_until(lambda: "tillstream_dead_letters_open 2.0" in worker.get("/metrics")[1], 40, "the worker to count them")
    assert worker.terminate() == 0, worker.words()


def test_document_has_lines_payments_and_taxes_to_the_cent(shop: Shop) -> None:
    shop.start()
    lines = [
        {"sku": "A", "quantity": "3", "unit_price": "0.99", "tax_rate": "19", "discounts": [{"amount": "0.50"}]},
        {"sku": "B", "quantity": "0.755", "unit": "kg", "unit_price": "4.99", "tax_rate": "7"},
    ]
    tenders = [{"kind": "cash", "amount": "10"}, {"kind": "cash", "amount": "-3.76"}]
    shop.send(value(1, lines=lines, tenders=tenders, totals={"gross": "6.24"}))
    shop.wait_drained()
    from sinks.registry import open_sink
    from tests.support.workers import split_password

    url, _, password = split_password(shop.url)
    sink = open_sink(url, password=password)
    try:
        (day,) = sink.totals()
        assert (day.documents, day.lines, str(day.gross), str(day.tax)) == (1, 2, "6.24", "0.64")
    finally:
        sink.close()
    assert len(shop.query("SELECT 1 FROM document_payments")) == 2
    assert len(shop.query("SELECT 1 FROM document_taxes")) == 2


@pytest.mark.faults_long  # tests/faults/test_kills.py does so with every change
def test_worker_killed_again_and_again_neither_loses_nor_doubles(shop: Shop) -> None:
    random = Random(7)
    numbers = list(range(4000))
    records = [(str(number).encode(), value(number), []) for number in [*numbers, *random.sample(numbers, 200)]]
    conflict = value(1, cashier="other")  # after the event whose id it takes, on the same partition
    records[100:100] = [(b"1", b"{", []), (b"1", conflict, [])]
    shop.topics.produce(shop.topic, records[:1000])
    for part in range(1, 4):
        worker = shop.start().wait_ready()
        shop.topics.produce(shop.topic, records[part * 1000 : (part + 1) * 1000])
        wait_until(lambda: shop.event_ids(), 30, "the first documents")
        worker.kill()
    shop.topics.produce(shop.topic, records[4000:])
    shop.start()
    shop.wait_drained(90)
    assert shop.event_ids() == ids(*numbers)
    identities = {(d.value, dict(d.headers)["__connect.errors.offset"]) for d in shop.dead_letters()}
    assert sorted(v for v, _ in identities if v) == sorted([b"{", conflict])


@pytest.mark.parametrize(
    "point",
    ["before-sink", "between-sink-and-seen", "between-seen-and-dead-letters", "between-dead-letters-and-ack"],
)
def test_crash_at_any_step_neither_loses_nor_doubles(pg_shop: Shop, point: str) -> None:
    pg_shop.send(*[value(number) for number in range(500)], b"{", partition=0)
    crashed = pg_shop.start(patch=f"{point}:1")
    assert crashed.process.wait(40) == -9
    assert pg_shop.topics.committed(pg_shop.group, pg_shop.topic) == {}
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(*range(500))
    assert {d.value for d in pg_shop.dead_letters()} == {b"{"}


def test_bug_ends_the_worker_with_nothing_past_it_committed(pg_shop: Shop) -> None:
    pg_shop.send(*[value(number) for number in range(100)], partition=0)
    first = pg_shop.start().wait_ready()
    pg_shop.wait_drained()
    first.terminate()
    pg_shop.send(*[value(number) for number in range(100, 110)], partition=0)  # before, so that they are read together
    faulty = pg_shop.start(patch="bug:2")
    wait_until(lambda: pg_shop.topics.lag(pg_shop.group, pg_shop.topic) == 0, 60, "the first batch")
    pg_shop.send(*[value(number) for number in range(110, 120)], partition=0)
    assert faulty.process.wait(40) == 70
    assert "ZeroDivisionError: a bug that was put in" in faulty.words().splitlines()[-1]
    assert pg_shop.topics.committed(pg_shop.group, pg_shop.topic) == {0: 110}
    pg_shop.workers.remove(faulty)
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(*range(120))


def test_database_that_is_down_for_a_while_delays_and_loses_nothing(
    tmp_path: Path, kafka: Kafka, topic_name: str, own_postgres: LocalPostgres
) -> None:
    with open_shop(tmp_path, kafka, topic_name, own_postgres.create_database("erp")) as shop:
        worker = shop.start().wait_ready()
        shop.send(*[value(number) for number in range(50)])
        shop.wait_drained()
        own_postgres.stop()
        shop.send(*[value(number) for number in range(50, 100)], b"{")
        wait_until(lambda: worker.get("/readyz")[0] == 503, 20, "an unready worker")
        assert "sink: connection" in worker.get("/readyz")[1]
        assert worker.get("/healthz")[0] == 200
        own_postgres.start()
        shop.wait_drained()
        assert shop.event_ids() == ids(*range(100))
        assert [d.value for d in shop.dead_letters()] == [b"{"]
        wait_until(lambda: worker.get("/readyz")[0] == 200, 20, "a ready worker again")
        assert worker.terminate() == 0


def test_worker_whose_database_is_down_can_be_stopped_with_nothing_acknowledged(
    tmp_path: Path, kafka: Kafka, topic_name: str, own_postgres: LocalPostgres
) -> None:
    with open_shop(tmp_path, kafka, topic_name, own_postgres.create_database("erp"), drain_seconds=1) as shop:
        worker = shop.start().wait_ready()
        own_postgres.stop()
        shop.send(value(1))
        wait_until(lambda: worker.get("/readyz")[0] == 503, 20, "an unready worker")
        assert worker.terminate() == 0
        assert shop.topics.committed(shop.group, shop.topic) == {}
        own_postgres.start()
        shop.start()
        shop.wait_drained()
        assert shop.event_ids() == ids(1)


def test_second_worker_takes_over_partitions_and_gives_them_back(pg_shop: Shop) -> None:
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        more = range(sent, sent + count)
        pg_shop.topics.produce(pg_shop.topic, [(str(number).encode(), value(number), []) for number in more])
        sent += count

    first = pg_shop.start().wait_ready()
    send(500)
    second = pg_shop.start()
    while second.get("/readyz")[0] != 200:
        send(200 if sent < 50_000 else 0)
    wait_until(lambda: assigned(first) == assigned(second) == 2, 30, "two partitions each")
    send(500)
    assert second.terminate() == 0, second.words()
    send(500)
    wait_until(lambda: assigned(first) == 4, 30, "all partitions with the first")
    send(500)
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(*range(sent))
    assert pg_shop.dead_letters() == []


def test_spare_worker_without_partitions_is_ready(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite", partitions=1) as shop:
        workers = [shop.start().wait_ready(), shop.start().wait_ready()]
        wait_until(
            lambda: sorted(assigned(worker) for worker in workers) == [0, 1], 20, "one worker with the partition"
        )
        for worker in workers:
            worker.wait_ready()  # the first may still be in the rebalance that the second brought about
        shop.send(value(1))
        shop.wait_drained()
        assert shop.event_ids() == ids(1)


def assigned(worker: Worker) -> int:
    lines = worker.get("/metrics")[1].splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("tillstream_assigned_partitions "))


def test_worker_says_whether_it_is_ready_its_versions_and_missing_receipts(
    tmp_path: Path, kafka: Kafka, topic_name: str
) -> None:
    old = "2026-03-01T12:00:00Z"  # the window remembers the day of the others, and the one before
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite", partitions=1) as shop:
        shop.send(value(1), value(2, occurred_at=old), *[value(n, receipt=str(2 * n)) for n in range(3, 101)])
        stores = {"S1": {"opening_hours": "24/7"}, "S2": {"opening_hours": "closed"}, "S3": {}}
        worker = shop.start(stores=stores).wait_ready()
        shop.wait_drained()
        wait_until(lambda: samples(worker)["tillstream_events_late_total"] == 1, 10, "the observer to look")
        wait_until(lambda: 'tillstream_store_open{store="S1"}' in samples(worker), 30, "who is open")
        found = samples(worker)
    assert found["tillstream_ready"] == 1
    assert found["tillstream_rebalances_total"] == found["tillstream_window_recovery_seconds_count"] >= 1
    assert found['tillstream_mapping_info{contract="canonical",mapping=""}'] == 1
    assert found['tillstream_receipts_missing_total{store="S1"}'] == 50  # 3, 4, 5, 7, … 99: 200 is a hundred further
    assert any(name.startswith("tillstream_build_info{") for name in found)
    who = {name: number for name, number in found.items() if name.startswith("tillstream_store_open{")}
    assert who == {'tillstream_store_open{store="S1"}': 1, 'tillstream_store_open{store="S2"}': 0}


def samples(worker: Worker) -> dict[str, float]:
    lines = [line for line in worker.get("/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(number) for name, number in (line.rsplit(" ", 1) for line in lines)}


def test_sigterm_drains_batches_at_work(pg_shop: Shop) -> None:
    pg_shop.send(*[value(number) for number in range(20_000)])
    worker = pg_shop.start().wait_ready()
    wait_until(lambda: pg_shop.event_ids(), 30, "the first documents")
    assert worker.terminate() == 0
    (stopping,) = [line for line in worker.words().splitlines() if "worker stopping" in line]
    assert json.loads(stopping)["drained"] is True
    committed = pg_shop.topics.committed(pg_shop.group, pg_shop.topic)
    assert sum(committed.values()) == len(pg_shop.event_ids())


def test_offsets_reset_to_the_beginning_are_duplicates_of_the_recovered_window(pg_shop: Shop) -> None:
    today = [value(number, occurred_at="2026-03-10T12:00:00Z") for number in range(1000)]
    pg_shop.send(*today)
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.workers[0].terminate() == 0
    pg_shop.topics.reset(pg_shop.group, pg_shop.topic)
    again = pg_shop.start()
    wait_until(lambda: again.readings().settled == 1000, 30, "all records again")
    assert again.readings().duplicates == {"window": 1000}
    assert pg_shop.event_ids() == ids(*range(1000))


def test_without_a_window_the_sink_still_writes_once(pg_shop: Shop) -> None:
    pg_shop.send(*[value(number) for number in range(1000)])
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.workers[0].terminate() == 0
    stranger = pg_shop.start(group=f"{pg_shop.group}-2")  # no offsets and no window
    wait_until(lambda: stranger.readings().settled == 1000, 30, "all records again")
    assert stranger.readings().duplicates == {"sink": 1000}
    assert pg_shop.event_ids() == ids(*range(1000))


def test_offsets_are_right_where_a_topic_has_gaps(pg_shop: Shop) -> None:
    """Transactions leave markers in the log: offsets without a record."""
    producer = pg_shop.topics.transactional_producer()
    for number in range(30):
        producer.begin_transaction()
        producer.produce(pg_shop.topic, value(number), partition=0)
        producer.commit_transaction()
    worker = pg_shop.start().wait_ready()
    last = 30 * 2 - 2
    wait_until(lambda: pg_shop.topics.committed(pg_shop.group, pg_shop.topic) == {0: last + 1}, 30, "the last record")
    worker.kill()
    producer.begin_transaction()
    producer.produce(pg_shop.topic, value(99), partition=0)
    producer.commit_transaction()
    again = pg_shop.start()
    wait_until(lambda: again.readings().settled == 1, 30, "the one new record")
    assert pg_shop.event_ids() == ids(*range(30), 99)


def test_any_bytes_end_as_a_dead_letter_or_a_noted_record(pg_shop: Shop) -> None:
    nasty: list[bytes | None] = [
        b"",
        b"null",
        b"[" * 50_000,
        b"\xff" * 100,
        b'{"a":' * 10_000,
        b"x" * 5_000_000,
        b'"' + b"y" * 5_000_000 + b'"',
        value(1, occurred_at="2026-03-10T12:00:00"),
        value(1, currency="ZZZ"),
        value(1, lines=[{"sku": "A", "quantity": "NaN", "unit_price": "1", "tax_rate": "0"}]),
        value(1, totals={"gross": "1e500"}),
        value(1, cashier="\x00"),
        value(1, cashier="\ud800"),
        value(1)[:-1] + b',"store":"twice"}',
        None,
        None,
    ]
    worker = pg_shop.start().wait_ready()
    pg_shop.send(*nasty, value(7))
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(7)
    assert sorted(d.value or b"" for d in pg_shop.dead_letters()) == sorted(v for v in nasty if v is not None)
    assert worker.readings().skipped == 2
    assert worker.get("/healthz")[0] == 200


def test_topic_of_rejections_stops_the_worker_before_it_is_drained(pg_shop: Shop) -> None:
    worker = pg_shop.start(dead_letter_budget={"ratio": 0.5, "sample": 1000}, slice_records=100).wait_ready()
    pg_shop.send(*[b"{"] * 3000, value(1))
    wait_until(lambda: worker.get("/readyz")[0] == 503, 30, "an unready worker")
    assert "held: " in worker.get("/readyz")[1]
    assert worker.get("/healthz")[0] == 200
    assert len(pg_shop.dead_letters()) <= 500
    assert pg_shop.topics.lag(pg_shop.group, pg_shop.topic) >= 2500
    assert worker.terminate() == 0


def test_logs_are_json_and_name_the_place_but_no_person(pg_shop: Shop) -> None:
    worker = pg_shop.start().wait_ready()
    customer = {"id": "C-4711", "name": "Name Surname", "email": "someone@example.org"}
    pg_shop.send(value(1, totals={"gross": "9.99"}, customer=customer, cashier="Casey"), partition=2)
    pg_shop.wait_drained()
    worker.terminate()
    lines = [json.loads(line) for line in worker.words().splitlines()]
    (dead,) = [line for line in lines if line["event"] == "dead letter"]
    place = {name: dead[name] for name in ("topic", "partition", "offset", "store", "reason")}
    assert place == {
        "topic": pg_shop.topic,
        "partition": 2,
        "offset": 0,
        "store": "S1",
        "reason": str(Reason.TOTALS_MISMATCH),
    }
    everything = worker.words() + str(pg_shop.dead_letters()[0].headers)
    assert not any(secret in everything for secret in ("4711", "Surname", "example.org", "Casey"))


def test_tills_may_compress_what_they_send(pg_shop: Shop) -> None:
    for place, codec in enumerate(["gzip", "snappy", "lz4", "zstd"]):
        producer = pg_shop.topics.compressing_producer(codec)
        for number in range(100):
            producer.produce(pg_shop.topic, value(100 * place + number))
        assert producer.flush(30) == 0
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(*range(400))


def test_broker_that_is_away_for_a_while_delays_and_loses_nothing(
    tmp_path: Path, own_kafka: Kafka, topic_name: str
) -> None:
    assert own_kafka.broker is not None
    with open_shop(tmp_path, own_kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as shop:
        worker = shop.start().wait_ready()
        shop.send(*[value(number) for number in range(100)])
        shop.wait_drained()
        own_kafka.broker.stop()
        own_kafka.broker.start()
        shop.topics = Topics(own_kafka.bootstrap)  # admin clients wait for answers from the broker that was
        shop.send(*[value(number) for number in range(100, 200)], b"{")
        shop.wait_drained(90)
        assert shop.event_ids() == ids(*range(200))
        assert {d.value for d in shop.dead_letters()} == {b"{"}
        assert worker.process.poll() is None


def test_worker_can_be_stopped_while_the_broker_is_away(tmp_path: Path, own_kafka: Kafka, topic_name: str) -> None:
    assert own_kafka.broker is not None
    with open_shop(tmp_path, own_kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as shop:
        worker = shop.start().wait_ready()
        own_kafka.broker.kill()
        assert worker.terminate(60) == 0, worker.words()


def reasons(worker: Worker) -> list[str]:
    """Return why the worker is not ready."""
    reasons: list[str] = json.loads(worker.get("/readyz")[1])["reasons"]
    return reasons


def warnings(worker: Worker) -> list[str]:
    """Return the worker's warnings."""
    reasons: list[str] = json.loads(worker.get("/readyz")[1])["warnings"]
    return reasons


def test_sales_behind_an_open_transaction_are_counted_and_reported_until_it_ends(pg_shop: Shop) -> None:
    worker = pg_shop.start().wait_ready()
    till = pg_shop.topics.transactional_producer()
    till.begin_transaction()
    till.produce(pg_shop.topic, value(1), partition=0)
    assert till.flush(30) == 0
    pg_shop.send(*[value(number) for number in range(2, 7)], partition=0)

    def uncommitted() -> float:
        return MetricsPage(worker.get("/metrics")[1]).by("tillstream_uncommitted_records", "partition").get("0", 0.0)

    wait_until(lambda: uncommitted() == 6, 30, "six records behind the transaction")
    assert worker.readings().lag == 0
    (warning,) = wait_until(lambda: warnings(worker), 40, "a warning")
    assert f"6 records of {pg_shop.topic} wait behind an open Kafka transaction" in warning
    assert MetricsPage(worker.get("/metrics")[1]).total("tillstream_uncommitted_age_seconds") >= 10
    assert pg_shop.event_ids() == []
    till.commit_transaction(30)
    wait_until(lambda: pg_shop.event_ids() == ids(*range(1, 7)), 30, "all six in the ERP")
    wait_until(lambda: (uncommitted(), warnings(worker)) == (0, []), 30, "nothing uncommitted")


def test_outage_of_kafka_is_two_lines_of_ours_and_few_of_libraries(
    tmp_path: Path, own_kafka: Kafka, topic_name: str
) -> None:
    assert own_kafka.broker is not None
    with open_shop(tmp_path, own_kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as shop:
        workers = [shop.start().wait_ready(), shop.start().wait_ready()]
        shop.send(*[value(number) for number in range(100)])
        shop.wait_drained()
        before = [len(worker.words().splitlines()) for worker in workers]
        own_kafka.broker.kill()
        for worker in workers:
            wait_until(partial(reasons, worker), 60, "an unready worker")
        began = time.monotonic()
        while time.monotonic() - began < 20:  # an outage has to last, to be long
            assert [reason for reason in reasons(workers[0]) if not reason.startswith("no Kafka broker")] == []
            time.sleep(0.5)
        own_kafka.broker.start()
        shop.topics = Topics(own_kafka.bootstrap)
        for worker in workers:
            worker.wait_ready()
        for worker, known in zip(workers, before, strict=True):
            lines = [json.loads(line) for line in worker.words().splitlines()[known:] if line.startswith("{")]
            ours = [line for line in lines if line["logger"] == "tillstream.kafka"]
            assert [line["event"] for line in ours] == ["Kafka does not answer, waiting for it", "Kafka is back"]
            assert ours[1]["seconds"] >= 20
            assert ours[1]["library_messages_suppressed"] > 0
            assert len(worker.words().splitlines()) - known < 100
        shop.send(b"{")
        shop.wait_drained()


def test_broker_and_sink_that_are_both_away_are_both_named_and_the_broker_first(
    tmp_path: Path, own_kafka: Kafka, own_postgres: LocalPostgres, topic_name: str
) -> None:
    assert own_kafka.broker is not None
    with open_shop(tmp_path, own_kafka, topic_name, own_postgres.create_database("both")) as shop:
        worker = shop.start().wait_ready()
        shop.send(value(1))
        shop.wait_drained()
        own_postgres.stop()
        own_kafka.broker.kill()
        found = wait_until(lambda: len(reasons(worker)) > 1 and reasons(worker), 60, "two reasons")
        assert [reason.split()[0] for reason in found] == ["no", "sink:"]
        shown = run("top", f"127.0.0.1:{worker.port}", "--once", folder=tmp_path, environment={}).stdout
        assert 0 < shown.index("no Kafka broker answers at") < shown.index("sink: ")


def test_another_window_forgets_what_the_first_held(pg_shop: Shop) -> None:
    """As after restoring the ERP's database from a backup: the sink decides again."""
    pg_shop.send(*[value(number) for number in range(100)])
    pg_shop.start()
    pg_shop.wait_drained()
    assert pg_shop.workers[0].terminate() == 0
    pg_shop.execute(
        *(f"DELETE FROM {table}" for table in ("documents", "document_lines", "document_payments", "deliveries"))
    )
    pg_shop.topics.reset(pg_shop.group, pg_shop.topic)
    pg_shop.start(window="seen_2")
    pg_shop.wait_drained()
    assert pg_shop.event_ids() == ids(*range(100))
