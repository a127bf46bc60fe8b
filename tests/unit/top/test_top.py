"""`tillstream top` on real endpoints, as workers serve them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ops.cli import program
from ops.top.commands import address_of, addresses
from ops.top.reading import WorkerReading, rate, read_workers, reading_of
from ops.top.screen import TopView
from ops.worker.process import free_port
from streams.metrics import OTHER_STORES, WorkerMetrics
from streams.settings import Settings, SettingsError
from streams.worker.health import HealthServer
from streams.worker.state import WorkerState


class Worker:
    """A worker's metrics and state, served as a worker serves them."""

    def __init__(self) -> None:
        self.metrics = WorkerMetrics()
        self.metrics.sink_up.set(1)
        self.state = WorkerState(time.monotonic, recovered=lambda: True)
        self.server = HealthServer("127.0.0.1", 0, self.metrics.registry, self.state)
        self.url = f"http://127.0.0.1:{self.server.port}"

    def close(self) -> None:
        self.server.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with closing(Worker()) as made:
        yield made


@pytest.fixture
def workers(worker: Worker) -> Iterator[list[Worker]]:
    with closing(Worker()) as another:
        yield [worker, another]


@contextmanager
def other_server(status: int, body: bytes) -> Iterator[str]:
    """Something that is no worker: answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def top(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["top", "--every", "0.2", *arguments])


def top_json(*arguments: str) -> Any:
    return json.loads(top("--json", *arguments).stdout)


def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


def test_worker_that_is_well_is_ready_and_exit_code_is_0(worker: Worker) -> None:
    done = top("--json", worker.url)
    assert done.exit_code == 0
    output = json.loads(done.stdout)
    assert output["ready"]
    assert output["workers"][0] | {"url": ""} == {
        "url": "",
        "answers": True,
        "ready": True,
        "reasons": [],
        "warnings": [],
        "sink_up": True,
        "held": False,
        "partitions": 0,
        "lag_records": 0,
        "lag_seconds": 0.0,
        "events": 0,
        "events_per_second": 0.0,
        "duplicates": {},
        "dead_letters": {},
        "last_progress": None,
    }


def test_all_that_a_worker_says_is_read(worker: Worker) -> None:
    metrics = worker.metrics
    metrics.delivered.inc(90)
    metrics.duplicates.labels("window").inc(5)
    metrics.duplicates.labels("sink").inc(2)
    metrics.rejected.labels("unknown_store").inc(3)
    metrics.noted.labels("day_close").inc()
    metrics.note_lags({0: 30, 3: 12})
    metrics.lag_seconds.set(7.5)
    metrics.last_progress.set(1_750_000_000)
    metrics.partitions.set(2)
    metrics.held.set(1)
    metrics.sink_up.set(0)
    metrics.note_store("S001", 1_750_000_000.0)
    (reading,) = read_workers([worker.url])
    assert reading == WorkerReading(
        worker.url,
        reading.moment,
        partitions=2,
        lag_records=42,
        lag_seconds=7.5,
        events=101,
        duplicates={"window": 5, "sink": 2},
        dead_letters={"unknown_store": 3},
        sink_up=False,
        held=True,
        last_progress=1_750_000_000.0,
        newest_by_store={"S001": 1_750_000_000.0},
    )


def test_every_metric_that_is_read_is_one_that_workers_have(worker: Worker) -> None:
    source = (Path(__file__).parents[3] / "ops" / "top" / "reading.py").read_text()
    read = set(re.findall(r'"(tillstream_\w+)"', source))
    has = {metric.name for metric in worker.metrics.registry.collect()}
    assert read
    assert {name.removesuffix("_total") for name in read} <= has


def test_worker_that_is_not_ready_says_why_and_exit_code_is_1(workers: list[Worker]) -> None:
    well, ill = workers
    ill.state.pause("too many dead letters")
    ill.metrics.held.set(1)
    done = top("--once", well.url, ill.url)
    assert done.exit_code == 1
    assert "held: too many dead letters" in done.stdout
    assert re.search(r"all +1 of 2", done.stdout)
    output = top_json(well.url, ill.url)
    assert [entry["ready"] for entry in output["workers"]] == [True, False]
    assert output["workers"][1]["reasons"] == ["held: too many dead letters"]


def test_causes_are_shown_in_order_the_broker_before_the_sink_before_the_dead_letter_topic(worker: Worker) -> None:
    worker.state.troubles = lambda: ["sink: connection: refused", "dead-letter topic d: does not confirm for 5 s"]
    worker.state.broker_down("no Kafka broker answers at k:9092")
    shown = top("--once", worker.url).stdout
    places = [shown.index(cause) for cause in ("no Kafka broker", "sink: connection", "dead-letter topic")]
    assert places == sorted(places)
    assert top_json(worker.url)["workers"][0]["reasons"] == worker.state.causes()


def test_warning_of_a_ready_worker_is_shown_and_exit_code_is_0(worker: Worker) -> None:
    worker.state.warn("clock", "this machine's clock is 7200 s ahead of the Kafka broker's")
    done = top("--once", worker.url)
    assert "clock is 7200 s ahead" in done.stdout.replace("\n", " ")
    assert done.exit_code == 0
    assert top_json(worker.url)["workers"][0]["warnings"] == list(worker.state.warnings.values())


def test_worker_that_does_not_answer_is_not_ready(worker: Worker) -> None:
    done = top("--json", worker.url, nobody())
    assert done.exit_code == 1
    silent = json.loads(done.stdout)["workers"][1]
    assert not silent["answers"]
    assert "refused" in silent["reasons"][0]


def test_exit_code_is_3_when_none_answers() -> None:
    done = top("--once", nobody(), nobody())
    assert done.exit_code == 3
    assert done.stdout.count("does not answer") == 2
    assert top_json(nobody())["total"]["lag_seconds"] is None


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"no"), (200, b"<html>"), (200, b"go_goroutines 12\n"), (200, b"tillstream_events_delivered_total 1\n")],
    ids=["not found", "no metrics", "another program's metrics", "no readyz"],
)
def test_another_server_is_reported_as_no_worker(status: int, body: bytes) -> None:
    with other_server(status, body) as url:
        done = top("--once", url)
    assert done.exit_code == 3
    assert "no Tillstream worker" in done.stdout


def test_totals_add_up_workers_and_the_lag_in_seconds_is_the_worst(workers: list[Worker]) -> None:
    for number, each in enumerate(workers, 1):
        each.metrics.delivered.inc(10 * number)
        each.metrics.duplicates.labels("sink").inc(number)
        each.metrics.rejected.labels("empty_receipt").inc(number)
        each.metrics.note_lags({number: 100 * number})
        each.metrics.lag_seconds.set(number)
        each.metrics.partitions.set(2)
    total = top_json(*(each.url for each in workers))["total"]
    assert total == {
        "workers": 2,
        "answering": 2,
        "ready": 2,
        "partitions": 4,
        "lag_records": 300,
        "lag_seconds": 2.0,
        "events": 36,
        "events_per_second": 0.0,
        "duplicates": 3,
        "dead_letters": 3,
    }


def test_events_a_second_are_the_difference_of_two_readings() -> None:
    before, now = WorkerReading("u", 10.0, events=100), WorkerReading("u", 12.0, events=350)
    assert rate(now, before) == 125
    assert rate(now, None) is None


def test_rate_of_a_worker_that_started_again_is_not_known() -> None:
    assert rate(WorkerReading("u", 12.0, events=3), WorkerReading("u", 10.0, events=100)) is None
    assert rate(WorkerReading("u", 12.0, silent="gone"), WorkerReading("u", 10.0, events=100)) is None


def test_stalest_stores_come_first_by_the_newest_event_that_any_worker_has(workers: list[Worker]) -> None:
    now = time.time()
    first, second = workers
    first.metrics.note_store("moved", now - 5000)
    second.metrics.note_store("moved", now - 10)
    second.metrics.note_store("stale", now - 900)
    first.metrics.note_store("fresh", now - 1)
    first.metrics.freshness.labels(OTHER_STORES).set(now - 9000)
    output = top_json("--stores", "2", first.url, second.url)["stalest_stores"]
    assert [entry["store"] for entry in output] == ["stale", "moved"]
    assert 900 <= output[0]["age_seconds"] < 960
    shown = top("--once", first.url, second.url).stdout
    assert shown.index("stale ") < shown.index("moved") < shown.index("fresh")
    assert re.search(r"stale .* 15 min \d+ s", shown)


def test_store_whose_name_a_terminal_would_obey_is_shown_escaped(worker: Worker) -> None:
    worker.metrics.note_store("\x1b]0;evil\x07", time.time())
    output = CliRunner().invoke(program, ["top", "--once", worker.url]).output
    assert r"\x1b]0;evil\x07" in output
    assert not {"\x1b", "\x07"} & set(output)


def test_stores_that_are_closed_come_last(worker: Worker) -> None:
    now = time.time()
    worker.metrics.note_open({"closed": False, "open": True, "silent": True})
    for store, age in {"closed": 50_000, "open": 900, "no-hours": 10}.items():
        worker.metrics.note_store(store, now - age)
    output = top_json(worker.url)["stalest_stores"]
    assert [(entry["store"], entry["open"]) for entry in output] == [
        ("open", True),
        ("no-hours", None),
        ("closed", False),
    ]
    assert "closed closed" in top("--once", worker.url).stdout


def test_without_urls_the_worker_of_the_settings_is_asked(worker: Worker, tmp_path: Path) -> None:
    config = tmp_path / "shop.yaml"
    config.write_text(f"http_host: 0.0.0.0\nhttp_port: {worker.server.port}\n")
    output = top_json("--config", str(config))
    assert output["workers"][0]["url"] == worker.url


def test_workers_of_one_command_are_at_ports_in_a_row() -> None:
    assert addresses(Settings(http_port=9464), 2) == ["http://127.0.0.1:9464", "http://127.0.0.1:9465"]
    assert addresses(Settings(http_host="::1"), 1) == ["http://[::1]:9464"]


def test_any_free_port_is_no_address() -> None:
    with pytest.raises(SettingsError, match="http_port is 0"):
        addresses(Settings(http_port=0), 1)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("till-1:9464", "http://till-1:9464"),
        ("http://10.0.0.7:9464/", "http://10.0.0.7:9464"),
        ("https://shop.example/metrics", "https://shop.example"),
        ("[::1]:9464", "http://[::1]:9464"),
    ],
)
def test_address_may_be_written_as_people_do(written: str, meant: str) -> None:
    assert address_of(written) == meant


@pytest.mark.parametrize("written", ["", "file:///etc/passwd", "http://", "a b", "http://user:secret@host:1"])
def test_bad_address_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter):
        address_of(written)


def test_urls_and_workers_exclude_each_other() -> None:
    assert top("--workers", "2", "host:1").exit_code == 2


def test_output_that_is_no_terminal_has_no_colour_and_ends(worker: Worker) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "top", "--every", "0.2", worker.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "\x1b" not in done.stdout
    assert f"127.0.0.1:{worker.server.port}" in done.stdout


def test_terminal_is_kept_up_to_date_until_ctrl_c(worker: Worker) -> None:
    control, terminal = pty.openpty()

    def at_terminal() -> None:
        os.login_tty(terminal)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs ignore

    command = [sys.executable, "-m", "ops.cli", "top", "--every", "0.2", worker.url]
    # A terminal of 140 columns; a session of its own makes Ctrl-C reach it alone.
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "COLUMNS": "140", "TERM": "xterm"},
        preexec_fn=at_terminal,
    )
    os.close(terminal)
    try:
        read_until(control, b"yes")
        worker.state.pause("wait for me")
        worker.metrics.held.set(1)
        read_until(control, b"wait for me")
        os.write(control, b"\x03")
        read_until(control, None)
        assert process.wait(30) == 1  # what was seen last
    finally:
        process.kill()
        process.wait()
        os.close(control)


def read_until(terminal: int, sign: bytes | None) -> None:
    """Reads until the sign comes, for a minute at most; with None, until the other end is closed."""
    seen = b""
    deadline = time.monotonic() + 60
    while sign is None or sign not in seen:
        assert time.monotonic() < deadline, seen[-4000:]
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            assert sign is None, seen
            return
        seen += piece


def test_view_without_workers_has_no_rate() -> None:
    view = TopView([WorkerReading("u", 1.0, silent="gone")], {}, 0.0)
    assert view.total_rate() is None
    assert view.answering == []


def test_reading_of_a_fresh_worker_has_made_no_progress(worker: Worker) -> None:
    (reading,) = read_workers([worker.url])
    assert reading.last_progress is None
    assert reading_of("u", 0.0, "tillstream_events_delivered_total 1\n", []).ready
