"""Runs a worker in a process of its own: starts it, reads its metrics, stops it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.worker.metrics_page import MetricsPage


class WorkerDied(Exception):
    """The worker ended by itself, with exit code `code`; the message has the end of its output."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class WorkerReadings:
    """A summary of the worker's metrics."""

    delivered: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    lag: int = 0
    latency: list[tuple[float, float]] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """The number of records with an outcome."""
        return self.delivered + sum(self.duplicates.values()) + sum(self.rejected.values()) + self.skipped

    def latency_at(self, share: float) -> float | None:
        """Return the bucket bound (seconds) that this share of the deliveries stayed under; None before the first."""
        total = self.latency[-1][1] if self.latency else 0
        return next((bound for bound, count in self.latency if count >= share * total), None) if total else None


class WorkerProcess:
    """`tillstream run` with `settings` (names as in tillstream.yaml). It takes only secrets from the environment.

    It drains when this process ends, even by `kill -9`.
    """

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "worker.log"
        config = folder / "worker.yaml"
        config.write_text(json.dumps({**settings, "http_port": self.port, "log_format": "json"}))  # JSON is YAML
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TILLSTREAM_") or name.startswith(("TILLSTREAM_KAFKA__", "TILLSTREAM_SINK_PASSWORD"))
        }
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "ops.cli", "run", "--until-stdin-ends", "--config", str(config)]
            # In a process group of its own: Ctrl-C stops the tills first, and the worker once they are closed.
            self._process = subprocess.Popen(  # noqa: S603 (own program)
                command, stdin=subprocess.PIPE, stderr=log, stdout=log, env=environment, process_group=0
            )

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Return when the worker has its partitions. Raises WorkerDied."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._check_alive()
            if self._get("/readyz") is not None:
                return
            time.sleep(0.1)
        raise WorkerDied(f"the worker was not ready after {seconds:.0f} s\n{self._end_of_log()}", 3)

    def readings(self) -> WorkerReadings:
        """Return the worker's metrics now. Raises WorkerDied."""
        self._check_alive()
        text = self._get("/metrics")
        return parse(text) if text is not None else WorkerReadings()

    def held(self) -> str | None:
        """Return why the worker has paused, if it has."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2):
                return None
        except urllib.error.HTTPError as error:
            with error:
                reasons: list[str] = json.loads(error.read())["reasons"]
        except (urllib.error.URLError, OSError):
            return None
        return next((reason for reason in reasons if reason.startswith("held: ")), None)

    def stop(self) -> int:
        """Drain and stop the worker. Return its exit code."""
        with self._process as process:  # which closes its standard input
            process.terminate()
            try:
                return process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def _check_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            raise WorkerDied(f"the worker ended with exit code {code}: {self._end_of_log()}", code)

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None


def parse(text: str) -> WorkerReadings:
    """Return the readings from Prometheus' text format."""
    samples = MetricsPage(text)
    return WorkerReadings(
        delivered=int(samples.total("tillstream_events_delivered_total")),
        duplicates=samples.counts("tillstream_events_duplicate_total", "layer"),
        rejected=samples.counts("tillstream_events_rejected_total", "reason"),
        skipped=int(samples.total("tillstream_events_skipped_total")),
        lag=int(samples.total("tillstream_lag_records")),
        latency=[(float(le), n) for le, n in samples.by("tillstream_event_to_commit_seconds_bucket", "le").items()],
    )


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
