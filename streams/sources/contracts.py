"""Contract and mapping files: read, checked, and every fault told with file, line, path and what to do."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.contract import EVENT_FIELDS, Contract

BUILT_IN = files("streams.sources") / "builtin"


Model = TypeVar("Model", bound=BaseModel)
_PLAIN_MESSAGES = {"invalid-json-value": "nothing that JSON has; put a date or a time in quotes"}


class ContractError(Exception):
    """The contract, or mapping, can't be used; the message says what, where and what to do, a line for each fault."""


def built_in_contracts() -> list[str]:
    """The names of the contracts that Tillstream brings along."""
    return sorted(file.name.removesuffix(".yaml") for file in BUILT_IN.iterdir() if file.name.endswith(".yaml"))


def find_contract(name: str) -> Path:
    """The file of a built-in contract, by its name, or the file of that path. Raises ContractError."""
    if name in built_in_contracts():
        return Path(str(BUILT_IN / f"{name}.yaml"))
    path = Path(name)
    if not path.is_file():
        raise ContractError(
            f"{name}: neither a file nor a built-in contract; these are {', '.join(built_in_contracts())}"
        )
    return path


def load_contract(path: Path) -> Contract:
    """The contract in a file. Raises ContractError."""
    return load_model(path, Contract, "contract")


def load_model(path: Path, model: type[Model], kind: str) -> Model:
    """A file of the kind `word`, which is its first field and says its version. Raises ContractError."""
    value, root = parse_yaml(path)
    if not isinstance(root, yaml.MappingNode):
        raise ContractError(f"{path}:1: a {kind} is a list of `name: value`; begin with `{kind}: 1`")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = [
            fault for fault in error.errors(include_url=False, include_context=False) if not _is_consequence(fault)
        ]
        raise ContractError(
            "\n".join(dict.fromkeys(describe_error(path, root, fault, kind) for fault in faults))
        ) from None


def parse_yaml(path: Path) -> tuple[Any, yaml.Node | None]:
    """A YAML file's value and its nodes, which know their lines; no key stands twice. Raises ContractError."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        duplicate = _duplicate_key(root)
        if duplicate is not None:
            raise ContractError(f"{path}:{duplicate.start_mark.line + 1}: {duplicate.value}: given twice; keep one")
        scalar = next(filter(_has_surrogate, _scalars(root)), None)
        if scalar is not None:
            raise ContractError(f"{path}:{scalar.start_mark.line + 1}: half of a character; write the whole one")
        return loader.construct_document(root) if root is not None else None, root
    except OSError as error:
        raise ContractError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ContractError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ContractError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise ContractError(f"{path}: nested too deeply, or within itself") from None
    except (ValueError, LookupError, TypeError, AttributeError):  # what PyYAML says of 2026-02-30, 0x_ or `!!int x`
        line = _line_of_bad_scalar(root)
        raise ContractError(f"{path}:{line}: a date or number that is none; put it in quotes if it is a text") from None


def _line_of_bad_scalar(node: yaml.Node | None) -> int:
    """The line of the scalar that can't be made a value."""
    for scalar in _scalars(node):
        try:
            yaml.SafeLoader("").construct_document(scalar)
        except Exception:  # whatever it is: this is the one
            return int(scalar.start_mark.line) + 1
    return 1


def _scalars(node: Any) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif node is not None:
        for child in node.value:
            for element in child if isinstance(child, tuple) else (child,):
                yield from _scalars(element)


def _has_surrogate(scalar: yaml.ScalarNode) -> bool:
    """Whether it has a surrogate, which no encoding has; YAML takes it as an escape."""
    try:
        scalar.value.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_consequence(fault: Any) -> bool:
    """Whether it only follows from another: a list that is empty since its items are wrong."""
    return bool(fault["type"] == "too_short" and fault["input"])


def locate_fault(path: Path, fault: str) -> str:
    """A fault of the form `path.in.contract: message` with file and line."""
    steps, _, message = fault.partition(": ")
    root: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    loc = tuple(int(step) if step.isdigit() else step for step in _steps(root, steps.split(".")))
    return f"{path}:{_locate(root, loc)[0]}: {steps}: {message}"


def _steps(root: yaml.Node, steps: list[str]) -> list[str]:
    """Steps with the dots of `fields` put back: `totals.gross` is one."""
    joined: list[str] = []
    while steps:
        step = steps.pop(0)
        if steps and joined and joined[-1] == "fields" and f"{step}.{steps[0]}" in EVENT_FIELDS:
            step = f"{step}.{steps.pop(0)}"
        joined.append(step)
    return joined


def describe_error(path: Path, root: yaml.Node, fault: Any, kind: str) -> str:
    """One of pydantic's faults with file and line; `word` names the whole."""
    line, steps = _locate(root, fault["loc"])
    message = _PLAIN_MESSAGES.get(fault["type"], fault["msg"]).removeprefix("Value error, ")
    return f"{path}:{line}: {'.'.join(map(str, steps)) or kind}: {message}"


def _locate(root: yaml.Node, loc: tuple[int | str, ...]) -> tuple[int, list[int | str]]:
    """The line of the deepest node that is there, and the steps to it; steps that only pydantic sees are left out."""
    node, line = root, root.start_mark.line + 1
    steps: list[int | str] = []
    for number, step in enumerate(loc):
        key, child = _child(node, step)
        if child is not None:
            node, line = child, (key or child).start_mark.line + 1
            steps.append(step)
        elif number == len(loc) - 1 and isinstance(node, yaml.MappingNode) and isinstance(step, str):
            steps.append(step)  # what is missing, or a key that is none of ours
    return line, steps


def _child(node: yaml.Node, step: int | str) -> tuple[yaml.Node | None, yaml.Node | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


def _duplicate_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """A key that its mapping has already: YAML readers keep the last one and say nothing."""
    if isinstance(node, yaml.SequenceNode):
        return next((duplicate for child in node.value if (duplicate := _duplicate_key(child))), None)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    return key
                seen.add(key.value)
            duplicate = _duplicate_key(value)
            if duplicate is not None:
                return duplicate
    return None
