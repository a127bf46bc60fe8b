"""No conversion changes a digit, and nothing that one record holds takes long to read: it is exact, or refused."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Context, Decimal, localcontext
from io import BytesIO
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from schemas.contract import FieldRule
from schemas.dead_letter import Reason
from schemas.money import NotMoney, any_number, minor_text, parse_minor
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.sources.convert import ConversionFailed, converter
from streams.sources.formats import MAX_OBJECTS, UnreadableRecord, parse_json
from streams.sources.paths import PathFailed, json_path
from streams.sources.safe_schemas import MAX_DIGITS, WrittenNumber, WrongDecimal, exact_decimal, hazard, tree
from tests.support.events import NOON, batch, event

pytest.importorskip("fastavro", reason="needs the extra `registry`")

HUGE = 16 * 2**20
#: Seconds of CPU for one record: a worker may be on a small machine, next to others.
BRIEF = 2.0


class StepContext:
    """A conversion context with a currency and nothing else."""

    currency: str | None = "EUR"
    tree: Any = None
    zone: Any = None

    def __init__(self) -> None:
        self.memo: dict[Any, Any] = {}


@contextmanager
def briefly() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < BRIEF


def step(**how: Any) -> Callable[[Any], Any]:
    (one,) = FieldRule.model_validate({"path": "x", "as": how}).steps
    convert = converter(one)
    return lambda value: convert(value, StepContext())


def unscaled_bytes(number: int, padding: int = 0) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1 + padding, signed=True)


@given(st.integers(-(10**40), 10**40), st.integers(1, 38), st.integers(0, 38), st.integers(0, 3))
@example(12345678901, 10, 2, 0)
def test_avro_decimal_is_exact_or_refused(unscaled: int, precision: int, scale: int, padding: int) -> None:
    schema = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    if abs(unscaled) >= 10**precision:
        with pytest.raises(WrongDecimal):
            exact_decimal(unscaled_bytes(unscaled, padding), schema)
    else:
        read = exact_decimal(unscaled_bytes(unscaled, padding), schema)
        assert read.as_tuple() == Decimal(unscaled).scaleb(-scale, Context(prec=100)).as_tuple()
        assert Decimal(tree(read)) == read


def test_avro_decimal_of_any_length_is_refused_at_once() -> None:
    for precision in (1, 10, 10**9):
        with briefly(), pytest.raises(WrongDecimal):
            exact_decimal(b"\x7f" * HUGE, {"precision": precision, "scale": 2})
    with briefly():
        assert exact_decimal(b"\0" * HUGE + b"\7", {"precision": 3, "scale": 2}) == Decimal("0.07")
    assert exact_decimal(unscaled_bytes(10**MAX_DIGITS - 1), {"precision": 10**6}) == 10**MAX_DIGITS - 1


@pytest.mark.parametrize("facts", [{}, {"precision": 0}, {"precision": 2, "scale": 3}, {"precision": 9, "scale": -1}])
def test_avro_schema_with_an_impossible_decimal_is_refused(facts: dict[str, int]) -> None:
    field = {"name": "gross", "type": {"type": "bytes", "logicalType": "decimal", **facts}}
    assert hazard(json.dumps({"type": "record", "name": "R", "fields": [field]})) == "has_no_usable_decimal"


@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,20})?\Z"))
def test_json_numbers_are_the_digits_that_were_written(text: str) -> None:
    assert str(parse_json(text.encode())) == (text if text != "-0" else "0")
    assert tree(parse_json(text.encode(), WrittenNumber)) == (text if "." in text else int(text))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**20), max_value=10**20))
def test_numbers_of_text_keep_every_digit(number: Decimal) -> None:
    text = format(number, "f")
    grouped = format(number, ",f")
    assert step(decimal={})(text) == text
    assert step(decimal={"thousands": ","})(grouped) == text
    german = grouped.translate(str.maketrans(",.", ".,"))
    assert step(decimal={"point": ",", "thousands": "."})(german) == text
    assert Decimal(step(sign="negate")(text)) == number.copy_negate()
    assert Decimal(step(multiply="0.01")(text)) == Decimal(text).scaleb(-2, Context(prec=60))
    assert Decimal(json_path("add(@, `0`)")(text)) == number
    assert Decimal(json_path("total([@, '0.00'])")(text)) == number


@given(st.integers(-(10**24), 10**24), st.sampled_from([0, 2, 3]))
def test_minor_units_keep_every_digit(minor: int, digits: int) -> None:
    with localcontext(Context(prec=80)):
        assert Decimal(minor_text(minor, digits)).scaleb(digits) == minor
    if abs(minor) < 10**12:
        assert parse_minor(minor_text(minor, digits), digits) == minor
    assert step(minor_units="EUR")(minor) == minor_text(minor, 2)


@given(st.integers(0, 10**11), st.integers(0, 10**6 - 1))
@example(12345678901, 123456)
def test_json_numbers_of_canonical_records_keep_every_digit(whole: int, places: int) -> None:
    price = f"{whole}.{places:06}"
    plain = json.dumps(event()).replace('"unit_price": "', '"unit_price": "@')
    before, _, after = plain.partition('"@')
    raw = f"{before}{price}{after[after.index(chr(34)) + 1 :]}".encode()
    arrivals, rejections, _ = decode(batch(raw))
    assert not rejections
    assert Decimal(arrivals[0].event.lines[0]["unit_price"]) == Decimal(price)


LONG_TEXTS = (
    " " * HUGE, "1" * HUGE, "1," * (HUGE // 2), "1,111" * (HUGE // 5), "-" * HUGE, "(" * HUGE, "€ " * (HUGE // 2),
    " " * HUGE + "x", "1" + " " * HUGE + "x", "0." + "0" * HUGE, "1e999999999", "0e-999999999", "1e-999999999",
    "e\u0301" + "\u0315\u0300" * 1_000_000, "\0" * HUGE,
)  # fmt: skip
STEPS: tuple[dict[str, Any], ...] = (
    {"decimal": {}},
    {"decimal": {"thousands": ","}},
    {"decimal": {"thousands": " ", "point": ","}},
    {"decimal": {"signs": ["€", "EUR"], "brackets": "negative"}},
    {"minor_units": "EUR"},
    {"multiply": "0.01"},
    {"sign": "negate"},
    {"sign": "absolute"},
    {"time": {"formats": ["iso", "epoch_s", "epoch_ms", "%d/%m/%Y %H:%M"], "zone": "UTC"}},
    {"text": "trim"},
    {"text": "half_width"},
    {"gtin": "check"},
    {"boolean": {"yes": ["y"], "no": ["n"]}},
    {"revision": "time"},
)


@pytest.mark.parametrize("how", STEPS, ids=lambda how: "-".join(how))
def test_step_ends_soon_whatever_the_text(how: dict[str, Any]) -> None:
    convert = step(**how)
    for text in LONG_TEXTS:
        with briefly(), suppress(ConversionFailed, ArithmeticError):
            convert(text)


@pytest.mark.parametrize("path", ["@", "add(@, `1`)", "rounded(@, `2`)", "to_number(@)", "sum([@, @, @])"])
def test_path_ends_soon_whatever_the_number(path: str) -> None:
    for value in (10**4299, "1" * HUGE, "0." + "0" * HUGE, "1e999999999", "0e-999999999", -(10**4000)):
        with briefly(), suppress(PathFailed):
            found = json_path(path)(value)
            assert not isinstance(found, int) or len(str(found)) < 100


@pytest.mark.parametrize(
    "raw",
    [b"1" * 100_000, b"[" * HUGE, b'{"a":' * (HUGE // 5), b"[" + b"{}," * (HUGE // 3) + b"{}]", b'"' + b"\\" * HUGE],
    ids=["digits", "lists", "objects", "many objects", "a text"],
)
def test_json_ends_soon_whatever_it_is(raw: bytes) -> None:
    with briefly(), pytest.raises(UnreadableRecord):
        parse_json(raw)
    with briefly():
        assert decode(batch(raw))[1]


def test_more_objects_than_any_receipt_has_are_refused_in_fields_that_nobody_reads() -> None:
    raw = json.dumps(event()).encode()[:-1] + b', "more": [' + b"{}," * MAX_OBJECTS + b'{}], "more": 1}'
    with briefly():
        (rejection,) = decode(batch(raw))[1]
    assert (rejection.reason, rejection.detail) == (Reason.INVALID_JSON, "too_many_objects")


def test_record_of_too_many_objects_keeps_no_other_from_being_read() -> None:
    raw = json.dumps(event()).encode()
    large = raw[:-1] + b', "more": [' + b"{}," * MAX_OBJECTS + b"{}]}"
    arrivals, rejections, _ = decode(Batch("pos.sales", 0, [*batch(large).records, *batch(raw).records]))
    assert (len(arrivals), len(rejections)) == (1, 1)


@pytest.mark.parametrize("zero", ["0e-99999999", "0e99999999", "0E-40", "-0e-999999"])
@pytest.mark.parametrize("field", ["unit_price", "quantity", "tax_rate"])
def test_zero_with_millions_of_places_is_a_zero(field: str, zero: str) -> None:
    plain = event()
    plain["lines"] = [{"sku": "A", "quantity": "1", "unit_price": "1", "tax_rate": "0", "amount": "0.00", field: zero}]
    if field == "tax_rate":
        plain["lines"][0]["amount"] = "1.00"
    plain["totals"] = {"gross": plain["lines"][0]["amount"]}
    plain["tenders"] = []
    with briefly():
        sound, held = check(decode(batch(json.dumps(plain).encode()))[0], NOON)
        assert not held
        line = sound[0].lines[0]
        shown = [format(value, "f") for value in (line.quantity, line.unit_price, line.tax_rate)]
    assert max(map(len, shown)) < 20


@settings(max_examples=200)
@given(st.text("0123456789eE+-. ,()", max_size=400))
def test_any_number_is_the_number_or_refused(text: str) -> None:
    try:
        number = any_number(text)
    except NotMoney:
        return
    assume(text.strip())
    assert number == Decimal(text)


def test_avro_record_with_an_oversized_decimal_is_refused_and_the_next_one_read() -> None:
    from fastavro import parse_schema, schemaless_reader, schemaless_writer
    from fastavro.read import LOGICAL_READERS

    from tests.unit.sources.test_schema_registry import readers

    readers()  # which put the exact conversion in
    assert LOGICAL_READERS["bytes-decimal"] is LOGICAL_READERS["fixed-decimal"] is exact_decimal
    plain = {"type": "record", "name": "R", "fields": [{"name": "gross", "type": "bytes"}]}
    stated = parse_schema(
        {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "gross", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}
            ],
        }
    )

    def read(unscaled: bytes) -> Any:
        stream = BytesIO()
        schemaless_writer(stream, plain, {"gross": unscaled})
        stream.seek(0)
        return schemaless_reader(stream, stated, None)

    with briefly(), pytest.raises(WrongDecimal):
        read(b"\x01" * 900_000)
    with pytest.raises(WrongDecimal):
        read(unscaled_bytes(12345678901))
    assert read(unscaled_bytes(123456789)) == {"gross": Decimal("1234567.89")}
