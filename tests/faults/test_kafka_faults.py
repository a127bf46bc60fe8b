"""Kafka breaks around the workers: nothing is lost, nothing is doubled, and what has to wait says why."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType

from deploy.kafka import distribution
from deploy.kafka.broker import Broker
from deploy.processes import free_port
from streams.dead_letters.record import CONNECT, OWN
from tests.faults.conftest import LONG, OpenWorld
from tests.faults.stream import Sending, Stream, due
from tests.faults.test_watchdog import unready_because
from tests.faults.world import World, open_world, place
from tests.support.gate import Gate
from tests.support.kafka import Kafka
from tests.support.topics import Record, Topics
from tests.support.wait import wait_until

pytestmark = pytest.mark.kafka

ROUNDS = 3 if LONG else 1


class Frail(Broker):
    """A broker that tests do harm to, behind a network that can be slow. It knows access rights."""

    def __init__(self) -> None:
        port = free_port()
        self.gate = Gate("127.0.0.1", port)
        settings = {
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
        super().__init__(port=port, settings=settings)

    @property
    def address(self) -> str:
        """Where clients connect to: the network."""
        return f"127.0.0.1:{self.gate.port}"

    def close(self) -> None:
        """Broker and network are gone."""
        super().close()
        self.gate.close()


@pytest.fixture(scope="module")
def frail() -> Iterator[Frail]:
    """One for all tests of this file."""
    if not distribution.is_available():
        pytest.skip("needs a broker of its own: install Java and Maven")
    with Frail() as broker:
        yield broker


@pytest.fixture
def frail_world(frail: Frail, tmp_path: Path, topic_name: str, random: Random) -> Iterator[World]:
    """A world on that broker, which is well before and after."""
    with open_world(tmp_path, Topics(frail.address), topic_name, f"sqlite:///{tmp_path}/erp.sqlite", random) as world:
        try:
            yield world
        finally:
            frail.gate.rate = None
            frail.resume()
            if frail.pid is None:
                frail.start()


@pytest.mark.faults_long
def test_broker_that_is_killed_and_comes_back_delays_and_loses_nothing(frail: Frail, frail_world: World) -> None:
    world = frail_world
    workers = [world.start().wait_ready(), world.start().wait_ready()]
    for _ in range(ROUNDS):
        world.feed(world.random.randint(100, 400))
        time.sleep(world.random.uniform(0, 1))
        frail.kill()
        unready = unready_because(workers[0], "no Kafka broker answers at")
        wait_until(unready, 40, "an unready worker")
        assert workers[0].get("/healthz")[0] == 200
        time.sleep(world.random.uniform(0, 3))
        frail.start()
        world.topics = Topics(frail.address)  # admin clients wait for answers from the broker that was
        world.feed(100)
    world.wait_drained(120)
    world.check()
    for worker in workers:
        worker.wait_ready()


@pytest.mark.faults_long
def test_lost_credentials_end_the_worker_with_that_on_the_last_line(
    own_kafka: Kafka, tmp_path: Path, topic_name: str, random: Random
) -> None:
    broker = own_kafka.broker
    assert broker is not None
    asks_for("right", broker)
    kafka = {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": "worker", "password": "right"}
    with open_world(tmp_path, own_kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite", random, kafka=kafka) as world:
        broker.stop()
        broker.start()
        worker = world.start().wait_ready()
        broker.stop()
        asks_for("other", broker)
        broker.start()
        assert worker.process.wait(90) == 3
        assert re.match(".*refuses: .*Authentication failed", worker.words().splitlines()[-1]), worker.words()
        again = world.start()
        assert again.process.wait(60) == 3
        assert re.match("tillstream: .*refuses: .*Authentication failed", again.words().splitlines()[-1])


def asks_for(password: str, broker: Broker) -> None:
    """From its next start on the broker knows one user, with this password."""
    users = f'username="broker" password="broker" user_broker="broker" user_worker="{password}"'
    broker.settings |= {
        "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.plaintext.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "inter.broker.listener.name": "PLAINTEXT",
    }


@pytest.mark.faults_long
def test_broker_that_freezes_for_longer_than_the_session_delays_and_loses_nothing(
    frail: Frail, frail_world: World
) -> None:
    world = frail_world
    workers = [world.start().wait_ready(), world.start().wait_ready()]
    for _ in range(ROUNDS):
        world.feed(world.random.randint(100, 400))
        frail.pause()
        time.sleep(world.settings["session_seconds"] * world.random.uniform(2, 4))
        frail.resume()
        world.feed(100)
    world.wait_drained(120)
    world.check()
    assert [worker.process.poll() for worker in workers] == [None, None]


@pytest.mark.faults_long
def test_slow_broker_whose_connections_break_delays_and_loses_nothing(frail: Frail, frail_world: World) -> None:
    world = frail_world
    worker = world.start().wait_ready()
    frail.gate.rate = 200_000
    for _ in range(ROUNDS):
        world.feed(200)
        frail.gate.cut()
        world.topics = Topics(frail.address)
        world.feed(100)
        world.wait_drained(120)
    world.check()
    assert worker.process.poll() is None


def delete(world: World) -> Callable[[], None]:
    """The topic is missing."""
    world.topics.delete_topic(world.dead_letter_topic)
    return lambda: world.topics.create_topic(world.dead_letter_topic)


def want_other_keys(world: World) -> Callable[[], None]:
    """The topic's policy refuses records without a key."""
    world.topics.set_config(world.dead_letter_topic, cleanup_policy="compact")
    return lambda: world.topics.set_config(world.dead_letter_topic, cleanup_policy="delete")


