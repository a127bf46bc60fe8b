"""Builds both overlays with kustomize and holds every object to the schemas of Kubernetes, KEDA and the operator.

    python -m deploy.k8s.validate [RULE_FILE…]

Needs kustomize, kubeconform and go on PATH:

    go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
    go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0

The schemas come as Go modules, of the versions below; fields that they do not know are faults.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parent
KUBERNETES = "k8s.io/kubernetes@v1.34.1"
DEFINITIONS = {
    "github.com/kedacore/keda/v2@v2.18.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}


def main(rules: list[str]) -> None:
    """Ends with kubeconform's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        schemas = Path(folder)
        write_kubernetes(module(KUBERNETES) / "api/openapi-spec/swagger.json", schemas)
        for name, files in DEFINITIONS.items():
            source = module(name)
            for file in files:
                write_custom(source / file, schemas)
        objects = [run("kustomize", "build", str(path)) for path in sorted((K8S / "overlays").iterdir())]
        if rules:
            objects.append(run(str(K8S / "monitoring/prometheus-rules"), *rules))
        place = f"{schemas}/{{{{.ResourceKind}}}}.json"
        command = ["kubeconform", "-strict", "-summary", "-verbose", "-schema-location", place, "-"]
        sys.exit(subprocess.run(command, input="\n---\n".join(objects), text=True, check=False).returncode)


def run(*command: str) -> str:
    """The command's output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def module(name: str) -> Path:
    """The folder of a Go module, fetched if need be."""
    return Path(json.loads(run("go", "mod", "download", "-json", name))["Dir"])


def write_kubernetes(swagger: Path, folder: Path) -> None:
    """One schema per kind of Kubernetes itself."""
    definitions = {name: strict(each) for name, each in json.loads(swagger.read_text())["definitions"].items()}
    for text in ("IntOrString", "Quantity"):  # both are texts there, and may be numbers
        for name in definitions:
            if name.endswith(f".{text}"):
                definitions[name] = {"type": ["string", "number"]}
    wanted = {"ServiceAccount", "ConfigMap", "Service", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget"}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] in wanted and kind["version"] == "v1":
                schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
                (folder / f"{kind['kind'].lower()}.json").write_text(json.dumps(schema))


def write_custom(file: Path, folder: Path) -> None:
    """One schema per kind that a CustomResourceDefinition defines."""
    spec = yaml.safe_load(file.read_text())["spec"]
    schema = strict(spec["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    (folder / f"{spec['names']['kind'].lower()}.json").write_text(json.dumps(schema))


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not know."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    made = dict(schema)
    for name in ("items", "additionalProperties"):
        if name in schema:
            made[name] = strict(schema[name])
    if "properties" in schema:
        made["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


if __name__ == "__main__":
    main(sys.argv[1:])
