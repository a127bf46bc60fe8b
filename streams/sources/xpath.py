"""Functions that XPath 1.0 lacks: exact arithmetic for money, and conditionals.

Results are text. A list of nodes passed as a value counts as its first node.

`add(a, b)`, `subtract(a, b)`, `multiply(a, b)`, `divide(a, b)` (to 12 places; empty if b is 0), `total(nodes)`,
`absolute(a)`, `rounded(a, places)` (half up). Missing and empty values count as 0 in them.
`first(a, b, …)` returns the first value that is not empty; `choose(condition, a, b)` returns a if the condition holds,
otherwise b; `joined(separator, a, b, …)` is empty if any of the values is; `yes(a)` returns whether a flag is set
(true, 1, yes). `same(a, b)` returns whether two amounts differ by less than half a cent.

`unreversed(nodes, marked, key, amount)` returns the nodes without those marked as void, and without the nodes they
reverse: an earlier node with the same key and the opposite amount. `marked`, `key` and `amount` are XPath expressions
relative to each node. A marked node that reverses only part of an earlier, larger amount is kept.

`percentage(tax, net)` returns the only round rate that gives this tax on a net amount to the cent; empty if several do.
"""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

from lxml import etree

from schemas.money import EXACT, NotMoney, any_number
from streams.sources.round_rates import TaxedAmount

_LONG = Context(prec=60, rounding=ROUND_HALF_UP)
_TWELVE_PLACES = Decimal("1e-12")
_NOTHING: list[Any] = []
_HALF_A_CENT = Decimal("0.005")


def _text(value: Any) -> str:
    """Return an XPath value as text: for a list its first node, for a number without an exponent."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # a number that XPath itself computed
        return format(Decimal(str(value)).quantize(_TWELVE_PLACES, context=_LONG), "f") if isfinite(value) else ""
    return "".join(value.itertext()).strip()


def _number(value: Any) -> Decimal:
    text = _text(value)
    return any_number(text) if text else Decimal(0)


def _decimal_text(number: Decimal) -> str:
    return format(number.normalize(_LONG), "f")


def _add(_: Any, a: Any, b: Any) -> str:
    return _decimal_text(EXACT.add(_number(a), _number(b)))


def _subtract(_: Any, a: Any, b: Any) -> str:
    return _decimal_text(EXACT.subtract(_number(a), _number(b)))


def _multiply(_: Any, a: Any, b: Any) -> str:
    return _decimal_text(EXACT.multiply(_number(a), _number(b)))


def _divide(_: Any, a: Any, b: Any) -> Any:
    divisor = _number(b)
    return (
        _decimal_text(_LONG.divide(_number(a), divisor).quantize(_TWELVE_PLACES, context=_LONG))
        if divisor
        else _NOTHING
    )


def _total(_: Any, nodes: Any) -> str:
    result = Decimal(0)
    for node in nodes if isinstance(nodes, list) else [nodes]:
        result = EXACT.add(result, _number(node))
    return _decimal_text(result)


def _absolute(_: Any, a: Any) -> str:
    return _decimal_text(abs(_number(a)))


def _rounded(_: Any, a: Any, places: Any) -> str:
    digits = _number(places)
    if not 0 <= digits <= 12:
        raise NotMoney("out_of_range")
    return _decimal_text(_number(a).quantize(Decimal(1).scaleb(-int(digits)), context=_LONG))


def _first(_: Any, *values: Any) -> Any:
    return next((text for value in values if (text := _text(value))), _NOTHING)


def _choose(_: Any, condition: Any, a: Any, b: Any) -> Any:
    value = a if condition else b
    return _text(value) or _NOTHING


def _joined(_: Any, separator: Any, *values: Any) -> Any:
    texts = [_text(value) for value in values]
    return _text(separator).join(texts) if all(texts) else _NOTHING


def _yes(_: Any, flag: Any) -> bool:
    return _text(flag).lower() in ("true", "1", "yes")


def _same(_: Any, a: Any, b: Any) -> bool:
    return abs(EXACT.subtract(_number(a), _number(b))) < _HALF_A_CENT


class _MarkedNode(NamedTuple):
    """A node that may be void or reversed: whether it is marked, the key of the item it is for, and its amount."""

    node: Any
    is_marked: bool
    key: str
    amount: Decimal

    def takes_back(self, other: "_MarkedNode") -> bool:
        """Return whether this node reverses the other one, or a part of it."""
        return bool(self.key) and self.key == other.key and self.amount * other.amount < 0


def _unreversed(_: Any, nodes: Any, marked: str, key: str, amount: str) -> list[Any]:
    is_marked = _compiled(marked)
    if not any(is_marked(node) for node in nodes):
        return list(nodes)
    key_of, amount_of = _compiled(key), _compiled(amount)
    candidates = [
        _MarkedNode(node, bool(is_marked(node)), _text(key_of(node)), _number(amount_of(node))) for node in nodes
    ]
    removed: set[int] = set()
    paired: set[int] = set()
    for index, candidate in enumerate(candidates):
        if not candidate.is_marked:
            continue
        earlier_matches = [earlier for earlier in range(index - 1, -1, -1) if candidate.takes_back(candidates[earlier])]
        exact_matches = [
            earlier
            for earlier in earlier_matches
            if candidates[earlier].amount == -candidate.amount and earlier not in paired
        ]
        exact_matches.sort(
            key=lambda earlier: not candidates[earlier].is_marked
        )  # prefer an original that is marked as well
        if exact_matches:
            paired.add(exact_matches[0])
            removed |= {index, exact_matches[0]}
        elif not any(
            abs(candidates[earlier].amount) > abs(candidate.amount) and not candidates[earlier].is_marked
            for earlier in earlier_matches
        ):
            removed.add(index)
    return [candidate.node for index, candidate in enumerate(candidates) if index not in removed]


@lru_cache(64)
def _compiled(path: str) -> etree.XPath:
    return etree.XPath(path, extensions={(None, name): function for name, function in FUNCTIONS.items()})


def _percentage(_: Any, tax: Any, net: Any) -> Any:
    amount, tax_amount = abs(_number(net)), abs(_number(tax))
    exponent = tax_amount.as_tuple().exponent
    unit = Decimal(1).scaleb(min(exponent if isinstance(exponent, int) else 0, -2))
    rate = (
        TaxedAmount(amount, tax_amount, False, unit, unit / 2).roundest() if amount and tax_amount <= amount else None
    )
    return _NOTHING if rate is None else _decimal_text(rate)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "total": _total,
    "absolute": _absolute,
    "rounded": _rounded,
    "first": _first,
    "choose": _choose,
    "joined": _joined,
    "yes": _yes,
    "same": _same,
    "unreversed": _unreversed,
    "percentage": _percentage,
}