def forbid(world: World) -> Callable[[], None]:
    """The worker may not write to it."""
    place: tuple[object, ...] = (2, world.dead_letter_topic, 3, "User:ANONYMOUS", "*")  # a topic, by its full name
    rules = [
        AclBinding(*place, AclOperation.ALL, AclPermissionType.ALLOW),
        AclBinding(*place, AclOperation.WRITE, AclPermissionType.DENY),
    ]
    for made in world.topics.admin.create_acls(rules).values():
        made.result(30)
    denied = AclBindingFilter(*place, AclOperation.WRITE, AclPermissionType.DENY)

    def allow() -> None:
        for gone in world.topics.admin.delete_acls([denied]).values():
            gone.result(30)

    return allow


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (forbid, "TopicAuthorizationFailedError"),
        pytest.param(delete, "does not confirm", marks=pytest.mark.faults_long),
        pytest.param(want_other_keys, "UnknownError", marks=pytest.mark.faults_long),
    ],
)
def test_dead_letter_topic_that_takes_nothing_is_waited_for_with_nothing_acknowledged(
    frail_world: World, harm: Callable[[World], Callable[[], None]], reason: str
) -> None:
    world = frail_world
    worker = world.start().wait_ready()
    mend = harm(world)
    world.feed(400)
    world.topics.produce(world.topic, [(None, b"{", [("till.fault", b"cut_off")])])
    unready = unready_because(worker, f"dead-letter topic {world.dead_letter_topic}: {reason}")
    wait_until(unready, 60, "an unready worker")
    time.sleep(1.5)  # commits come every second
    committed = world.topics.committed(world.group, world.topic)
    acknowledged = {at for at in due(world.topics.records(world.topic)).dead if at[1] < committed.get(at[0], 0)}
    assert acknowledged <= (set() if harm is delete else {place(letter) for letter in world.dead_letters()})
    assert worker.get("/healthz")[0] == 200
    mend()
    world.wait_drained(90)
    world.check()
    worker.wait_ready()
    assert worker.terminate() == 0


def test_dead_letter_that_is_too_large_is_kept_truncated_with_where_the_whole_lies(world: World) -> None:
    world.topics.create_topic(world.dead_letter_topic, 4, {"max.message.bytes": "20000"})
    worker = world.start().wait_ready()
    large = [
        (b"k1", b'{"' + world.random.randbytes(50_000), [("trace", b"t")]),
        (b"k" * 30_000, b"{", [("trace", b"t")]),
        (b"k3", b"{", [("trace", b"t" * 30_000), ("short", b"s")]),
    ]
    together = [(b"many", b"{" * 4000, []) for _ in range(20)]  # too large only in one batch
    world.feed(200)
    world.topics.produce(world.topic, [(key, value, [*headers, BROKEN]) for key, value, headers in [*large, *together]])
    world.feed(200)
    world.wait_drained()
    records = {(record.partition, record.offset): record for record in world.topics.records(world.topic)}
    truncated = {}
    for letter in world.dead_letters():
        stated = dict(letter.headers)
        whole = records[place(letter)]
        theirs = [header for header in letter.headers if not header[0].startswith((CONNECT, OWN))]
        if OWN + "truncated" not in stated:
            assert (letter.key, letter.value, theirs) == (whole.key, whole.value, whole.headers)
            continue
        truncated[place(letter)] = letter
        assert (whole.key or b"").startswith(letter.key or b"")
        assert (whole.value or b"").startswith(letter.value or b"")
        assert stated[OWN + "truncated"] == str(len(whole.value or b"")).encode()
        assert stated[OWN + "sha256"] == hashlib.sha256(whole.value or b"").hexdigest().encode()
    assert {records[at].key for at in truncated} == {key for key, _, _ in large}
    assert {place(letter) for letter in world.dead_letters()} == set(due(records.values()).dead)
    assert len(world.held()) == len(due(records.values()).documents)
    assert f"tillstream_dead_letters_truncated_total {len(large)}.0" in worker.get("/metrics")[1]
    assert "larger bad records are truncated there" in worker.words()


