"""A real Kafka on this machine, without Docker: one node, broker and controller at once, on 127.0.0.1 only.

    python deploy/kafka/broker.py start [--port 9092] [--data DIR]
    python deploy/kafka/broker.py status
    python deploy/kafka/broker.py stop

Needs Java 17 or newer, and Maven the first time. For development, tests and benchmarks.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script's path is its own folder only

from deploy.kafka import distribution
from deploy.processes import HOST, Process, ServerError, accepts, free_port, is_free

#: The first compiler only: half a second less to start, and fewer threads next to a test on a small machine.
QUICK_START = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

_LOGGER = "-Dorg.slf4j.simpleLogger."
_PLAIN_JAVA = (
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
    f"{_LOGGER}defaultLogLevel=warn",
    f"{_LOGGER}showDateTime=true",
    f"{_LOGGER}dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)

_CLUSTER_ID = "dGlsbHN0cmVhbS10ZXN0cw"
_MEGABYTE = 2**20

#: What makes one small node quick. Listeners and folders are not among them.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(16 * _MEGABYTE),
    "replica.fetch.max.bytes": str(16 * _MEGABYTE),
    "log.retention.ms": "-1",  # imported sales are old by their own time stamps, and would go at once
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(8 * _MEGABYTE),  # the default of 128 MiB is a quarter of the heap
    # After a kill the new life is let in when the old one's session has run out; the default is 9 s.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",  # so that tests of a lost consumer need not wait long
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}


class Broker:
    """One Kafka node. `start` after `stop` or `kill` comes back on the same port with the same data.

    Without `data` it works in a temporary folder that `close` (or the end of a `with`) removes. A guarded
    broker never outlives this process; `guarded=False` lets it run on. `settings` are Kafka's, and come over
    those of this file; a change counts from the next start on.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        data: Path | None = None,
        guarded: bool = True,
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = QUICK_START,
    ) -> None:
        self.port = port or free_port()
        self._controller_port = free_port()
        self._temporary = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="tillstream-kafka-"))
        self.log = self.data / "broker.log"
        self._guarded = guarded
        self.settings = dict(settings or {})
        self._java_options = list(java_options)
        self._process: Process | None = None

    @property
    def bootstrap(self) -> str:
        """host:port, for `bootstrap.servers`."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the broker while it runs."""
        return self._process.pid if self._process and self._process.alive else None

    def start(self, timeout: float = 60) -> Self:
        """Returns when the broker takes connections. Raises ServerError, with the end of the log."""
        if self.pid is not None:
            raise ServerError(f"this broker is running already, at {self.bootstrap}")
        self.stop()  # whoever else ended it: its guard must not take the data of its next life
        if not is_free(self.port):
            raise ServerError(f"port {self.port} of {HOST} is in use; name another, or none for any free one")
        self.data.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties()
        if not (self.data / "logs" / "meta.properties").exists():
            self._format(properties)
        self._process = Process(
            "Kafka",
            self._java("kafka.Kafka", properties),
            log=self.log,
            guarded=self._guarded,
            remove=self.data if self._temporary else None,
        )
        # Kafka opens the port as the last thing, when it has caught up with its own log.
        self._process.await_start(lambda: accepts(self.port), timeout)
        return self

    def stop(self, timeout: float = 30) -> None:
        """Shuts down in order (SIGTERM) and waits for the end. The data stay."""
        if self._process:
            self._process.end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """Ends the broker as a power cut would (SIGKILL). The data stay."""
        if self._process:
            self._process.kill()

    def pause(self) -> None:
        """Freezes the broker (SIGSTOP): connections stay open and nothing answers, until `resume`."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The opposite of `pause`."""
        if self._process:
            self._process.signal(signal.SIGCONT)

    def close(self) -> None:
        """Stops, and removes the data if their folder was temporary."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write_properties(self) -> Path:
        controller = f"{HOST}:{self._controller_port}"
        own = {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.data / "logs"),
        }
        path = self.data / "server.properties"
        settings = SETTINGS | own | self.settings
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _java(self, program: str, *arguments: str | Path) -> list[str]:
        executable = distribution.java()
        classpath = os.pathsep.join(str(jar) for jar in distribution.jars())
        options = [*self._java_options, *_PLAIN_JAVA, "-cp", classpath]
        return [executable, *options, program, *map(str, arguments)]

    def _format(self, properties: Path) -> None:
        options = ("--cluster-id", _CLUSTER_ID, "--config", properties)
        command = self._java("kafka.tools.StorageTool", "format", *options)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"formatting Kafka's storage failed:\n{(done.stdout + done.stderr)[-3000:]}")


if __name__ == "__main__":
    from deploy.kafka.command import main

    sys.exit(main())
