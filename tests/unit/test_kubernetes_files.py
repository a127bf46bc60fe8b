"""The facts that matter in deploy/k8s, without a cluster or its tools (`deploy/k8s/validate.py` uses those)."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli import program
from streams.settings import Settings, load_settings
from tests.support.deploy import LONGEST_END

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
OVERLAYS = sorted((K8S / "overlays").iterdir())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
SECRETS = "/run/secrets/tillstream"
NAME = "app.kubernetes.io/name"
STEP = {"tillstream/step": "prepare"}

overlays = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)


def kustomization(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def objects() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object, and the file that it is in."""
    for path in sorted(K8S.rglob("*.yaml")):
        if path.name not in ("kustomization.yaml", "tillstream.yaml"):
            yield from ((path, each) for each in yaml.safe_load_all(path.read_text()))


def find(kind: str) -> dict[str, Any]:
    (found,) = [each for _, each in objects() if each["kind"] == kind]
    return found


def labels_of(thing: dict[str, Any]) -> dict[str, str]:
    """The labels of an object, with those that the base gives to all of its own."""
    (ours,) = kustomization(K8S / "base")["labels"]
    return ours["pairs"] | thing["metadata"].get("labels", {})


def pod(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = find(kind)["spec"]["template"]["spec"]
    return found


def container(kind: str) -> dict[str, Any]:
    (only,) = pod(kind)["containers"]
    assert isinstance(only, dict)
    return only


def settings_of(overlay: Path, tmp_path: Path) -> Settings:
    """The overlay's settings, with secrets that are there."""
    for name in set(re.findall(rf"{SECRETS}/([\w.-]+)", (overlay / "tillstream.yaml").read_text())):
        (tmp_path / name).write_text("secret")
    config = tmp_path / "tillstream.yaml"
    config.write_text((overlay / "tillstream.yaml").read_text().replace(SECRETS, str(tmp_path)))
    return load_settings(config)


pods = pytest.mark.parametrize("kind", ["Deployment", "Job"])


def test_every_file_is_part_of_a_kustomization() -> None:
    named = {K8S / "overlays" / overlay.name / "tillstream.yaml" for overlay in OVERLAYS}
    for path in K8S.rglob("kustomization.yaml"):
        made = kustomization(path.parent)
        targets = [path.parent / target for target in [*made["resources"], *made.get("components", [])]]
        assert all(target.exists() for target in targets), path
        named |= {target.resolve() for target in targets}
    there = {path.resolve() for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert there <= named


def test_probes_ask_what_the_worker_answers() -> None:
    worker = container("Deployment")
    paths = {name: worker[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert {worker[f"{name}Probe"]["httpGet"]["port"] for name in paths} == {"http"}


@overlays
def test_ports_are_the_one_that_the_settings_name(overlay: Path, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    (port,) = container("Deployment")["ports"]
    (of_service,) = find("Service")["spec"]["ports"]
    (ingress,) = find("NetworkPolicy")["spec"]["ingress"]
    assert settings.http_host == "0.0.0.0"
    assert port == {"name": "http", "containerPort": settings.http_port}
    assert of_service == {"name": "http", "port": settings.http_port, "targetPort": "http"}
    assert ingress["ports"] == [{"protocol": "TCP", "port": settings.http_port}]
    (endpoint,) = find("ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


@overlays
def test_network_policy_lets_out_to_broker_and_database(overlay: Path, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    wanted = {int(address.rpartition(":")[2]) for address in settings.broker.split(",")} | {5432}
    out = {port["port"] for rule in find("NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
    assert wanted <= out
    assert settings.sink_url.startswith("postgresql://")


@overlays
def test_worker_has_the_time_to_drain(overlay: Path, tmp_path: Path) -> None:
    extra = settings_of(overlay, tmp_path).drain_seconds - Settings.model_fields["drain_seconds"].default
    assert pod("Deployment")["terminationGracePeriodSeconds"] >= LONGEST_END + extra


@pods
def test_pods_are_unprivileged_on_a_read_only_file_system(kind: str) -> None:
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    of_pod = pod(kind)["securityContext"]
    assert (of_pod["runAsUser"], of_pod["runAsGroup"]) == tuple(map(int, user))
    assert of_pod["runAsNonRoot"]
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(kind)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(kind)["automountServiceAccountToken"] is False
    assert pod(kind)["enableServiceLinks"] is False


@pods
def test_what_is_written_is_on_a_volume_and_every_volume_is_there(kind: str) -> None:
    mounts = {mount["mountPath"]: mount for mount in container(kind)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(kind)["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    (workdir,) = re.findall(r"^WORKDIR (/var/\S+)$", DOCKERFILE, re.MULTILINE)
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {workdir, "/tmp"}
    assert all(volumes[mounts[path]["name"]]["emptyDir"]["sizeLimit"] for path in writable)


@pods
def test_requests_and_limits_are_stated(kind: str) -> None:
    resources = container(kind)["resources"]
    assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}


@pods
def test_command_is_one_of_tillstream(kind: str) -> None:
    name, *arguments = container(kind)["args"]
    context = program.commands[name].make_context(name, arguments)
    mounts = {mount["mountPath"] for mount in container(kind)["volumeMounts"]}
    assert str(context.params["config"].parent) in mounts
    assert context.params["config"].name == "tillstream.yaml"


def test_selectors_find_the_workers_and_not_the_migration() -> None:
    worker = find("Deployment")["spec"]["template"]["metadata"]["labels"]
    migration = find("Job")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        find("Deployment")["spec"]["selector"]["matchLabels"],
        find("Service")["spec"]["selector"],
        find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= worker.items()
        assert not selector.items() <= migration.items()
    for labels in (worker, migration):  # both go out to the broker and the database
        assert find("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_service_monitor_finds_the_service() -> None:
    spec = find("ServiceMonitor")["spec"]
    assert spec["selector"]["matchLabels"].items() <= labels_of(find("Service")).items()
    assert spec["jobLabel"] in labels_of(find("Service"))


def test_evictions_take_one_worker_at_a_time() -> None:
    spec = find("PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1
    assert "minAvailable" not in spec  # with one worker nothing could ever be evicted


def test_upgrade_never_has_more_workers_than_there_are_seats() -> None:
    assert find("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_no_secret_stands_in_a_file() -> None:
    assert not [path for path, each in objects() if each["kind"] == "Secret"]
    for path in K8S.rglob("*.yaml"):
        assert not re.search(r"^\s*(\w*_)?password:", path.read_text(), re.MULTILINE), path
        assert not re.search(r"://[^/\s]*:[^/\s]*@", path.read_text()), path
    for variable in container("Job")["env"]:
        assert "value" not in variable
        assert variable["valueFrom"]["secretKeyRef"]["name"] == "tillstream-migration"


@overlays
def test_secrets_are_read_from_where_they_are_mounted(overlay: Path, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    files = [settings.sink_password_file, settings.kafka.password_file, settings.kafka.ca_file]
    assert settings.password() == "secret"
    assert {file.parent for file in files if file is not None} == {tmp_path}  # stands for SECRETS
    assert SECRETS in {mount["mountPath"] for mount in container("Deployment")["volumeMounts"]}


@pods
def test_settings_come_from_the_config_map_that_overlays_generate(kind: str) -> None:
    (settings,) = [volume for volume in pod(kind)["volumes"] if volume["name"] == "settings"]
    for overlay in OVERLAYS:
        (generated,) = kustomization(overlay)["configMapGenerator"]
        assert (generated["name"], generated["files"]) == (settings["configMap"]["name"], ["tillstream.yaml"])


@overlays
def test_image_has_a_version(overlay: Path) -> None:
    (image,) = kustomization(overlay)["images"]
    assert image["name"] == container("Deployment")["image"] == container("Job")["image"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"])


def test_scaler_watches_what_the_workers_read(tmp_path: Path) -> None:
    settings = settings_of(K8S / "overlays/production", tmp_path)
    spec = find("ScaledObject")["spec"]
    (trigger,) = spec["triggers"]
    watched = trigger["metadata"]
    assert watched["bootstrapServers"] == settings.broker
    assert watched["consumerGroup"] == settings.group
    assert watched["topic"] == settings.topic
    assert watched["offsetResetPolicy"] == "earliest"
    assert watched["sasl"] == settings.kafka.mechanism.lower().replace("scram-sha-", "scram_sha")
    assert trigger["authenticationRef"]["name"] == find("TriggerAuthentication")["metadata"]["name"]
    assert spec["scaleTargetRef"]["name"] == find("Deployment")["metadata"]["name"]
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]  # a topic without workers has no freshness


def test_scaler_alone_has_the_number_of_workers() -> None:
    patches = [yaml.safe_load(p["patch"]) for p in kustomization(K8S / "overlays/production")["patches"]]
    assert [{"op": "remove", "path": "/spec/replicas"}] in patches


def test_migration_alone_may_change_the_schema_in_production(tmp_path: Path) -> None:
    settings = settings_of(K8S / "overlays/production", tmp_path)
    assert not settings.apply_migrations
    assert not settings.create_topics
    assert container("Job")["args"][:2] == ["check", "--apply"]
    used = {volume["secret"]["secretName"] for volume in pod("Job")["volumes"] if "secret" in volume}
    assert used == {"tillstream-migration"}


def test_what_the_migration_needs_is_there_in_the_first_step() -> None:
    for kind in ("Job", "NetworkPolicy", "ServiceAccount"):
        assert labels_of(find(kind)).items() >= STEP.items()
    (generated,) = kustomization(K8S / "overlays/production")["configMapGenerator"]
    assert generated["options"]["labels"] == STEP
    assert not labels_of(find("Deployment")).items() >= STEP.items()


def test_small_overlay_creates_what_is_missing_itself(tmp_path: Path) -> None:
    settings = settings_of(K8S / "overlays/small", tmp_path)
    assert settings.apply_migrations
    assert settings.create_topics
    (patch,) = kustomization(K8S / "overlays/small")["patches"]
    (resources,) = yaml.safe_load(patch["patch"])
    assert resources["path"] == "/spec/template/spec/containers/0/resources"
    assert resources["value"]["limits"].keys() == {"cpu", "memory"}


def test_rule_files_become_prometheus_rules(tmp_path: Path) -> None:
    text = "# why\ngroups:\n  - name: a\n    rules:\n      - alert: A\n        expr: |\n          up\n\n          > 0\n"
    first, second = tmp_path / "alerts.yml", tmp_path / "Recording_rules.yml"
    first.write_text(text)
    second.write_text("---\ngroups: []\n")
    done = subprocess.run(
        [K8S / "monitoring/prometheus-rules", first, second], capture_output=True, text=True, check=True
    )
    made = list(yaml.safe_load_all(done.stdout))
    assert [each["kind"] for each in made] == ["PrometheusRule"] * 2
    assert [each["metadata"]["name"] for each in made] == ["tillstream-alerts", "tillstream-recording-rules"]
    assert made[0]["metadata"]["labels"] == {NAME: "tillstream"}
    assert [each["spec"] for each in made] == [yaml.safe_load(text), {"groups": []}]


def test_rules_without_a_file_are_a_wrong_usage() -> None:
    assert subprocess.run([K8S / "monitoring/prometheus-rules"], capture_output=True, check=False).returncode == 2
