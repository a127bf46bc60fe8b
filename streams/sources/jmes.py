"""Compile JMESPath's syntax tree to nested functions, which give its interpreter's results in a fraction of the time.

The interpreter looks up the method for every node of the tree on every search; here that is done once. The library
still does the parsing and provides the functions, and nodes that contracts hardly use (slices, expressions passed to
functions) are left to its interpreter. `tests/unit/sources/test_paths.py` checks that both give the same results.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

#: Returns the value at the path in a given value, or None if there is nothing there.
PathFinder = Callable[[Any], Any]
Node = dict[str, Any]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


class UnknownFunction(Exception):
    """The path calls a function that doesn't exist; the message is its name."""


class JmesCompiler:
    """Compiles nodes to functions. `interpreter` handles the nodes that are not compiled here."""

    def __init__(self, interpreter: TreeInterpreter, functions: Functions) -> None:
        self._interpreter = interpreter
        self._functions = functions
        self._compilers: dict[str, Callable[[Node, list[PathFinder]], PathFinder]] = {
            "field": _field,
            "index": _index,
            "literal": lambda node, _: _constant(node["value"]),
            "current": lambda *_: _identity,
            "identity": lambda *_: _identity,
            "subexpression": lambda _, parts: _chain(parts),
            "index_expression": lambda _, parts: _chain(parts),
            "pipe": lambda _, parts: _chain(parts),
            "or_expression": lambda _, parts: _or(*parts),
            "and_expression": lambda _, parts: _and(*parts),
            "not_expression": lambda _, parts: _not(*parts),
            "comparator": lambda node, parts: _comparison(node["value"], *parts),
            "flatten": lambda _, parts: _flat(*parts),
            "projection": lambda _, parts: _projection(*parts),
            "filter_projection": lambda _, parts: _filter_projection(*parts),
            "multi_select_list": lambda _, parts: _multi_select_list(parts),
            "multi_select_dict": lambda node, parts: _multi_select_dict(
                [child["value"] for child in node["children"]], parts
            ),
            "key_val_pair": lambda _, parts: parts[0],
            "function_expression": self._call,
        }

    def compiled(self, node: Node) -> PathFinder:
        """Compile a node to a function. Raises UnknownFunction."""
        kind, children = node["type"], node["children"]
        if kind == "function_expression" and node["value"] not in self._functions.FUNCTION_TABLE:
            raise UnknownFunction(node["value"])
        if kind not in self._compilers or any(child["type"] == "expref" for child in children):
            return lambda value: self._interpreter.visit(cast(Any, node), value)
        return self._compilers[kind](node, [self.compiled(child) for child in children])

    def _call(self, node: Node, arguments: list[PathFinder]) -> PathFinder:
        name, call = node["value"], self._functions.call_function
        return lambda value: call(name, [argument(value) for argument in arguments])


def _identity(value: Any) -> Any:
    return value


def _constant(constant: Any) -> PathFinder:
    return lambda _: constant


def _field(node: Node, _: list[PathFinder]) -> PathFinder:
    name = node["value"]
    return lambda value: value.get(name) if type(value) is dict else None


def _index(node: Node, _: list[PathFinder]) -> PathFinder:
    index = node["value"]
    return lambda value: value[index] if type(value) is list and -len(value) <= index < len(value) else None


def _chain(parts: list[PathFinder]) -> PathFinder:
    if len(parts) == 1:
        return parts[0]
    first, project = parts[0], _chain(parts[1:])
    return lambda value: project(first(value))


def _is_false(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def _or(left: PathFinder, right: PathFinder) -> PathFinder:
    def find(value: Any) -> Any:
        result = left(value)
        return right(value) if _is_false(result) else result

    return find


def _and(left: PathFinder, right: PathFinder) -> PathFinder:
    def find(value: Any) -> Any:
        result = left(value)
        return result if _is_false(result) else right(value)

    return find


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not(inner: PathFinder) -> PathFinder:
    def find(value: Any) -> bool:
        result = inner(value)
        return not result and not _is_number(result)  # in JMESPath 0 is true

    return find


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):  # in Python True == 1
        return left is right
    return bool(left == right)


def _comparison(comparator: str, left: PathFinder, right: PathFinder) -> PathFinder:
    if comparator == "eq":
        return lambda value: _equal(left(value), right(value))
    if comparator == "ne":
        return lambda value: not _equal(left(value), right(value))
    order = _ORDER[comparator]

    def find(value: Any) -> bool | None:
        first, second = left(value), right(value)
        if not all(isinstance(operand, str) or _is_number(operand) for operand in (first, second)):
            return None
        return order(first, second)

    return find


def _flat(inner: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        result = inner(value)
        if not isinstance(result, list):
            return None
        flat: list[Any] = []
        for item in result:
            if isinstance(item, list):
                flat += item
            else:
                flat.append(item)
        return flat

    return find


def _projection(base: PathFinder, project: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [result for item in items if (result := project(item)) is not None]

    return find


def _filter_projection(base: PathFinder, project: PathFinder, predicate: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [result for item in items if not _is_false(predicate(item)) and (result := project(item)) is not None]

    return find


def _multi_select_list(parts: list[PathFinder]) -> PathFinder:
    return lambda value: None if value is None else [part(value) for part in parts]


def _multi_select_dict(names: list[str], parts: list[PathFinder]) -> PathFinder:
    pairs = list(zip(names, parts, strict=True))
    return lambda value: None if value is None else {name: part(value) for name, part in pairs}
