"""The servers that run on this machine: quick, real, on 127.0.0.1 only, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from deploy.components import postgres_folder
from deploy.kafka import distribution
from deploy.kafka.broker import Broker
from deploy.processes import ServerError, free_port, is_free
from tests.support.kafka import Kafka
from tests.support.postgres_server import LocalPostgres
from tests.support.topics import Topics
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "kafka" / "broker.py"

needs_kafka = pytest.mark.skipif(not distribution.is_available(), reason="no Java, or no Maven to fetch Kafka")

needs_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")


def fill(kafka: Kafka | Topics, topic: str) -> None:
    kafka.create_topic(topic, partitions=1)
    kafka.produce(topic, [(b"till", b"%d" % n, []) for n in range(100)])


def listening_addresses(pid: int) -> set[str]:
    """The addresses, as Linux writes them, on which a process and its children listen."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    sockets = set()
    for process in [str(pid), *children]:
        for link in Path(f"/proc/{process}/fd").iterdir():
            if link.is_symlink() and (target := os.readlink(link)).startswith("socket:"):
                sockets.add(target[8:-1])
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


@needs_kafka
def test_broker_starts_in_seconds_and_answers_at_once(topic_name: str) -> None:
    distribution.jars()  # fetching them, the very first time, is not part of it
    begun = time.monotonic()
    with Broker() as broker:
        fill(Topics(broker.bootstrap), topic_name)
        assert len(Topics(broker.bootstrap).records(topic_name)) == 100
    assert time.monotonic() - begun < 30  # 3 s on two idle cores
    assert not broker.data.exists()


def end_broker(broker: Broker, how: str) -> None:
    if how == "crash":
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
        wait_until(lambda: broker.pid is None, what="the broker's end")
    else:
        broker.stop() if how == "stop" else broker.kill()


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_broker_comes_back_on_its_port_with_its_data(own_kafka: Kafka, topic_name: str, end: str) -> None:
    fill(own_kafka, topic_name)
    broker = own_kafka.broker
    assert broker
    bootstrap = broker.bootstrap
    end_broker(broker, end)
    assert broker.pid is None
    assert is_free(broker.port)
    assert broker.start().bootstrap == bootstrap
    assert [record.value for record in own_kafka.records(topic_name)] == [b"%d" % n for n in range(100)]


def test_paused_broker_answers_nothing_until_it_is_resumed(own_kafka: Kafka) -> None:
    broker = own_kafka.broker
    assert broker
    broker.pause()
    with pytest.raises(KafkaException):
        own_kafka.admin.list_topics(timeout=1)
    broker.resume()
    assert own_kafka.admin.list_topics(timeout=30).brokers
    broker.pause()
    broker.stop()
    assert broker.pid is None


@needs_kafka
def test_a_broker_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"ended with exit code 1(?s:.*)no\.such\.Reporter") as error:
        Broker(data=tmp_path, settings={"metric.reporters": "no.such.Reporter"}).start()
    assert str(tmp_path / "broker.log") in str(error.value)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is in use"):
            Broker(port=port, data=tmp_path).start()


def test_missing_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not distribution.is_available()
    with pytest.raises(ServerError, match="Java 17 or newer: no java on PATH"):
        Broker(data=tmp_path).start()


def test_missing_maven_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(distribution, "DIST", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="there is no mvn on PATH"):
        distribution.jars()


def test_kafka_is_fetched_once_however_many_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []

    def fetch(folder: Path) -> None:
        fetched.append(folder)
        folder.mkdir()

    monkeypatch.setattr(distribution, "DIST", tmp_path)
    monkeypatch.setattr(distribution, "_fetch", fetch)
    threads = [threading.Thread(target=distribution.jars) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


@needs_proc
def test_nothing_listens_beyond_this_machine(own_kafka: Kafka, own_postgres: LocalPostgres) -> None:
    for server in (own_kafka.broker, own_postgres):
        assert server
        assert server.pid
        assert listening_addresses(server.pid) == {"0100007F"}  # 127.0.0.1


ORPHANS = """
import sys
from deploy.kafka.broker import Broker
from tests.support.postgres_server import LocalPostgres

broker, postgres = Broker().start(), LocalPostgres().start()
print(broker.pid, postgres.pid, broker.data, postgres.folder, flush=True)
sys.stdin.read()
"""


@needs_kafka
@needs_proc
@pytest.mark.skipif(postgres_folder() is None, reason="no PostgreSQL")
def test_servers_go_with_the_process_that_started_them_even_if_it_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        *pids, broker_data, postgres_folder = parent.stdout.readline().split()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(broker_data).exists(), what="the broker's data to go")
    wait_until(lambda: not Path(postgres_folder).exists(), what="the database's data to go")
    for pid in map(int, pids):
        wait_until(lambda pid=pid: is_gone(pid), what=f"process {pid} to go")  # type: ignore[misc]  # mypy can't infer it


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    run("stop", "--data", str(tmp_path))


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


@needs_kafka
def test_broker_of_the_command_line_runs_on_until_it_is_stopped(data: Path, topic_name: str) -> None:
    port = free_port()
    started = run("start", "--data", str(data), "--port", str(port))
    assert (started.returncode, started.stdout, started.stderr) == (0, f"127.0.0.1:{port}\n", "")
    fill(Topics(f"127.0.0.1:{port}"), topic_name)
    assert run("status", "--data", str(data)).stdout.startswith(f"127.0.0.1:{port} (pid ")
    again = run("start", "--data", str(data))
    assert (again.returncode, again.stderr) == (3, f"a broker runs on these data already, at 127.0.0.1:{port}\n")
    assert run("stop", "--data", str(data)).stdout == "stopped\n"
    assert run("status", "--data", str(data)).returncode == 3
    assert is_free(port)


@needs_kafka
def test_data_in_a_named_folder_outlive_the_broker(data: Path, topic_name: str) -> None:
    for _ in range(2):
        bootstrap = run("start", "--data", str(data), "--port", str(free_port())).stdout.strip()
        if not (topics := Topics(bootstrap)).admin.list_topics(timeout=30).topics:
            fill(topics, topic_name)
        assert len(topics.records(topic_name)) == 100
        run("stop", "--data", str(data))


def test_command_line_explains_itself() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert "start" in shown.stdout
    assert run().returncode == 2
