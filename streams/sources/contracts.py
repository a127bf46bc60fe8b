"""Read and validate contract and mapping files; every fault is reported with file, line, path and a remedy."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.contract import EVENT_FIELDS, Contract

BUILT_IN = files("streams.sources") / "builtin"


Model = TypeVar("Model", bound=BaseModel)
_PLAIN_MESSAGES = {"invalid-json-value": "not a JSON value; put a date or a time in quotes"}


class ContractError(Exception):
    """The contract or mapping can't be used. The message has one line per fault: where it is and how to fix it."""


def built_in_contracts() -> list[str]:
    """Return the names of the contracts that come with Tillstream."""
    return sorted(file.name.removesuffix(".yaml") for file in BUILT_IN.iterdir() if file.name.endswith(".yaml"))


def find_contract(name: str) -> Path:
    """Return the file of the built-in contract with this name, or the file at this path. Raises ContractError."""
    if name in built_in_contracts():
        return Path(str(BUILT_IN / f"{name}.yaml"))
    path = Path(name)
    if not path.is_file():
        raise ContractError(
            f"{name}: neither a file nor a built-in contract; the built-in ones are {', '.join(built_in_contracts())}"
        )
    return path


def load_contract(path: Path) -> Contract:
    """Load the contract in a file. Raises ContractError."""
    return load_model(path, Contract, "contract")


def load_model(path: Path, model: type[Model], kind: str) -> Model:
    """Load a file as `model`. `kind` names its first field, which holds the format version. Raises ContractError."""
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
    """Return a YAML file's value and its root node, which knows line numbers.

    Raises ContractError if the file can't be read, is not valid YAML, or repeats a key.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        duplicate = _duplicate_key(root)
        if duplicate is not None:
            raise ContractError(f"{path}:{duplicate.start_mark.line + 1}: {duplicate.value}: duplicate key; keep one")
        scalar = next(filter(_has_surrogate, _scalars(root)), None)
        if scalar is not None:
            raise ContractError(
                f"{path}:{scalar.start_mark.line + 1}: half of a surrogate pair; write the whole character"
            )
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
    except (ValueError, LookupError, TypeError, AttributeError):  # PyYAML's errors for 2026-02-30, 0x_ or `!!int x`
        line = _line_of_bad_scalar(root)
        raise ContractError(f"{path}:{line}: not a valid date or number; put it in quotes if it is text") from None


def _line_of_bad_scalar(node: yaml.Node | None) -> int:
    """Return the line of the first scalar that can't be converted to a value."""
    for scalar in _scalars(node):
        try:
            yaml.SafeLoader("").construct_document(scalar)
        except Exception:  # any error identifies the bad scalar
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
    """Return whether the scalar has a lone surrogate: no encoding can write it, but YAML accepts it as an escape."""
    try:
        scalar.value.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_consequence(fault: Any) -> bool:
    """Return whether this fault only follows from another: a list counts as empty because its items are invalid."""
    return bool(fault["type"] == "too_short" and fault["input"])


def locate_fault(path: Path, fault: str) -> str:
    """Add file and line to a fault of the form `path.in.contract: message`."""
    steps, _, message = fault.partition(": ")
    root: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    loc = tuple(int(step) if step.isdigit() else step for step in _steps(root, steps.split(".")))
    return f"{path}:{_locate(root, loc)[0]}: {steps}: {message}"


def _steps(root: yaml.Node, steps: list[str]) -> list[str]:
    """Join again the steps of field names that contain a dot, such as `totals.gross`."""
    joined: list[str] = []
    while steps:
        step = steps.pop(0)
        if steps and joined and joined[-1] == "fields" and f"{step}.{steps[0]}" in EVENT_FIELDS:
            step = f"{step}.{steps.pop(0)}"
        joined.append(step)
    return joined


def describe_error(path: Path, root: yaml.Node, fault: Any, kind: str) -> str:
    """Format one of pydantic's errors with file and line; `kind` is the path for the document as a whole."""
    line, steps = _locate(root, fault["loc"])
    message = _PLAIN_MESSAGES.get(fault["type"], fault["msg"]).removeprefix("Value error, ")
    return f"{path}:{line}: {'.'.join(map(str, steps)) or kind}: {message}"


def _locate(root: yaml.Node, loc: tuple[int | str, ...]) -> tuple[int, list[int | str]]:
    """Return the line of the deepest node that exists, and the steps to it, without steps that only pydantic knows."""
    node, line = root, root.start_mark.line + 1
    steps: list[int | str] = []
    for number, step in enumerate(loc):
        key, child = _child(node, step)
        if child is not None:
            node, line = child, (key or child).start_mark.line + 1
            steps.append(step)
        elif number == len(loc) - 1 and isinstance(node, yaml.MappingNode) and isinstance(step, str):
            steps.append(step)  # a missing key, or an unknown one
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
    """Return a key that occurs twice in its mapping: YAML readers silently keep the last one."""
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
