"""Facts about the project as a whole."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from ops.json_schema import json_schema
from ops.publish import FOLDER, MODELS, REFERENCE, published, reference
from schemas.sale import SaleEvent
from tests.support.events import event

ROOT = Path(__file__).parents[2]
OURS = {"schemas", "sinks", "streams", "ops"}


def test_no_dependency_has_a_top_level_package_of_our_names() -> None:
    clashes = {
        f"{name} of {dist}"
        for name, dists in importlib.metadata.packages_distributions().items()
        if name in OURS
        for dist in dists
        if dist != "tillstream"
    }
    assert not clashes


def test_wheel_holds_exactly_our_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == OURS


def test_every_dependency_is_pinned_to_a_range_and_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    locked = set(re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for requirement in wanted:
        name = re.split(r"[\[<>=;, ]", requirement)[0]
        assert name.lower() in {lock.lower() for lock in locked}, name
        assert ">=" in requirement or name.startswith("types-"), requirement


def test_lock_of_what_runs_is_part_of_the_whole() -> None:
    whole, part = (
        set(re.findall(r"^[A-Za-z0-9_.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-run.lock")
    )
    assert part
    assert part <= whole, "run `make lock`"


@pytest.mark.parametrize("name", sorted(published()))
def test_published_schemas_are_current(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == published()[name], "run `make schemas`"


@pytest.mark.parametrize("name", sorted(reference()))
def test_reference_pages_are_current(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == reference()[name], "run `make schemas`"


def test_nothing_else_is_published() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(published())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_published_schema_is_a_json_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(MODELS[name]))


def test_published_schema_accepts_what_the_model_accepts_and_marks_personal_data() -> None:
    schema = json.loads((FOLDER / "sale_event.schema.json").read_text())
    jsonschema.validate(event(customer={"id": "7"}), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event(type="gift"), schema)
    customer = schema["$defs"]["Customer"]["properties"]
    assert all(field["x-personal-data"] for field in customer.values())
    assert "register" in schema["properties"]
    assert SaleEvent.model_validate(event()).register_id == "R1"


def test_every_ignored_lint_rule_has_its_reason() -> None:
    bare = []
    for path in ROOT.glob("**/*.py"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"#\s*(noqa|type:\s*ignore)", line) and not re.search(
                    r"(noqa: ?[A-Z0-9, ]+|ignore(\[[a-z, -]+\])?)\s*(#|\(|-)\s*\w+", line
                ):
                    bare.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    own = [line for line in bare if "test_project.py" not in line]
    assert not own, "\n".join(own)
