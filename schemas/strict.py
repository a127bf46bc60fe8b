"""The types of a record's fields, read as strictly as their published schemas say, and no more strictly.

pydantic alone reads more: `true` as the number 1, "0" as false, 1700000000 and a time without seconds as moments. What
JSON Schema can't tell apart is accepted: 1.0 is the integer 1. A number keeps the digits that it is written with, as
far as it has any meaning: `WrittenFractions` notes where binary floating point may have lost some.
"""

import json
from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_05UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from math import copysign, isfinite
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, GetPydanticSchema, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

#: Begins the last step of a fault's path, where a field may be of two types: each has a fault then.
CHOICE = "#"
_LONGEST = 64
#: A number beyond it has no text of 64 characters. No receipt has one, which `streams.checks` sees to.
_NUMBER_LIMIT = 10**60
_AMOUNT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
#: RFC 3339, from the year 1 on, without leap seconds, which `datetime` does not have.
_MOMENT = (
    r"^([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
)
_OFFSET = r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#: Characters in a row of which floating point can lose some, in a text where `_DIGITS` has made all digits one.
_MANY = b"0" * 17
_DIGITS = bytes(0x30 if chr(code) in "0123456789." else 0x20 for code in range(256))
#: Below it floating point has ever fewer digits.
_NEARLY_ZERO = 1e-300
#: `$` alone lets a line feed follow, where a pattern is run by Python or Perl.
_END = r"(?![\s\S])"


def published(pattern: str) -> str:
    """Return the pattern as it is published: its end is the text's end in every dialect."""
    return pattern.removesuffix("$") + "$" + _END


class WrittenFractions(list[float]):
    """Validation context: the fractions that were read from a JSON text, which may have been written otherwise."""

    def may_be_lost(self, text: str | bytes | bytearray) -> bool:
        """Tell cheaply whether one of the fractions can have been written with digits that it has not."""
        raw = text.encode() if isinstance(text, str) else text
        if raw.translate(_DIGITS).find(_MANY) >= 0:
            return True
        return min(map(abs, self)) < _NEARLY_ZERO and (b"e-" in raw or b"E-" in raw)


def _number(value: Any, info: ValidationInfo) -> Any:
    kind = type(value)
    if kind is float:
        if info.context is not None:
            info.context.append(value)
        if value and -_NUMBER_LIMIT < value < _NUMBER_LIMIT:
            return _written(value)
        if not value:
            return "-0" if copysign(1, value) < 0 else "0"
    elif kind is int:
        if -_NUMBER_LIMIT < value < _NUMBER_LIMIT:
            return str(value)
    else:
        raise PydanticCustomError("string_type", "Input should be a valid string or number")
    if isfinite(value):
        raise PydanticCustomError("string_too_long", "Number should be below 1e60, either way")
    raise PydanticCustomError("string_pattern_mismatch", "Number should be finite")


@lru_cache(4096)  # the prices, quantities and rates of a day
def _written(value: float) -> str:
    text = format(Decimal(repr(value)), "f").removesuffix(".0")
    return text if len(text) <= _LONGEST else repr(value)


def _amount(_source: Any, _handler: Callable[[Any], Any]) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, pattern=_AMOUNT, max_length=_LONGEST)
    number = core_schema.with_info_plain_validator_function(_number)
    as_text = core_schema.simple_ser_schema("str")
    choices: list[Any] = [(text, CHOICE + "text"), (number, CHOICE + "number")]
    return core_schema.union_schema(choices, mode="left_to_right", serialization=as_text)


#: A decimal number as text. Below `money.LIMIT` either way, with no more places than the currency has: `streams.checks`
#: sees to both.
Amount = Annotated[
    str,
    GetPydanticSchema(_amount),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "maxLength": _LONGEST,
            "pattern": published(_AMOUNT),
            "exclusiveMinimum": -_NUMBER_LIMIT,
            "not": {"type": "number", "minimum": _NUMBER_LIMIT},  # which NaN does not pass, where a reader makes one
        }
    ),
]


def _moment(_source: Any, _handler: Callable[[Any], Any]) -> core_schema.CoreSchema:
    text = core_schema.str_schema(strict=True, pattern=f"{_MOMENT}{_OFFSET}?$")  # one without is named as such
    moment = core_schema.datetime_schema(tz_constraint="aware")
    return core_schema.chain_schema([text, moment])


#: A moment with its offset.
Moment = Annotated[
    datetime,
    GetPydanticSchema(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": published(f"{_MOMENT}{_OFFSET}$")}),
]


def _whole(value: Any) -> Any:
    if type(value) is float and value.is_integer():
        return int(value)
    raise PydanticCustomError("int_type", "Input should be a valid integer")


class WholeNumber:
    """Annotate an int as one from `ge` to below `lt`; 1.0 is one, as in JSON Schema, "1" and true are not."""

    def __init__(self, *, ge: int, lt: int) -> None:
        self._ge, self._lt = ge, lt

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        strictly = core_schema.int_schema(strict=True, ge=self._ge, lt=self._lt)
        from_float = core_schema.no_info_before_validator_function(_whole, strictly)
        as_int = core_schema.simple_ser_schema("int")
        choices: list[Any] = [(strictly, CHOICE + "integer"), (from_float, CHOICE + "fraction")]
        return core_schema.union_schema(choices, mode="left_to_right", serialization=as_int)

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "integer", "minimum": self._ge, "exclusiveMaximum": self._lt}


def read_exactly(text: str | bytes | bytearray) -> Any:
    """Return the JSON value of a text that is valid; a fraction that would lose digits is a text."""
    return json.loads(text, parse_float=_exact)


def _exact(text: str) -> float | str:
    value = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return text
    if exact == Decimal(repr(value)):
        return value
    if len(text) <= _LONGEST:
        return text
    # Never rounded to fewer places than the checks refuse.
    return str(Context(prec=40, rounding=ROUND_05UP).plus(exact))
