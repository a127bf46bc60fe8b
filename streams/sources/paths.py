"""Paths into a record: JMESPath for JSON, XPath for XML, compiled once and run on every record.

JMESPath's syntax tree is compiled to functions (`jmes`), several times faster than its interpreter. In addition to
JMESPath's own functions, contracts may use exact arithmetic for money, which takes numbers or texts and returns text:
`add(a, b)`, `subtract(a, b)`, `multiply(a, b)`, `divide(a, b)`, `total(list)`, `rounded(a, places)`,
`in_units(quantity, unit, {unit: factor, …})`; and `compare(a, b)`, which is -1, 0 or 1. Null counts as 0 in all of
them. `joined(items, key, others, other_key, name)` joins two lists of a record by a common key.

XPath computes in binary floating point, so `xpath` provides the same functions, and a few that XPath 1.0 lacks.
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

_NUMBER_LIKE: Any = {"types": ["number", "string", "null"]}


class PathError(Exception):
    """The path is not valid; the message says why."""


class PathFailed(Exception):
    """The path can't be evaluated on this record: a function got a value that it doesn't accept."""


class MoneyFunctions(functions.Functions):
    """Exact arithmetic in JMESPath."""

    @functions.signature(_NUMBER_LIKE, _NUMBER_LIKE)
    def _func_add(self, a: Any, b: Any) -> str:
        return _decimal_text(EXACT.add(_to_decimal(a), _to_decimal(b)))

    @functions.signature(_NUMBER_LIKE, _NUMBER_LIKE)
    def _func_subtract(self, a: Any, b: Any) -> str:
        return _decimal_text(EXACT.subtract(_to_decimal(a), _to_decimal(b)))

    @functions.signature(_NUMBER_LIKE, _NUMBER_LIKE)
    def _func_multiply(self, a: Any, b: Any) -> str:
        return _decimal_text(EXACT.multiply(_to_decimal(a), _to_decimal(b)))

    @functions.signature(_NUMBER_LIKE, _NUMBER_LIKE)
    def _func_divide(self, a: Any, b: Any) -> str | None:
        """Divide to 12 places; return null if `b` is 0."""
        divisor = _to_decimal(b)
        return _decimal_text(_LONG.quantize(_LONG.divide(_to_decimal(a), divisor), _TWELVE_PLACES)) if divisor else None

    @functions.signature(_NUMBER_LIKE, {"types": ["number"]})
    def _func_rounded(self, a: Any, places: Any) -> str:
        """Round half up, as amounts are rounded."""
        return _decimal_text(_to_decimal(a).quantize(Decimal(1).scaleb(-int(places)), ROUND_HALF_UP, _LONG))

    @functions.signature(_NUMBER_LIKE, _NUMBER_LIKE)
    def _func_compare(self, a: Any, b: Any) -> int:
        """Return -1, 0 or 1, comparing both values as numbers (`a > b` on texts is an error)."""
        first, second = _to_decimal(a), _to_decimal(b)
        return (first > second) - (first < second)

    @functions.signature(_NUMBER_LIKE, {"types": ["string", "null"]}, {"types": ["object"]})
    def _func_in_units(self, quantity: Any, unit: Any, factors: Any) -> str:
        """Convert a quantity to the unit whose factor is 1; a unit missing from `factors` is an error in the record."""
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
        """Return the items, each with a list `name` of the others whose `other_key` equals the item's `key`.

        Keys are compared as text. Others that aren't objects or have no key are ignored, as are items that aren't
        objects; an item without a key gets an empty list.
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
            result = EXACT.add(result, _to_decimal(value))
        return _decimal_text(result)


_LONG = Context(prec=60)
_TWELVE_PLACES = Decimal("1e-12")
#: No number or code from a till is this large, and Python refuses to format integers of more than 4,300 digits.
_MAX_INTEGER = 10**64
_XPATH = {(None, name): function for name, function in xpath.FUNCTIONS.items()}
_MONEY = MoneyFunctions()
_COMPILER = JmesCompiler(TreeInterpreter(jmespath.Options(custom_functions=_MONEY)), _MONEY)


def _to_decimal(value: Any) -> Decimal:
    if value is None:
        return Decimal(0)
    try:
        return any_number(str(value))
    except NotMoney as error:
        raise PathFailed(str(error)) from None


def _decimal_text(number: Decimal) -> str:
    return format(number.normalize(_LONG), "f")


def json_path(path: str) -> PathFinder:
    """Compile a JMESPath expression to a function on JSON values. Raises PathError."""
    try:
        find = _COMPILER.compiled(cast(Node, jmespath.compile(path).parsed))
    except JMESPathError as error:
        raise PathError(f"{path!r} is not valid JMESPath: {' '.join(str(error).split())}") from None
    except UnknownFunction as unknown:
        raise PathError(f"{path!r} is not valid JMESPath: there is no function {unknown}") from None

    def search(node: Any) -> Any:
        try:
            result = find(node)
        except (JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            # JMESPath also lets Python's errors through for values of unexpected types: text > number is a TypeError
            raise PathFailed(type(error).__name__) from None
        if type(result) is int and not -_MAX_INTEGER < result < _MAX_INTEGER:
            raise PathFailed("out_of_range")
        return result

    return search


def xml_path(
    path: str, namespaces: dict[str, str] | None = None, variables: dict[str, Any] | None = None
) -> PathFinder:
    """Compile an XPath to a function that returns the text of the first match in an element. Raises PathError."""
    nodes = xml_nodes(path, namespaces, variables)

    def find(node: Any) -> Any:
        result = nodes(node)
        if isinstance(result, bool):
            return result
        if isinstance(result, float):
            return _decimal_text(Decimal(str(result))) if isfinite(result) else None
        if isinstance(result, list):
            if not result:
                return None
            result = result[0] if isinstance(result[0], str) else "".join(result[0].itertext())
        return result.strip()  # surrounding white space is only the document's layout

    return find


def xml_nodes(
    path: str, namespaces: dict[str, str] | None = None, variables: dict[str, Any] | None = None
) -> PathFinder:
    """Compile an XPath to a function that returns XPath's own result, for a path a list of nodes. Raises PathError.

    `variables` maps the names that the path may use to their values; they are read each time the path is evaluated.
    """
    if re.search(r"namespace\s*::", path):
        raise PathError(f"{path!r}: the namespace axis is not supported; declare prefixes in xml.namespaces")
    values: dict[str, Any] = variables if variables is not None else {}
    used_names = values.keys() & set(re.findall(r"\$([a-z_]+)", path))  # passing a variable copies its nodes
    try:
        compiled = etree.XPath(path, namespaces=namespaces, extensions=_XPATH, smart_strings=False)
        compiled(
            etree.Element("record"), **{name: values[name] for name in used_names}
        )  # an unknown function or prefix shows only now
    except NotMoney:
        pass
    except (etree.XPathError, TypeError, ValueError) as error:
        raise PathError(f"{path!r} is not valid XPath: {error}") from None

    def find(node: Any) -> Any:
        try:
            return compiled(node, **{name: values[name] for name in used_names}) if used_names else compiled(node)
        except NotMoney as error:
            raise PathFailed(str(error)) from None
        except (etree.XPathError, TypeError, ArithmeticError) as error:  # TypeError: too few or many arguments
            raise PathFailed(type(error).__name__) from None

    return find
