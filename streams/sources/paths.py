"""Paths into a record: JMESPath for JSON, XPath for XML, made ready once and run per record.

JMESPath's syntax tree becomes functions (`jmes`), several times faster than its interpreter. Beyond JMESPath's own
functions there are exact ones for money, on numbers and texts alike, whose result is text:
`add(a, b)`, `subtract(a, b)`, `multiply(a, b)`, `divide(a, b)`, `total(list)`, `rounded(a, places)`,
`in_units(quantity, unit, {unit: factor, …})`; and `compare(a, b)`, which is -1, 0 or 1. Null counts as 0 in them.
`joined(items, key, others, other_key, name)` brings together two lists of a record that refer to one another.

XPath computes in binary floating point, so it has the same functions (`xpath`), and a few that XPath 1.0 lacks.
"""

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from math import isfinite
from typing import Any, cast

import jmespath
from jmespath import functions
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter
from lxml import etree

from schemas.money import EXACT, NotMoney, any_number
from streams.sources import xpath
from streams.sources.jmes import JmesCompiler, Node, PathFinder, UnknownFunction

_NUMBER: Any = {"types": ["number", "string", "null"]}


class PathError(Exception):
    """The path is none; the message says why."""


class PathFailed(Exception):
    """The path can't be run on this record: a function was given what it can't take."""


class MoneyFunctions(functions.Functions):
    """Exact arithmetic in JMESPath."""

    @functions.signature(_NUMBER, _NUMBER)
    def _func_add(self, a: Any, b: Any) -> str:
        return _text(EXACT.add(_number(a), _number(b)))

    @functions.signature(_NUMBER, _NUMBER)
    def _func_subtract(self, a: Any, b: Any) -> str:
        return _text(EXACT.subtract(_number(a), _number(b)))

    @functions.signature(_NUMBER, _NUMBER)
    def _func_multiply(self, a: Any, b: Any) -> str:
        return _text(EXACT.multiply(_number(a), _number(b)))

    @functions.signature(_NUMBER, _NUMBER)
    def _func_divide(self, a: Any, b: Any) -> str | None:
        """To 12 places; null where b is 0."""
        divisor = _number(b)
        return _text(_LONG.quantize(_LONG.divide(_number(a), divisor), _TWELVE_PLACES)) if divisor else None

    @functions.signature(_NUMBER, {"types": ["number"]})
    def _func_rounded(self, a: Any, places: Any) -> str:
        """Half up, as amounts are."""
        return _text(_number(a).quantize(Decimal(1).scaleb(-int(places)), ROUND_HALF_UP, _LONG))

    @functions.signature(_NUMBER, _NUMBER)
    def _func_compare(self, a: Any, b: Any) -> int:
        """-1, 0 or 1: what a number is to another, both as numbers (`a > b` on texts is an error)."""
        first, second = _number(a), _number(b)
        return (first > second) - (first < second)

    @functions.signature(_NUMBER, {"types": ["string", "null"]}, {"types": ["object"]})
    def _func_in_units(self, quantity: Any, unit: Any, factors: Any) -> str:
        """A quantity in the unit whose factor is 1; a unit that is not among them is an error of the record."""
        if unit not in factors:
            raise PathFailed("unknown_unit")
        return self._func_multiply(quantity, factors[unit])

    @functions.signature(
        {"types": ["array", "null"]},
        {"types": ["string"]},
        {"types": ["array", "null"]},
        {"types": ["string"]},
        {"types": ["string"]},
    )
    def _func_joined(self, items: Any, key: str, others: Any, other_key: str, name: str) -> list[Any]:
        """Return the items, each with the list `name` of those others whose `other_key` equals the item's `key`.

        Keys are compared as texts; what is no object, or has no key, is joined with nothing.
        """
        by_key: dict[str, list[Any]] = {}
        for other in others or ():
            if type(other) is dict and other.get(other_key) is not None:
                by_key.setdefault(str(other[other_key]), []).append(other)
        return [item | {name: by_key.get(str(item.get(key)), [])} for item in items or () if type(item) is dict]

    @functions.signature({"types": ["array", "null"]})
    def _func_total(self, values: Any) -> str:
        result = Decimal(0)
        for value in values or ():
            result = EXACT.add(result, _number(value))
        return _text(result)


