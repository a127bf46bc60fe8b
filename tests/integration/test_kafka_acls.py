"""deploy/kafka/acls: each user can do its work with the rights that it grants, on a broker that denies all others."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from deploy.kafka import distribution
from deploy.kafka.broker import Broker
from tests.support.events import value
from tests.support.wait import wait_until
from tests.support.workers import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.faults_long]

SCRIPT = Path(__file__).parents[2] / "deploy/kafka/acls"
USERS = ("admin", "tillstream", "tillstream-owner", "tillstream-desk", "tillstream-lag")
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Alter": AclOperation.ALTER,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


def granted(folder: Path) -> list[AclBinding]:
    """What the script would have kafka-acls.sh grant."""
    stub = folder / "kafka-acls.sh"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$*"\n')
    stub.chmod(0o755)
    done = subprocess.run([SCRIPT], env={**os.environ, "KAFKA_ACLS": str(stub)}, capture_output=True, check=True)
    return [binding for line in done.stdout.decode().splitlines() for binding in bindings(line.split())]


def bindings(words: list[str]) -> Iterator[AclBinding]:
    """One command line of kafka-acls.sh."""
    assert words[:3] == ["--bootstrap-server", "127.0.0.1:9092", "--add"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    given = dict(pairs)
    kind = "topic" if "--topic" in given else "group"
    for name, operation in pairs:
        if name == "--operation":
            yield AclBinding(
                ResourceType[kind.upper()],
                given[f"--{kind}"],
                ResourcePatternType[given["--resource-pattern-type"].upper()],
                given["--allow-principal"],
                "*",
                OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )


class Cluster:
    """A broker that knows its users and denies what is not granted, a topic, and an ERP database."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        admin = AdminClient(self.client("admin"))
        admin.create_topics([NewTopic("pos.sales", 2, 1)])["pos.sales"].result(30)
        for grant in admin.create_acls(granted(folder)).values():
            grant.result(30)

    def client(self, user: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.broker.bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": f"{user}-secret",
            "log_level": 0,
        }

    def settings(self, user: str, **more: Any) -> dict[str, Any]:
        return {
            "broker": self.broker.bootstrap,
            "kafka": {
                "protocol": "SASL_PLAINTEXT",
                "mechanism": "PLAIN",
                "username": user,
                "password": f"{user}-secret",
            },
            "create_topics": False,
            "sink_url": f"sqlite:///{self.folder}/erp.sqlite",
            "session_seconds": 2,
            **more,
        }

    def tillstream(self, user: str, *command: str, **settings: Any) -> "subprocess.CompletedProcess[str]":
        config = self.folder / f"{user}.yaml"
        config.write_text(json.dumps(self.settings(user, **settings)))
        program = [sys.executable, "-m", "ops.cli", *command, "--config", str(config)]
        return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)

    def send(self, *values: bytes) -> None:
        assert send(self.client("admin"), "pos.sales", *values) == []


def send(client: dict[str, Any], topic: str, *values: bytes) -> list[KafkaError]:
    """Puts records into the topic; what the broker said against it."""
    faults: list[KafkaError] = []
    producer = Producer(client)
    for each in values:
        # One key: the same record again goes to the same partition, whose window knows it.
        producer.produce(topic, each, key=b"S1", on_delivery=lambda error, _: faults.append(error) if error else None)
    assert producer.flush(30) == 0
    return faults


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not distribution.is_available():
        pytest.skip("needs a broker of its own: install Java and Maven")
    known = " ".join(f'user_{user}="{user}-secret"' for user in (*USERS, "broker"))
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listener.name.plaintext.plain.sasl.jaas.config": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="broker" password="broker-secret" {known};'
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "inter.broker.listener.name": "PLAINTEXT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:broker;User:ANONYMOUS",  # the controller's listener knows no names
    }
    with Broker(settings=settings) as broker:
        yield Cluster(broker, tmp_path_factory.mktemp("acls"))


