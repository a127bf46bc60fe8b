"""What XPath 1.0 lacks: exact arithmetic on money, and choices. Results are text; a list of nodes counts as its first.

`add(a, b)`, `subtract(a, b)`, `multiply(a, b)`, `divide(a, b)` (to 12 places; nothing where b is 0), `total(nodes)`,
`absolute(a)`, `rounded(a, places)` (half up). What is not there, or is empty, counts as 0 in them.
`first(a, b, …)` is the first that is there and not empty; `choose(condition, a, b)` is a where the condition holds,
else b; `joined(mark, a, b, …)` is nothing where one of them is empty; `yes(a)` is whether a flag is set (true, 1, yes).
`same(a, b)` is whether two amounts are less than half a cent apart.

`unreversed(nodes, marked, key, amount)` is the nodes without those that are marked as void, and without those that a
marked one takes back: an earlier node of the same key and the opposite amount. `marked`, `key` and `amount` are XPath,
from each node. Of an earlier node of a larger amount a marked one takes back a part, and stays.

`percentage(tax, net)` is the one round rate that gives a tax of a net amount to the cent; nothing where there are more.
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
    """The text of a value of XPath: of the first node, of a number without an exponent."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # what XPath has computed itself
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
    """A node that may be void: whether it is marked, what it is of, and its amount."""

    node: Any
    is_marked: bool
    key: str
    amount: Decimal

    def takes_back(self, other: "_MarkedNode") -> bool:
        """Whether it takes back the other one, or a part of it."""
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
        )  # an original that is marked too goes first
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