_LONG = Context(prec=60)
_TWELVE_PLACES = Decimal("1e-12")
#: No number or code of a till has as many digits; Python refuses to write integers of more than 4,300 at all.
_WIDEST = 10**64
_XPATH = {(None, name): function for name, function in xpath.FUNCTIONS.items()}
_MONEY = MoneyFunctions()
_COMPILER = JmesCompiler(TreeInterpreter(jmespath.Options(custom_functions=_MONEY)), _MONEY)


def _number(value: Any) -> Decimal:
    if value is None:
        return Decimal(0)
    try:
        return any_number(str(value))
    except NotMoney as fault:
        raise PathFailed(str(fault)) from None


def _text(number: Decimal) -> str:
    return format(number.normalize(_LONG), "f")


def json_path(path: str) -> PathFinder:
    """`path` ready to be run on JSON values. Raises PathError."""
    try:
        find = _COMPILER.compiled(cast(Node, jmespath.compile(path).parsed))
    except JMESPathError as error:
        raise PathError(f"{path!r} is no JMESPath: {' '.join(str(error).split())}") from None
    except UnknownFunction as unknown:
        raise PathError(f"{path!r} is no JMESPath: there is no function {unknown}") from None

    def search(node: Any) -> Any:
        try:
            found = find(node)
        except (JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            # beyond its own errors, what it does on values that it did not expect: text > number is a TypeError
            raise PathFailed(type(error).__name__) from None
        if type(found) is int and not -_WIDEST < found < _WIDEST:
            raise PathFailed("out_of_range")
        return found

    return search


def xml_path(
    path: str, namespaces: dict[str, str] | None = None, variables: dict[str, Any] | None = None
) -> PathFinder:
    """`path` ready to be run on elements: the text of the first hit. Raises PathError."""
    nodes = xml_nodes(path, namespaces, variables)

    def find(node: Any) -> Any:
        found = nodes(node)
        if isinstance(found, bool):
            return found
        if isinstance(found, float):
            return _text(Decimal(str(found))) if isfinite(found) else None
        if isinstance(found, list):
            if not found:
                return None
            found = found[0] if isinstance(found[0], str) else "".join(found[0].itertext())
        return found.strip()  # white space around is how the document is laid out

    return find


def xml_nodes(
    path: str, namespaces: dict[str, str] | None = None, variables: dict[str, Any] | None = None
) -> PathFinder:
    """`path` ready to be run on elements: what XPath gives, a list of nodes for a path. Raises PathError.

    `variables` has the names that it may use, and their values when it is run.
    """
    if re.search(r"namespace\s*::", path):
        raise PathError(f"{path!r}: namespaces are not read; their prefixes are stated in xml.namespaces")
    known: dict[str, Any] = variables if variables is not None else {}
    used = known.keys() & set(re.findall(r"\$([a-z_]+)", path))  # each that is passed costs a copy of its nodes
    try:
        compiled = etree.XPath(path, namespaces=namespaces, extensions=_XPATH, smart_strings=False)
        compiled(
            etree.Element("record"), **{name: known[name] for name in used}
        )  # an unknown function or prefix shows only now
    except NotMoney:
        pass
    except (etree.XPathError, TypeError, ValueError) as error:
        raise PathError(f"{path!r} is no XPath: {error}") from None

    def find(node: Any) -> Any:
        try:
            return compiled(node, **{name: known[name] for name in used}) if used else compiled(node)
        except NotMoney as fault:
            raise PathFailed(str(fault)) from None
        except (etree.XPathError, TypeError, ArithmeticError) as error:  # TypeError: too few or many arguments
            raise PathFailed(type(error).__name__) from None

    return find