BROKEN = ("till.fault", b"cut_off")


def test_topic_that_gains_partitions_is_read_from_all_of_them(world: World) -> None:
    worker = world.start().wait_ready()
    world.feed(200)
    world.wait_drained()
    world.topics.add_partitions(world.topic, 7)
    # Keys move when partitions are added, and the order of one receipt's events is lost: these are other receipts.
    world.stream = Stream(world.random, first=100_000)
    world.topics = Topics(world.topics.bootstrap)  # the other producer still knows four partitions
    world.feed(300)
    assert worker.process.wait(60) == 75, worker.words()
    assert worker.words().splitlines()[-1] == (
        f"tillstream: the topic {world.topic} has 7 partitions now, and had 4 at the start: start the worker again"
    )
    world.workers.remove(worker)
    world.start()
    world.wait_drained()
    world.check()
    assert set(world.topics.committed(world.group, world.topic)) == set(range(7))


@pytest.mark.faults_long
def test_offsets_that_are_set_back_to_the_beginning_are_all_duplicates(world: World) -> None:
    for _ in range(ROUNDS + 1):
        world.feed(400)
        worker = world.start()
        world.wait_drained()
        assert worker.terminate() == 0
        world.topics.reset(world.group, world.topic)
    world.start()
    world.wait_drained()
    world.check()


def test_aborted_transactions_are_not_sold_and_markers_are_no_lag(world: World) -> None:
    worker = world.start().wait_ready()
    producer = world.topics.transactional_producer()
    for _ in range(8 * ROUNDS):
        send_in_transaction(producer, world, world.stream.take(world.random.randint(1, 30)), commit=True)
        if world.random.random() < 0.5:
            send_in_transaction(producer, world, never_sold(world), commit=False)
    ends = world.topics.records(world.topic)  # committed ones only
    wait_until(lambda: worker.readings().settled >= len(ends), 60, "all committed records")
    wait_until(lambda: worker.readings().lag == 0, 20, "no lag in the worker's own eyes, although markers follow")
    producer.begin_transaction()  # an open one holds back what is behind it, and nothing else
    for key, value, headers in never_sold(world):
        producer.produce(world.topic, value, key, headers=headers)
    producer.flush(30)
    world.feed(50)
    producer.abort_transaction()
    wait_until(lambda: world.topics.is_stable(world.topic), 30, "the last marker")
    for partition in range(4):  # a last record behind the last marker, so that offsets can be compared
        world.topics.produce(world.topic, [(b"end", None, [])], partition=partition)
    world.wait_drained()
    world.check()


def send_in_transaction(producer: Producer, world: World, records: Sequence[Sending], *, commit: bool) -> None:
    producer.begin_transaction()
    for key, value, headers in records:
        producer.produce(world.topic, value, key, headers=headers)
    if commit:
        producer.commit_transaction()
    else:
        producer.flush(30)  # they are in the log, and then aborted
        producer.abort_transaction()


def never_sold(world: World) -> Sequence[Sending]:
    """Receipts that are in no other transaction."""
    return Stream(world.random, first=world.random.randint(10**6, 10**9)).take(20)


@pytest.mark.faults_long
def test_compacted_topic_is_read_across_its_gaps(open_worlds: OpenWorld) -> None:
    world = open_worlds()
    world.topics.set_config(
        world.topic,
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.001",
        max_compaction_lag_ms="100",
        delete_retention_ms="0",
    )
    fed = 0
    while len(world.topics.records(world.topic)) > fed * 0.9 - 100 and fed < 3000:
        fed += len(world.feed(300))
        time.sleep(0.3)
    world.topics.set_config(world.topic, cleanup_policy="delete")
    records = wait_until(lambda: settled_records(world), 30, "an end of compaction")
    offsets = {(record.partition, record.offset) for record in records}
    assert len(offsets) < fed, "nothing was compacted"
    world.start()
    world.wait_drained()
    world.feed(100)
    world.wait_drained()
    world.check()
    wait_until(lambda: world.skipped() == fed - len(records), 10, "the compacted records to be counted as skipped")


def settled_records(world: World) -> list[Record]:
    before = world.topics.records(world.topic)
    time.sleep(1)
    return before if world.topics.records(world.topic) == before else []
