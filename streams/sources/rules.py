"""A contract's rules made ready: from a part of a record to a field's value, or to whether a condition holds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from schemas.contract import Condition, FieldRule
from schemas.money import NotMoney, any_number
from schemas.reference import join_names
from streams.batch import Record
from streams.sources.convert import Conversion, ConversionFailed
from streams.sources.jmes import PathFinder
from streams.sources.paths import PathFailed
from streams.sources.taxes import ChargedTaxes

#: The time zone of a store, or None where it is unknown.
ZoneOf = Callable[[str], ZoneInfo | None]


class EventBuilder:
    """The event in the making, as its steps see it."""

    __slots__ = ("_zone_of", "charged", "currency", "memo", "record", "store", "tree")

    def __init__(self, record: Record, tree: Any, zone_of: ZoneOf) -> None:
        self.record = record
        self.tree = tree
        self.memo: dict[Any, Any] = {}
        self.charged: list[ChargedTaxes] = []
        self.currency: str | None = None
        self.store: str | None = None
        self._zone_of = zone_of

    @property
    def zone(self) -> ZoneInfo | None:
        """The store's time zone, if both are known."""
        return self._zone_of(self.store) if self.store is not None else None


#: Told of each rule's value as it is found and after each step: (place in the contract, `found` or the step, value).
RuleObserver = Callable[[str, str, Any], None]
#: From a part of the record to a field's value; None: absent.
FieldGetter = Callable[[Any, EventBuilder], Any]
#: Whether a part of a record is as a condition says.
PartPredicate = Callable[[Any, Record], bool]


def getter(
    rule: FieldRule, find: PathFinder, converts: list[Conversion], watch: RuleObserver | None, here: str
) -> FieldGetter:
    """The rule, with its path (if it has one) and its steps made ready."""
    if rule.value is not None:
        found: FieldGetter = partial(_constant, rule.value)
    elif rule.header is not None:
        found = partial(_headers, (rule.header,) if isinstance(rule.header, str) else rule.header)
    elif rule.key:
        found = _key
    else:
        found = _at(find) if rule.of == "part" else partial(_of_record, find)
    if watch is None:
        return _rule(found, rule.default, converts)
    found = _watched(found, watch, here, "found")
    steps = zip(converts, rule.steps, strict=False)
    converts = [_watched(convert, watch, here, step.word) for convert, step in steps]
    return _watched(_rule(found, rule.default, converts), watch, here, "result")


def typed(name: str, get: FieldGetter) -> FieldGetter:
    """The rule of a field of that name, whose texts become the field's type, where texts are all that a record has.

    `revision` may be the text of a whole number, `tax_included` may be `true` or `false`. Any other text stays one, and
    the event is refused: what else means yes says the step `boolean`.
    """
    make = _TYPED.get(name)
    if make is None:
        return get

    def typed_get(part: Any, making: EventBuilder) -> Any:
        value = get(part, making)
        return make(value) if type(value) is str else value

    return typed_get


def _whole(text: str) -> int | str:
    try:
        number = any_number(text.strip())
    except NotMoney:
        return text
    return int(number) if number == number.to_integral_value() else text


_TYPED: dict[str, Callable[[str], Any]] = {
    "revision": _whole,
    "tax_included": lambda text: {"true": True, "false": False}.get(text, text),
}


def condition(when: Condition, find: PathFinder, watch: RuleObserver | None, here: str) -> PartPredicate:
    """The condition, with its path (if it has one) made ready."""
    found: Callable[[Any, Record], Any] = lambda part, _: find(part)  # noqa: E731 (the same shape as the other one)
    if when.header is not None:
        found = partial(_header_of, when.header)
    if watch is None:
        return _holds(found, when)
    return _watched(_holds(_watched(found, watch, here, "found"), when), watch, here, "holds")


def _holds(found: Callable[[Any, Record], Any], when: Condition) -> PartPredicate:
    if when.one_of is None:
        return lambda part, record: _is_something(found(part, record))
    wanted = frozenset((type(value) is bool, str(value)) for value in when.one_of)
    return lambda part, record: (type(value := found(part, record)) is bool, str(value)) in wanted


def _rule(found: FieldGetter, default: Any, converts: list[Conversion]) -> FieldGetter:
    def get(part: Any, making: EventBuilder) -> Any:
        value = found(part, making)
        if value is None or (type(value) is str and not value.strip()):
            return default
        for convert in converts:
            value = convert(value, making)
            if value is None:  # looked up in vain
                return default
        return str(value) if type(value) is int else value  # an event's codes and amounts are texts

    return get


def _watched(do: Callable[[Any, Any], Any], watch: RuleObserver, here: str, step: str) -> Callable[[Any, Any], Any]:
    def watched(value: Any, around: Any) -> Any:
        try:
            result = do(value, around)
        except (ConversionFailed, PathFailed) as fault:
            watch(here, step, fault)
            raise
        watch(here, step, result)
        return result

    return watched


def _constant(value: Any, _part: Any, _making: EventBuilder) -> Any:
    return value


def _at(find: PathFinder) -> FieldGetter:
    return lambda part, _: find(part)


def _of_record(find: PathFinder, _part: Any, making: EventBuilder) -> Any:
    if find not in making.memo:  # once an event, not once a line
        making.memo[find] = find(making.tree)
    return making.memo[find]


def _headers(names: Sequence[str], _part: Any, making: EventBuilder) -> str | None:
    values = [_header_of(name, None, making.record) for name in names]
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return None
    return join_names(there) if any(there) else ""


def _header_of(name: str, _part: Any, record: Record) -> str | None:
    wanted = name.lower()  # webhook bridges keep HTTP's headers, whose case means nothing
    value = next((value for header, value in record.headers if header.lower() == wanted), None)
    return value.decode(errors="replace") if value is not None else None


def _key(_part: Any, making: EventBuilder) -> str | None:
    key = making.record.key
    return key.decode(errors="replace") if key is not None else None


def _is_something(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})
