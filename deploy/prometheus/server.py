"""A real Prometheus on this machine, with the project's own rules, on 127.0.0.1 only: for drills and tests.

Its binary is `prometheus` on PATH, or what TILLSTREAM_PROMETHEUS says; Debian's package of that name brings it.
"""

import json
import os
import re
import shutil
import signal
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from deploy.components import tool
from deploy.processes import HOST, Process, ServerError, free_port

RULES = Path(__file__).with_name("rules.yml")
JOB, SCHEDULES = "tillstream", "tillstream-schedules"
#: Seconds of one unit of PromQL's durations.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)([smhd])")


def binary() -> Path | None:
    """Prometheus, if it can be had here."""
    given = os.environ.get("TILLSTREAM_PROMETHEUS")
    return Path(given) if given else tool("prometheus")


def promtool() -> Path | None:
    """The tool that comes with it."""
    beside = binary()
    found = beside and shutil.which("promtool", path=beside.resolve().parent)
    return Path(found) if found else tool("promtool")


def seconds_of(duration: str) -> int:
    """The seconds of a duration of one unit, as rules.yml has them: 30s, 2m."""
    number, unit = _DURATION.fullmatch(duration).groups()  # type: ignore[union-attr]  # promtool has checked them
    return int(number) * _UNITS[unit]


def hurried(rules: dict[str, Any], times: float) -> dict[str, Any]:
    """The rules with all their durations (ranges, `for`) shorter; none is less than a second. Groups that are evaluated
    at an interval of their own are evaluated as the others.

    For what takes minutes to be seen in seconds. Numbers that are compared with stay as they are.
    """

    def shorter(text: str) -> str:
        return _DURATION.sub(lambda found: f"{max(1, round(int(found[1]) * _UNITS[found[2]] / times))}s", text)

    def rule(given: dict[str, Any]) -> dict[str, Any]:
        ranges = re.sub(r"\[\w+\]", lambda found: shorter(found[0]), given["expr"])
        return given | {"expr": ranges} | ({"for": shorter(given["for"])} if "for" in given else {})

    def group(given: dict[str, Any]) -> dict[str, Any]:
        return {"name": given["name"], "rules": [rule(each) for each in given["rules"]]}

    return rules if times == 1 else {"groups": [group(each) for each in rules["groups"]]}


class Prometheus:
    """One server that scrapes the workers at these ports as the job tillstream, and what keeps schedules at those as
    tillstream-schedules, in a folder that goes with it.

    It scrapes and evaluates every `every` seconds; `hurry` makes the durations of the rules shorter. Never outlives
    this process.
    """

    def __init__(
        self, ports: Sequence[int], schedules: Sequence[int] = (), *, every: float = 15, hurry: float = 1
    ) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="tillstream-prometheus-"))
        self.every = every
        self._process: Process | None = None
        often = f"{round(every * 1000)}ms"
        jobs = {JOB: ports, SCHEDULES: schedules}
        config = {
            "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{port}" for port in of_it]}]}
                for job, of_it in jobs.items()
            ],
        }
        rules = hurried(yaml.safe_load(RULES.read_text()), hurry)
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (self.folder / "rules.yml").write_text(yaml.safe_dump(rules, sort_keys=False))

    def start(self, timeout: float = 30) -> Self:
        """Returns when it answers. Raises ServerError."""
        program = binary()
        if program is None:
            raise ServerError("no Prometheus: install Debian's package prometheus, or set TILLSTREAM_PROMETHEUS")
        command: list[str | Path] = [
            program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--log.level=warn",
        ]
        log = self.folder / "prometheus.log"
        self._process = Process("Prometheus", command, log=log, guarded=True, remove=self.folder)
        self._process.await_start(self._ready, timeout)
        return self

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series that the expression gives now, or at that time: `metric` with its labels, and `value`.

        Raises ServerError with what Prometheus says about the expression.
        """
        asked: dict[str, Any] = {"query": expression} | ({"time": at} if at is not None else {})
        result: list[dict[str, Any]] = self._get("query", asked)["result"]
        return result

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The same over a time: `values`, each of a moment and a number as text. Raises ServerError."""
        asked = {"query": expression, "start": start, "end": end, "step": step}
        result: list[dict[str, Any]] = self._get("query_range", asked)["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts", {})["alerts"]
        return found

    def close(self) -> None:
        """Ends it and removes its data."""
        if self._process:
            self._process.end(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def _get(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{HOST}:{self.port}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(f"asking Prometheus for {asked}: {error.read().decode()}") from None
        return data
