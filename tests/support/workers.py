"""Workers: `tillstream run`, each in a process of its own that can be killed, on real components."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from deploy.processes import is_free
from ops.worker.process import WorkerReadings, parse
from tests.support.nursery import fork
from tests.support.topics import Record, Topics
from tests.support.wait import wait_until


class ChildProcess(Protocol):
    """The part of `subprocess.Popen` that tests use."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def send_signal(self, sig: int) -> None: ...


#: Starts `tillstream run` with a fault or none, a settings file, a log file, and options.
Launch = Callable[[str | None, Path, Path, Sequence[str]], ChildProcess]


def launch(patch: str | None, config: Path, log: Path, options: Sequence[str] = ()) -> ChildProcess:
    """Start a worker as users do, which takes a second and a half for imports."""
    program = ["-m", "ops.cli", "run"] if patch is None else ["-m", "tests.support.faulty_worker", patch, "run"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TILLSTREAM_")}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, *program, "--config", str(config), *options], stdout=out, stderr=out, env=environment
        )


def get(port: int, path: str) -> tuple[int, str]:
    """Return (status, body) from HTTP on this port; (0, "") when nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


#: Below the ports of outgoing connections, which could take one in the meantime; each test process has its own range.
_PORTS = islice(cycle(range(10_000, 20_000)), os.getpid() * 997 % 10_000, None)
_ONE_AT_A_TIME = Lock()


def own_port() -> int:
    """Return a free port that no other worker of this process gets soon."""
    with _ONE_AT_A_TIME:
        return next(port for port in _PORTS if is_free(port))


class Worker:
    """One process. `patch` names a fault of `tests.support.faulty_worker` to run with, as `NAME` or `NAME:COUNT`."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        patch: str | None = None,
        launch: Launch = fork,
        options: Sequence[str] = (),
    ) -> None:
        self.port = own_port()
        name = f"worker-{self.port}"
        self.log = folder / f"{name}.log"
        config = folder / f"{name}.yaml"
        config.write_text(json.dumps(settings | {"http_port": self.port, "log_format": "json"}))
        self.process = launch(patch, config, self.log, options)

    def get(self, path: str) -> tuple[int, str]:
        """Return (status, body) from the worker's HTTP; (0, "") when it does not answer."""
        return get(self.port, path)

    def readings(self) -> WorkerReadings:
        """Return a summary of its metrics."""
        return parse(self.get("/metrics")[1])

    def wait_ready(self) -> "Worker":
        """Return when /readyz is 200."""
        wait_until(lambda: self.get("/readyz")[0] == 200 or self.process.poll() is not None, 40, "a ready worker")
        assert self.process.poll() is None, self.words()
        return self

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 90) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def words(self) -> str:
        """Return its whole log."""
        return self.log.read_text(errors="replace")


class Shop:
    """A topic, a group and an ERP database of a test's own, and the workers between them."""

    def __init__(self, folder: Path, topics: Topics, topic: str, sink_url: str, **settings: Any) -> None:
        self.folder = folder
        self.topics = topics
        self.topic = topic
        self.dead_letter_topic = f"{topic}.dlq"
        self.group = f"{topic}.group"
        self.url = sink_url
        self.workers: list[Worker] = []
        url, _, password = split_password(sink_url)
        self.settings: dict[str, Any] = {
            "broker": topics.bootstrap,
            "topic": topic,
            "dead_letter_topic": self.dead_letter_topic,
            "parked_topic": f"{topic}.parked",
            "audit_topic": f"{topic}.dlq.audit",
            "group": self.group,
            "sink_url": url,
            "sink_password": password,
            "apply_migrations": True,
            "dead_letter_budget": {"ratio": 1, "in_a_row": None},
            "session_seconds": 2,  # so that the partitions of a killed worker move soon
            **settings,
        }
        self.engine = create_engine(sink_url, poolclass=NullPool)

    def start(
        self, patch: str | None = None, options: Sequence[str] = (), launch: Launch = fork, **settings: Any
    ) -> Worker:
        """Start a worker. The shop kills it at the end of the test at the latest."""
        worker = Worker(self.folder, self.settings | settings, patch, launch, options)
        self.workers.append(worker)
        return worker

    def send(self, *values: bytes | None, key: bytes | None = None, partition: int = -1) -> list[tuple[int, int]]:
        """Send records to the topic."""
        return self.topics.produce(self.topic, [(key, value, []) for value in values], partition=partition)

    def wait_drained(self, seconds: float = 120) -> None:
        """Return when the group has committed everything in the topic."""

        def drained() -> bool:
            dead = [worker for worker in self.workers if worker.process.poll() not in (None, 0, -9, -15)]
            assert not dead, dead[0].words()
            return self.topics.lag(self.group, self.topic) == 0

        wait_until(drained, seconds, f"lag 0 of {self.group}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return rows straight from the ERP's tables."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def execute(self, *statements: str) -> None:
        """Change the ERP's tables behind the sink's back."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def event_ids(self) -> list[str]:
        """Return the event ids of all documents, sorted; a doubled document would appear twice."""
        return [row[0] for row in self.query("SELECT event_id FROM documents ORDER BY event_id")]

    def dead_letters(self) -> list[Record]:
        """Return all dead letters."""
        return self.topics.records(self.dead_letter_topic)

    def close(self) -> None:
        """Kill the workers that still run."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        self.engine.dispose()


@contextmanager
def open_shop(
    folder: Path, topics: Topics, topic: str, sink_url: str, partitions: int = 4, **settings: Any
) -> Iterator[Shop]:
    """Open a shop whose topic exists."""
    topics.create_topic(topic, partitions, {"max.message.bytes": str(16 * 2**20)})
    shop = Shop(folder, topics, topic, sink_url, **settings)
    try:
        yield shop
    finally:
        shop.close()


def split_password(url: str) -> tuple[str, str, str | None]:
    """Return (URL as users write it: plain scheme, no password, user, password)."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    plain = parsed.set(drivername=parsed.drivername.split("+")[0], password=None)
    if parsed.password is None:
        return plain.render_as_string(), parsed.username or "", None
    bare = plain._replace(password=None)
    return bare.render_as_string(hide_password=False), parsed.username or "", str(parsed.password)
