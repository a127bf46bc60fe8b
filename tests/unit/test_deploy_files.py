"""What containers are made of: valid, pinned, closed to the outside, and in step with the rest of the project."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kafka.distribution import kafka_version
from streams.settings import Settings
from tests.support.deploy import LONGEST_END

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TOOLS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_file_follows_the_compose_specification() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_dockerfile_has_no_complaint_from_hadolint() -> None:
    run(TOOLS / "hadolint", DOCKERFILE)


def test_ports_are_bound_to_this_machine_alone(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_passwords_come_from_the_environment_and_must_be_there(services: dict[str, Any]) -> None:
    variables = [pair for service in services.values() for pair in service.get("environment", {}).items()]
    secrets = {name: value for name, value in variables if "PASSWORD" in name}
    assert secrets.keys() == {"POSTGRES_PASSWORD", "TILLSTREAM_SINK_PASSWORD"}
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in secrets.values())
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE.read_text())


def test_images_that_others_build_are_pinned(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    assert images
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", image) for image in images)


def test_containers_and_tests_use_the_same_kafka(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


def test_dependencies_are_awaited_until_they_are_ready(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, dependency in service.get("depends_on", {}).items():
            healthy = dependency["condition"] == "service_healthy" and "healthcheck" in services[name]
            assert healthy or dependency["condition"] == "service_completed_successfully"


def test_every_setting_that_compose_gives_is_one_that_tillstream_knows(services: dict[str, Any]) -> None:
    given = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name.removeprefix("TILLSTREAM_").lower() for name in given if name.startswith("TILLSTREAM_")}
    assert ours
    assert ours <= Settings.model_fields.keys()


def test_topic_that_compose_creates_is_the_one_tillstream_reads(services: dict[str, Any]) -> None:
    assert Settings.model_fields["topic"].default in services["topics"]["command"]


def test_two_workers_differ_in_their_port_alone(services: dict[str, Any]) -> None:
    first, second = services["worker-1"], services["worker-2"]
    assert first | {"ports": []} == second | {"ports": []}
    assert first["ports"] != second["ports"]
    assert first["networks"]["default"]["aliases"] == ["worker"]


def test_workers_begin_when_the_migration_is_done(services: dict[str, Any]) -> None:
    assert services["migrate"]["command"] == ["check", "--apply"]
    for name in ("worker-1", "worker-2"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert services[name]["environment"] == services["migrate"]["environment"]


def test_workers_have_the_time_to_drain(services: dict[str, Any]) -> None:
    for name in ("worker-1", "worker-2"):
        assert float(services[name]["stop_grace_period"].removesuffix("s")) >= LONGEST_END


def test_every_service_that_stays_has_a_health_check_or_says_why_not(services: dict[str, Any]) -> None:
    ours = {name for name, service in services.items() if "build" in service}  # the image brings one
    ends = {"topics"}
    without = {name for name, service in services.items() if "healthcheck" not in service}
    assert without <= ours | ends
    assert {name for name, s in services.items() if s.get("healthcheck", {}).get("disable")} == {"migrate", "tills"}


def test_what_is_mounted_from_here_is_there_and_read_only(services: dict[str, Any]) -> None:
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    ours = [mount for mount in mounts if mount.startswith((".", "/"))]
    assert len(ours) == 5
    assert all(mount.endswith(":ro") for mount in ours)
    root = Path(__file__).parents[2]
    assert [mount for mount in ours if not (root / mount.partition(":")[0]).exists()] == []


def test_prometheus_scrapes_both_workers_by_the_name_that_they_share(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found_by,) = job["dns_sd_configs"]
    aliases = [alias for name in ("worker-1", "worker-2") for alias in services[name]["networks"]["default"]["aliases"]]
    assert found_by["names"] * 2 == aliases
    assert found_by["port"] == Settings.model_fields["http_port"].default
    inside = [mount.split(":")[1] for mount in services["prometheus"]["volumes"]]
    assert {"/etc/prometheus/prometheus.yml", *config["rule_files"]} <= set(inside)


def test_grafana_asks_the_prometheus_of_compose(services: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((ROOT / "deploy/compose/datasources/prometheus.yml").read_text())["datasources"]
    assert "prometheus" in services
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_what_has_to_last_is_in_a_volume(services: dict[str, Any]) -> None:
    named = {mount.split(":")[0] for s in services.values() for mount in s.get("volumes", []) if mount[0] not in "./"}
    assert (
        named
        == yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
        == {
            "kafka",
            "postgres",
            "prometheus",
            "grafana",
        }
    )


def test_tillstream_runs_unprivileged_on_a_read_only_file_system(services: dict[str, Any]) -> None:
    for name in ("migrate", "worker-1", "worker-2", "tills"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert re.findall(r"^USER (\S+)", DOCKERFILE.read_text(), re.MULTILINE) == ["10001:10001"]


def test_image_is_built_from_what_dockerignore_lets_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for sources in copied for source in sources.split()} == allowed
    assert all((ROOT / source).exists() for source in allowed)


@contextmanager
def worker(status: int) -> Iterator[int]:
    """A worker whose /healthz answers `status`, and everything else 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_health_check_asks_healthz(status: int, code: int) -> None:
    (line,) = re.findall(r"^\s+CMD (\[\"python\".+\])$", DOCKERFILE.read_text(), re.MULTILINE)
    _, *arguments = json.loads(line)
    default = Settings.model_fields["http_port"].default
    with worker(status) as port:
        arguments = [argument.replace(str(default), str(port)) for argument in arguments]
        assert subprocess.run([sys.executable, *arguments], check=False).returncode == code


def test_health_check_fails_when_nobody_answers() -> None:
    (line,) = re.findall(r"^\s+CMD (\[\"python\".+\])$", DOCKERFILE.read_text(), re.MULTILINE)
    _, *arguments = json.loads(line)
    arguments = [argument.replace("9464", "1") for argument in arguments]
    assert subprocess.run([sys.executable, *arguments], stderr=subprocess.DEVNULL, check=False).returncode != 0