def test_each_user_can_do_its_work_with_the_rights_of_the_script(cluster: Cluster) -> None:
    migration = cluster.tillstream("tillstream-owner", "check", "--apply")
    assert migration.returncode == 0, migration.stdout + migration.stderr
    found = cluster.tillstream("tillstream", "check")
    assert found.returncode == 0, found.stdout + found.stderr

    retries = {"unknown_store": {"first_seconds": 1}}
    known = {"stores": {"S1": {}}, "default_store": None}
    config = cluster.settings("tillstream", retries=retries, most_attempts=1, **known)
    worker = Worker(cluster.folder, config)
    try:
        worker.wait_ready()
        cluster.send(value(1), value(2, store="S2"))
        parked = 'tillstream_dead_letters_retried_total{end="parked"} 1.0'
        wait_until(lambda: parked in worker.get("/metrics")[1], 40, "the letter to be tried again, and parked")
        assert worker.readings().delivered == 1
        worker.kill()
        worker = Worker(cluster.folder, config)  # this one recovers the window from its changelog
        worker.wait_ready()
        cluster.send(value(1))
        wait_until(lambda: worker.readings().duplicates.get("window") == 1, 30, "the window to know what was sold")
        assert worker.terminate(60) == 0
        assert "uthoriz" not in worker.words()
    finally:
        worker.kill()

    replayed = cluster.tillstream("tillstream-desk", "dlq", "replay", "--parked", "--apply", "--json", "--by", "me")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert json.loads(replayed.stdout)["ends"]["delivered"] == 1
    purged = cluster.tillstream("tillstream-desk", "dlq", "purge", "--older-than", "0m", "--apply", "--by", "me")
    assert "1 offsets purged" in purged.stdout, purged.stdout + purged.stderr
    looked = cluster.tillstream("tillstream-desk", "inspect", "pos.sales", "--json")
    assert looked.returncode == 0, looked.stdout + looked.stderr

    agreed = cluster.tillstream("tillstream-desk", "reconcile", "--json", "--by", "me")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert [day["accounts"][0]["erp"]["receipts"] for day in json.loads(agreed.stdout)["days"]] == [1, 1]

    scaler = AdminClient(cluster.client("tillstream-lag"))
    places = [TopicPartition("pos.sales", number) for number in range(2)]
    committed = scaler.list_consumer_group_offsets([ConsumerGroupTopicPartitions("tillstream", places)])
    ends = scaler.list_offsets({place: OffsetSpec.latest() for place in places})  # type: ignore[no-untyped-call]  # confluent's
    held = committed["tillstream"].result(30).topic_partitions
    behind = sum(
        ends[place].result(30).offset - max(0, there.offset) for place, there in zip(places, held, strict=True)
    )
    assert behind == 0


@pytest.mark.parametrize("user", ["tillstream", "tillstream-owner", "tillstream-desk", "tillstream-lag"])
def test_nobody_but_tills_may_sell(cluster: Cluster, user: str) -> None:
    assert [fault.code() for fault in send(cluster.client(user), "pos.sales", value(9))] == [
        KafkaError.TOPIC_AUTHORIZATION_FAILED
    ]


def test_worker_may_neither_create_nor_delete_topics(cluster: Cluster) -> None:
    admin = AdminClient(cluster.client("tillstream"))
    created = admin.create_topics([NewTopic("more", 1, 1)])["more"]
    deleted = admin.delete_topics(["pos.sales"])["pos.sales"]
    for answer in (created, deleted):
        with pytest.raises(KafkaException) as refused:
            answer.result(30)
        assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_production_overlay_names_the_users_of_the_script(tmp_path: Path) -> None:
    users = {binding.principal.removeprefix("User:") for binding in granted(tmp_path)}
    overlay = Path(__file__).parents[2] / "deploy/k8s/overlays/production"
    settings = yaml.safe_load((overlay / "tillstream.yaml").read_text())
    assert users == set(USERS) - {"admin"}
    assert settings["kafka"]["username"] in users
