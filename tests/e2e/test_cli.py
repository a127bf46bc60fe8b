"""The program as people use it: its output and its exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.worker.process import free_port
from tests.support.kafka import Kafka
from tests.support.nursery import Completed, run
from tests.support.wait import wait_until
from tests.support.workers import get, split_password


def tillstream(*arguments: str, folder: Path, **settings: str) -> Completed:
    """Run the program without a terminal; `settings` go into the environment as TILLSTREAM_…"""
    environment = {f"TILLSTREAM_{name.upper()}": value for name, value in settings.items()}
    return run(*arguments, folder=folder, environment=environment)


def error_text(result: Completed) -> str:
    assert "Traceback" not in result.stderr + result.stdout
    return result.stderr


@pytest.mark.parametrize("command", ["run", "check", "demo", "tills"])
def test_every_command_has_help_with_examples(tmp_path: Path, command: str) -> None:
    result = tillstream(command, "--help", folder=tmp_path)
    assert result.returncode == 0
    assert "Example" in result.stdout


def test_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    result = tillstream("run", "--brokre", "x", folder=tmp_path)
    assert result.returncode == 2
    assert "--broker" in error_text(result)


@pytest.mark.parametrize("command", ["run", "check"])
def test_wrong_setting_is_wrong_usage(tmp_path: Path, command: str) -> None:
    (tmp_path / "tillstream.yaml").write_text("window_hours: many\n")
    result = tillstream(command, folder=tmp_path)
    assert result.returncode == 2
    assert "window_hours: Input should be a valid number" in error_text(result)


def test_broker_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    result = tillstream("run", "--broker", f"127.0.0.1:{free_port()}", folder=tmp_path)
    assert result.returncode == 3
    assert error_text(result).startswith("tillstream: no Kafka broker answers at 127.0.0.1:")
    assert len(error_text(result).strip().splitlines()) == 1


def test_missing_topic_is_reported_with_advice(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    result = tillstream("run", "--broker", kafka.bootstrap, folder=tmp_path, topic=topic_name)
    assert result.returncode == 2
    assert f"the topic {topic_name} does not exist" in error_text(result)


def test_database_that_does_not_answer_is_unreachable(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name)
    sink = f"postgresql://erp@127.0.0.1:{free_port()}/erp"
    result = tillstream(
        "run", "--broker", kafka.bootstrap, "--sink", sink, folder=tmp_path, topic=topic_name, sink_password="hunter2"
    )
    assert result.returncode == 3
    assert "hunter2" not in error_text(result)


@pytest.mark.parametrize(
    "sink",
    [
        "mysql://erp@db/erp",
        "sqlite:///no/such/folder/erp.sqlite",
        "erp",
        "postgresql://erp@db:port/erp",
        "postgresql://erp@db/erp?connect_timeout=soon",
        "postgresql://erp:hunter2@db/erp",
    ],
)
def test_impossible_sink_is_wrong_usage(tmp_path: Path, kafka: Kafka, topic_name: str, sink: str) -> None:
    kafka.create_topic(topic_name)
    result = tillstream("run", "--broker", kafka.bootstrap, "--sink", sink, folder=tmp_path, topic=topic_name)
    assert result.returncode == 2
    assert error_text(result)
    assert "hunter2" not in error_text(result)


def test_http_port_in_use_is_reported(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    import socket

    kafka.create_topic(topic_name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = tillstream(
            "run",
            "--apply",
            "--broker",
            kafka.bootstrap,
            folder=tmp_path,
            topic=topic_name,
            dead_letter_topic=f"{topic_name}.dlq",
            group=topic_name,
            http_port=port,
        )
    assert result.returncode == 2
    assert f"127.0.0.1:{port}: Address already in use; set http_host and http_port" in error_text(result)


def test_check_finds_missing_topics_and_apply_creates_them(
    tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str
) -> None:
    url, _, password = split_password(postgres_url)
    settings = {
        "topic": topic_name,
        "dead_letter_topic": f"{topic_name}.dlq",
        "group": topic_name,
        "broker": kafka.bootstrap,
        "sink_url": url,
        "sink_password": password or "",
        "create_topics": "false",
        "partitions": "3",
    }
    missing = tillstream("check", "--json", folder=tmp_path, **settings)
    assert missing.returncode == 2
    wrong = [finding for finding in json.loads(missing.stdout)["findings"] if not finding["ok"]]
    assert any(topic_name in finding["subject"] for finding in wrong)
    assert all(finding["advice"] for finding in wrong)

    refused = tillstream("run", folder=tmp_path, **settings)
    assert refused.returncode == 2

    applied = tillstream("check", "--apply", folder=tmp_path, **settings)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert len(kafka.admin.list_topics(timeout=10).topics[topic_name].partitions) == 3
    assert "wrong" not in applied.stdout
    assert "\x1b" not in applied.stdout  # no colours when piped
    assert json.loads(tillstream("check", "--json", folder=tmp_path, **settings).stdout)["ok"] is True


def test_check_finds_a_dead_letter_topic_of_smaller_records(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    kafka.create_topic(topic_name)
    kafka.create_topic(f"{topic_name}.dlq", config={"max.message.bytes": "1000000"})
    settings = {"topic": topic_name, "dead_letter_topic": f"{topic_name}.dlq", "group": topic_name}
    result = tillstream("check", "--json", "--broker", kafka.bootstrap, folder=tmp_path, **settings)
    assert result.returncode == 2
    (wrong,) = [finding for finding in json.loads(result.stdout)["findings"] if finding["subject"] == "record size"]
    assert "larger bad records are truncated there" in wrong["advice"]


def test_demo_without_a_terminal_accounts_for_every_record_and_reports_the_unbooked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ops.cli", "demo", "--seconds", "6", "--rate", "150"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Balanced" not in result.stdout  # the tills send faulty records on purpose
    (ending,) = re.findall(r"^Every record is accounted for\. .*$", result.stdout, re.MULTILINE)
    letters = re.search(r"\+ dead letters +([0-9]+)", result.stdout)
    assert letters is not None
    assert f"Books agree, to the cent. NOT BOOKED: {letters[1]} dead letter" in ending
    assert "embedded broker" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_demo_that_is_killed_leaves_no_worker_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ops.cli", "demo", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path)}) as demo:
        assert demo.stdout is not None
        while b"selling" not in demo.stdout.readline():
            assert demo.poll() is None
        (settings,) = tmp_path.glob("tillstream-demo-*/worker.yaml")
        port = json.loads(settings.read_text())["http_port"]
        assert get(port, "/healthz")[0] == 200
        demo.kill()
    wait_until(lambda: get(port, "/healthz")[0] == 0, 60, "the worker to end")


@pytest.mark.parametrize(
    "wrong", [["--data", "completejourney", "--day", "2017-13-99"], ["--rate", "15000"], ["--sink", "mysql://db/erp"]]
)
def test_impossible_demo_is_wrong_usage(tmp_path: Path, wrong: list[str]) -> None:
    result = tillstream("demo", *wrong, folder=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert error_text(result).startswith("tillstream: ")


@pytest.mark.faults_long
def test_demo_plays_a_real_day_and_reports_it_in_json(tmp_path: Path) -> None:
    result = tillstream(
        "demo", "--data", "completejourney", "--day", "2017-12-13", "--speed-up", "20000", "--json", folder=tmp_path
    )
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads(result.stdout)
    assert (summary["accounted"], summary["balanced"]) == (True, False)
    assert summary["dead_letters_by_reason"] == {"line_mismatch": 1}
    assert summary["sent"] == summary["delivered"] + summary["duplicates"] + summary["dead_letters"]
    assert summary["money"]["tills"] == summary["money"]["erp"]


@pytest.mark.faults_long
def test_demo_sells_into_a_real_kafka_and_a_real_database(tmp_path: Path, kafka: Kafka, postgres_url: str) -> None:
    url, _, password = split_password(postgres_url)
    for _ in range(2):  # the second finds the documents of the first
        arguments = ["demo", "--seconds", "4", "--rate", "800", "--json", "--broker", kafka.bootstrap, "--sink", url]
        result = tillstream(*arguments, folder=tmp_path, sink_password=password or "")
        assert result.returncode == 0, result.stdout + result.stderr
        assert json.loads(result.stdout)["embedded_broker"] is False
    assert not [name for name in kafka.admin.list_topics(timeout=10).topics if name.startswith("tillstream.demo.")]
