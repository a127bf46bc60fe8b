"""Detect schemas with which a few bytes could crash a worker or send it to another address; keep values exact."""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

_NAMED = ("record", "error", "enum", "fixed")
#: The most digits of a decimal that are read: the time of a conversion grows with the square of their number.
MAX_DIGITS = 1_000
_EXACT = Context(prec=MAX_DIGITS)


class WrongDecimal(Exception):
    """The bytes are not a decimal of the schema's precision; the message is the kind of fault."""


def exact_decimal(data: Any, writer_schema: dict[str, Any] | None = None, reader_schema: Any = None) -> Decimal:
    """Return an Avro decimal, digit for digit. Raises WrongDecimal if it exceeds the precision that the schema states.

    The length of the bytes is checked before they are converted to a number.
    """
    schema = writer_schema or {}
    precision = min(int(schema["precision"]), MAX_DIGITS)
    significant = data.lstrip(b"\xff" if data[:1] >= b"\x80" else b"\0")
    if len(significant) * 2 > precision + 1:  # a byte is 2.4 digits
        raise WrongDecimal("more_digits_than_its_precision")
    unscaled = int.from_bytes(data, signed=True)
    if abs(unscaled) >= 10**precision:
        raise WrongDecimal("more_digits_than_its_precision")
    return Decimal(unscaled).scaleb(-int(schema.get("scale", 0)), _EXACT)


def hazard(schema: str, referenced: Iterable[str] = ()) -> str | None:
    """Return a code for why records with this Avro schema are refused, or None if the schema is safe.

    A recursive schema may nest one level per byte, and an array whose items take no bytes may claim any length.
    """
    try:
        root = json.loads(schema)
        parts = [part for text in (*referenced, schema) for part in _parts(json.loads(text)) if isinstance(part, dict)]
        named = {_short(part["name"]): part for part in parts if part.get("type") in _NAMED}
        if _recurs(root, named, frozenset()):
            return "is_recursive"
        decimals = [
            part for part in parts if part.get("logicalType") == "decimal" and part.get("type") in ("bytes", "fixed")
        ]
        if not all(map(_is_decimal, decimals)):
            return "has_no_usable_decimal"
        items = [part.get("items") for part in parts if part.get("type") == "array"]
        return "has_items_without_bytes" if any(_is_empty(item, named) for item in items) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "is_no_avro_schema"


def remote_reference(schema: str, known: Iterable[str] = ()) -> str | None:
    """Return a code for why records with this JSON Schema are refused, or None: it must not refer to other addresses.

    `known` are the names of the schemas that the registry lists as its references.
    """
    try:
        parts = [part for part in _parts(json.loads(schema)) if isinstance(part, dict)]
    except (ValueError, RecursionError):
        return "is_no_json_schema"
    names = {*known, *(str(part[key]).partition("#")[0] for part in parts for key in ("$id", "id") if key in part)}
    for part in parts:
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            base = str(part.get(key, "")).partition("#")[0]
            if "://" in base and base not in names and not base.startswith(_META):
                return "refers_to_another_address"
    return None


#: The meta-schemas, which the library includes.
_META = ("http://json-schema.org/", "https://json-schema.org/")


def _short(name: str) -> str:
    """Return a name without its namespace: types with the same short name count as one, which errs on the safe side."""
    return name.rpartition(".")[2]


def _parts(schema: Any) -> Iterator[Any]:
    """Yield a schema and all of its parts."""
    yield schema
    inner: Iterable[Any] = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inner:
        yield from _parts(part)


def _recurs(schema: Any, named: dict[str, Any], within: frozenset[str]) -> bool:
    if isinstance(schema, list):
        return any(_recurs(part, named, within) for part in schema)
    if isinstance(schema, str):
        name = _short(schema)
        return name in within or (name in named and _recurs(named[name], named, within))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") in ("record", "error"):
        within |= {_short(str(schema.get("name")))}
        return any(_recurs(field.get("type"), named, within) for field in schema["fields"])
    return any(_recurs(schema.get(inner), named, within) for inner in ("type", "items", "values"))


def _is_decimal(part: dict[str, Any]) -> bool:
    """Return whether precision and scale are valid for a decimal."""
    precision, scale = part.get("precision"), part.get("scale", 0)
    return type(precision) is int and type(scale) is int and 0 <= scale <= precision and precision > 0


def _is_empty(schema: Any, named: dict[str, Any]) -> bool:
    """Return whether values of a schema, which must not be recursive, take no bytes."""
    if isinstance(schema, str):
        return schema == "null" or (_short(schema) in named and _is_empty(named[_short(schema)], named))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") in ("record", "error"):
        return all(_is_empty(field.get("type"), named) for field in schema["fields"])
    return schema.get("type") == "null" or (schema.get("type") == "fixed" and not schema.get("size"))


class WrittenNumber(float):
    """A JSON number that keeps its original text: it is validated as a number, and exact as text."""

    text: str

    def __new__(cls, text: str) -> "WrittenNumber":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __truediv__(self, other: float) -> Any:
        """Divide exactly, for `multipleOf`: in binary floating point, 19.99 isn't a multiple of 0.01."""
        return Decimal(self.text) / Decimal(repr(other))


def tree(value: Any) -> Any:
    """Convert a deserializer's result to JSON values, with decimals, floating point numbers and times as text."""
    if isinstance(value, dict):
        return {name: tree(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [tree(inner) for inner in value]
    if isinstance(value, WrittenNumber):
        return value.text
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
