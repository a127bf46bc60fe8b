"""JMESPath's syntax tree as functions that call one another: what its interpreter does, at a fraction of the time.

The interpreter looks up, for every node of the tree and every search, which of its methods the node is for. Here that
is done once. The library parses, and its functions are called as it calls them; nodes that contracts hardly use
(slices, expressions handed to functions) are left to its interpreter. `tests/unit/sources/test_paths.py` holds both to
the same results.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

#: From a value to what stands at the path in it; None where nothing does.
PathFinder = Callable[[Any], Any]
Node = dict[str, Any]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


class UnknownFunction(Exception):
    """The path calls a function that there is not; the message is its name."""


class JmesCompiler:
    """Makes functions of nodes. `interpreter` has the functions, and does what is not done here."""

    def __init__(self, interpreter: TreeInterpreter, functions: Functions) -> None:
        self._interpreter = interpreter
        self._functions = functions
        self._makers: dict[str, Callable[[Node, list[PathFinder]], PathFinder]] = {
            "field": _field,
            "index": _index,
            "literal": lambda node, _: _constant(node["value"]),
            "current": lambda *_: _itself,
            "identity": lambda *_: _itself,
            "subexpression": lambda _, parts: _row(parts),
            "index_expression": lambda _, parts: _row(parts),
            "pipe": lambda _, parts: _row(parts),
            "or_expression": lambda _, parts: _or(*parts),
            "and_expression": lambda _, parts: _and(*parts),
            "not_expression": lambda _, parts: _not(*parts),
            "comparator": lambda node, parts: _compared(node["value"], *parts),
            "flatten": lambda _, parts: _flat(*parts),
            "projection": lambda _, parts: _each(*parts),
            "filter_projection": lambda _, parts: _each_where(*parts),
            "multi_select_list": lambda _, parts: _listed(parts),
            "multi_select_dict": lambda node, parts: _named([child["value"] for child in node["children"]], parts),
            "key_val_pair": lambda _, parts: parts[0],
            "function_expression": self._call,
        }

    def compiled(self, node: Node) -> PathFinder:
        """`node` as a function. Raises UnknownFunction."""
        kind, children = node["type"], node["children"]
        if kind == "function_expression" and node["value"] not in self._functions.FUNCTION_TABLE:
            raise UnknownFunction(node["value"])
        if kind not in self._makers or any(child["type"] == "expref" for child in children):
            return lambda value: self._interpreter.visit(cast(Any, node), value)
        return self._makers[kind](node, [self.compiled(child) for child in children])

    def _call(self, node: Node, arguments: list[PathFinder]) -> PathFinder:
        name, call = node["value"], self._functions.call_function
        return lambda value: call(name, [argument(value) for argument in arguments])


def _itself(value: Any) -> Any:
    return value


def _constant(constant: Any) -> PathFinder:
    return lambda _: constant


def _field(node: Node, _: list[PathFinder]) -> PathFinder:
    name = node["value"]
    return lambda value: value.get(name) if type(value) is dict else None


def _index(node: Node, _: list[PathFinder]) -> PathFinder:
    place = node["value"]
    return lambda value: value[place] if type(value) is list and -len(value) <= place < len(value) else None


def _row(parts: list[PathFinder]) -> PathFinder:
    if len(parts) == 1:
        return parts[0]
    first, then = parts[0], _row(parts[1:])
    return lambda value: then(first(value))


def _is_false(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def _or(left: PathFinder, right: PathFinder) -> PathFinder:
    def find(value: Any) -> Any:
        found = left(value)
        return right(value) if _is_false(found) else found

    return find


def _and(left: PathFinder, right: PathFinder) -> PathFinder:
    def find(value: Any) -> Any:
        found = left(value)
        return found if _is_false(found) else right(value)

    return find


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not(inner: PathFinder) -> PathFinder:
    def find(value: Any) -> bool:
        found = inner(value)
        return not found and not _is_number(found)  # 0 is something

    return find


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):  # to Python True is 1
        return left is right
    return bool(left == right)


def _compared(how: str, left: PathFinder, right: PathFinder) -> PathFinder:
    if how == "eq":
        return lambda value: _equal(left(value), right(value))
    if how == "ne":
        return lambda value: not _equal(left(value), right(value))
    order = _ORDER[how]

    def find(value: Any) -> bool | None:
        first, second = left(value), right(value)
        if not all(isinstance(one, str) or _is_number(one) for one in (first, second)):
            return None
        return order(first, second)

    return find


def _flat(inner: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        found = inner(value)
        if not isinstance(found, list):
            return None
        flat: list[Any] = []
        for item in found:
            if isinstance(item, list):
                flat += item
            else:
                flat.append(item)
        return flat

    return find


def _each(base: PathFinder, then: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [found for item in items if (found := then(item)) is not None]

    return find


def _each_where(base: PathFinder, then: PathFinder, holds: PathFinder) -> PathFinder:
    def find(value: Any) -> list[Any] | None:
        items = base(value)
        if not isinstance(items, list):
            return None
        return [found for item in items if not _is_false(holds(item)) and (found := then(item)) is not None]

    return find


def _listed(parts: list[PathFinder]) -> PathFinder:
    return lambda value: None if value is None else [part(value) for part in parts]


def _named(names: list[str], parts: list[PathFinder]) -> PathFinder:
    pairs = list(zip(names, parts, strict=True))
    return lambda value: None if value is None else {name: part(value) for name, part in pairs}
