"""Compiled rules of a contract: functions from a part of a record to a field's value, or to a condition's outcome."""

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

#: Returns the time zone of a store, or None if the store is unknown.
ZoneOf = Callable[[str], ZoneInfo | None]


class EventBuilder:
    """The state of the event under construction, which conversion steps can read."""

    __slots__ = ("_zone_of", "charged_taxes", "currency", "memo", "record", "store", "tree")

    def __init__(self, record: Record, tree: Any, zone_of: ZoneOf) -> None:
        self.record = record
        self.tree = tree
        self.memo: dict[Any, Any] = {}
        self.charged_taxes: list[ChargedTaxes] = []
        self.currency: str | None = None
        self.store: str | None = None
        self._zone_of = zone_of

    @property
    def zone(self) -> ZoneInfo | None:
        """The store's time zone, if both are known."""
        return self._zone_of(self.store) if self.store is not None else None


#: Called with each rule's value as found, and after each step: (path in the contract, `found` or the step, value).
RuleObserver = Callable[[str, str, Any], None]
#: Returns a field's value from a part of the record, or None if it is absent.
FieldGetter = Callable[[Any, EventBuilder], Any]
#: Returns whether a part of a record meets a condition.
PartPredicate = Callable[[Any, Record], bool]


def getter(
    rule: FieldRule, find: PathFinder, converts: list[Conversion], watch: RuleObserver | None, location: str
) -> FieldGetter:
    """Compile a rule, given its compiled path (if it has one) and steps."""
    if rule.value is not None:
        extract: FieldGetter = partial(_constant, rule.value)
    elif rule.header is not None:
        extract = partial(_headers, (rule.header,) if isinstance(rule.header, str) else rule.header)
    elif rule.key:
        extract = _key
    else:
        extract = _at_part(find) if rule.of == "part" else partial(_of_record, find)
    if watch is None:
        return _rule(extract, rule.default, converts)
    extract = _observed(extract, watch, location, "found")
    steps = zip(converts, rule.steps, strict=False)
    converts = [_observed(convert, watch, location, step.word) for convert, step in steps]
    return _observed(_rule(extract, rule.default, converts), watch, location, "result")


def typed(name: str, get: FieldGetter) -> FieldGetter:
    """Wrap the getter of a typed field so that text is converted, as formats such as CSV and XML have nothing else.

    `revision` may be the text of a whole number, `tax_included` may be `true` or `false`. Any other text is left as it
    is, and the event is refused: the step `boolean` lists other words for yes and no.
    """
    converter = _TYPED.get(name)
    if converter is None:
        return get

    def typed_get(part: Any, builder: EventBuilder) -> Any:
        value = get(part, builder)
        return converter(value) if type(value) is str else value

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


def condition(when: Condition, find: PathFinder, watch: RuleObserver | None, location: str) -> PartPredicate:
    """Compile a condition, given its compiled path (if it has one)."""
    extract: Callable[[Any, Record], Any] = lambda part, _: find(part)  # noqa: E731 (same signature as `_header_of`)
    if when.header is not None:
        extract = partial(_header_of, when.header)
    if watch is None:
        return _matches(extract, when)
    return _observed(_matches(_observed(extract, watch, location, "found"), when), watch, location, "holds")


def _matches(find: Callable[[Any, Record], Any], when: Condition) -> PartPredicate:
    if when.one_of is None:
        return lambda part, record: _is_something(find(part, record))
    expected = frozenset((type(value) is bool, str(value)) for value in when.one_of)
    return lambda part, record: (type(value := find(part, record)) is bool, str(value)) in expected


def _rule(find: FieldGetter, default: Any, converts: list[Conversion]) -> FieldGetter:
    def get(part: Any, builder: EventBuilder) -> Any:
        value = find(part, builder)
        if value is None or (type(value) is str and not value.strip()):
            return default
        for convert in converts:
            value = convert(value, builder)
            if value is None:  # the lookup found nothing
                return default
        return str(value) if type(value) is int else value  # an event's codes and amounts are text

    return get


def _observed(
    function: Callable[[Any, Any], Any], watch: RuleObserver, location: str, step: str
) -> Callable[[Any, Any], Any]:
    def watched(value: Any, context: Any) -> Any:
        try:
            result = function(value, context)
        except (ConversionFailed, PathFailed) as fault:
            watch(location, step, fault)
            raise
        watch(location, step, result)
        return result

    return watched


def _constant(value: Any, _part: Any, _making: EventBuilder) -> Any:
    return value


def _at_part(find: PathFinder) -> FieldGetter:
    return lambda part, _: find(part)


def _of_record(find: PathFinder, _part: Any, builder: EventBuilder) -> Any:
    if find not in builder.memo:  # once per event, not once per line
        builder.memo[find] = find(builder.tree)
    return builder.memo[find]


def _headers(names: Sequence[str], _part: Any, builder: EventBuilder) -> str | None:
    values = [_header_of(name, None, builder.record) for name in names]
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    return join_names(present) if any(present) else ""


def _header_of(name: str, _part: Any, record: Record) -> str | None:
    expected = name.lower()  # webhook bridges keep HTTP headers, which are case-insensitive
    value = next((value for header, value in record.headers if header.lower() == expected), None)
    return value.decode(errors="replace") if value is not None else None


def _key(_part: Any, builder: EventBuilder) -> str | None:
    key = builder.record.key
    return key.decode(errors="replace") if key is not None else None


def _is_something(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})
