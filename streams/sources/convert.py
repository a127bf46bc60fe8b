"""The conversion steps of a rule. Error messages name the kind of fault, never the value."""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.codes import GTIN_LENGTHS, bare_code, check_digit_is_right, is_damaged, with_zeros
from schemas.contract import BooleanTexts, CodeTable, ConversionStep, DecimalNumber, ListLookup, TimeFormats
from schemas.money import EXACT, LONGEST, NotMoney, any_number, minor_digits, minor_text, round_half_up
from schemas.time_pattern import fault_of, has_hour, has_offset, whole_numbers
from streams.sources.paths import PathError, json_path


class ConversionContext(Protocol):
    """The parts of the event under construction that a step may read."""

    @property
    def currency(self) -> str | None:
        """The event's currency, if known yet."""
        ...

    @property
    def tree(self) -> Any:
        """The record, or the part of it that the event is built from."""
        ...

    @property
    def memo(self) -> dict[Any, Any]:
        """Results cached for this event, keyed by the function that computed them."""
        ...

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of the event's store; None for a store that the settings don't list."""
        ...


Conversion = Callable[[Any, ConversionContext], Any]
#: Spaces that programs print in numbers: an ordinary one, or one of the two no-break spaces.
_SPACES = "[ \u00a0\u202f]"
Read = TypeVar("Read")
_MAX_CACHED_LENGTH = 64
#: The longest text that is normalised; the texts of an event are shorter. The time for a run of combining marks grows
#: with the square of its length.
_MAX_NORMALISED_LENGTH = 4096


class ConversionFailed(Exception):
    """The value is not written as the contract says; the message is the kind of fault."""


class DamagedCode(ConversionFailed):
    """A code that a spreadsheet has turned into a number or a date."""

    def __init__(self) -> None:
        super().__init__("damaged_by_spreadsheet")


class StepError(Exception):
    """The step is invalid for any value; the message says why."""


def converter(step: ConversionStep) -> Conversion:
    """Compile a step to a function. Raises StepError."""
    return _CONVERTERS[step.name](getattr(step, step.name))


def text_of(value: Any) -> str:
    """Return a scalar as text, decimals without an exponent. Raises ConversionFailed for any other value."""
    if type(value) is str:
        return value
    if type(value) is bool or not isinstance(value, int | float | Decimal):
        raise ConversionFailed("not_a_text_or_number")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _decimal(options: DecimalNumber) -> Conversion:
    point, mark = re.escape(options.point), _SPACES if options.thousands == " " else re.escape(options.thousands)
    if options.thousands == options.point:
        raise StepError("decimal: point and thousands are the same mark")
    # A number with thousands never begins with a zero: 0,755 is a fraction with the other decimal mark.
    whole = rf"(?!0+{mark})\d{{1,3}}(?:{mark}\d{{3}})+|\d+" if options.thousands else r"\d+"
    pattern = re.compile(rf"\s*([+-]?)({whole})?(?:{point}(\d*))?(-?)\s*", re.ASCII)
    bare = _without_signs(options)

    def read(text: str) -> str:
        if len(text) > LONGEST:
            raise ConversionFailed("not_a_decimal")
        text, negative = bare(text)
        match = pattern.fullmatch(text)
        if match is None or not (match[2] or match[3]) or bool(match[1]) + bool(match[4]) + negative > 1:
            raise ConversionFailed("not_a_decimal")
        digits = re.sub(mark, "", match[2] or "0") if mark else match[2] or "0"
        minus = "-" if negative or "-" in (match[1], match[4]) else ""
        return f"{minus}{digits}{'.' + match[3] if match[3] else ''}"

    cached = _cached(read)  # a shop has few distinct prices and quantities

    def convert(value: Any, _: ConversionContext) -> str:
        if type(value) is str:
            return cached(value)
        return text_of(value)

    return convert


def _without_signs(options: DecimalNumber) -> Callable[[str], tuple[str, bool]]:
    """Return a function that removes a sign from a text, and reports whether brackets make it negative."""
    if any(not sign.strip(" .,'_()") or re.search(r"[\d+-]", sign) for sign in options.signs):
        raise StepError("decimal: a sign has no digits, + or -, and consists of more than punctuation and brackets")
    sign = "|".join(re.escape(text.strip()) for text in sorted(options.signs, key=len, reverse=True))
    leading_sign = re.compile(rf"\s*([+-]?)\s*(?:{sign})\s*(.*)", re.DOTALL)
    trailing_sign = re.compile(rf"(.*?)\s*(?:{sign})\s*([+-]?)\s*", re.DOTALL)

    def bare(text: str) -> tuple[str, bool]:
        plain = text.strip() if options.signs or options.brackets else text
        negative = bool(options.brackets) and plain.startswith("(") and plain.endswith(")")
        if negative:
            plain = plain[1:-1]
        if (
            options.signs
            and len(plain) <= _MAX_CACHED_LENGTH
            and (match := leading_sign.fullmatch(plain) or trailing_sign.fullmatch(plain))
        ):
            plain = match[1] + match[2]
        return plain, negative

    return bare


def _cached(read: Callable[[str], Read]) -> Callable[[str], Read]:
    """Cache a function's results for short texts; longer ones aren't numbers or times, and would waste memory."""
    cached = lru_cache(4096)(read)
    return lambda text: cached(text) if len(text) <= _MAX_CACHED_LENGTH else read(text)


def _number(value: Any) -> Decimal:
    try:
        return any_number(text_of(value))
    except NotMoney as fault:
        raise ConversionFailed(str(fault)) from None


def _minor_units(currency: bool | str) -> Conversion:
    fixed = None if currency is True else minor_digits(str(currency))
    if currency is not True and fixed is None:
        raise StepError(f"minor_units: {currency} is not an ISO 4217 currency")

    def convert(value: Any, context: ConversionContext) -> str:
        digits = fixed if fixed is not None else minor_digits(context.currency or "")
        if digits is None:
            raise ConversionFailed("unknown_currency")
        if type(value) is not int:
            number = _number(value)
            if number != number.to_integral_value():
                raise ConversionFailed("not_whole")
            value = int(number)
        return minor_text(value, digits)

    return convert


def _multiply(factor: str) -> Conversion:
    try:
        multiplier = any_number(factor)  # so that the product is exact
    except NotMoney:
        raise StepError(f"multiply: {factor!r} is not a number, or has more than 28 digits") from None
    return lambda value, _: format(EXACT.multiply(_number(value), multiplier).normalize(EXACT), "f")


def _round(value: Any, context: ConversionContext) -> str:
    digits = minor_digits(context.currency or "")
    if digits is None:
        raise ConversionFailed("unknown_currency")
    return format(Decimal(round_half_up(EXACT.scaleb(_number(value), digits))).scaleb(-digits), "f")


def _time(options: TimeFormats) -> Conversion:
    readers = [_READERS.get(form) or _pattern(form) for form in options.formats]
    patterns = [read for form, read in zip(options.formats, readers, strict=True) if form not in _READERS]
    _check_zone(options)
    if options.zone == "store":
        fixed_zone = None
    else:
        try:
            fixed_zone = ZoneInfo(options.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise StepError(
                f"time: {options.zone!r} is not a time zone; use a name like Europe/Berlin, or store"
            ) from None

    def convert(value: Any, context: ConversionContext) -> str:
        for read in readers:
            moment = read(value)
            if moment is not None:
                break
        else:
            raise ConversionFailed("not_a_time")
        if len(patterns) > 1 and any(other not in (None, moment) for other in (read(value) for read in patterns)):
            raise ConversionFailed("ambiguous_time")
        if moment.tzinfo is None:
            zone = fixed_zone or context.zone
            if zone is None:
                raise ConversionFailed("local_time_of_unknown_store")
            try:
                moment = _aware(moment, zone, options)
            except OverflowError:  # within a day of the first or last representable date
                raise ConversionFailed("time_out_of_range") from None
        return moment.isoformat()

    return convert


def _check_zone(options: TimeFormats) -> None:
    """Raise StepError for a `zone`, `fold` or `gap` that would have no effect with these formats."""
    unused = sorted(options.model_fields_set & {"zone", "fold", "gap"}, reverse=True)
    if unused and all(form in _INSTANTS or has_offset(form) for form in options.formats):
        raise StepError(
            f"time: leave out {', '.join(unused)}: {', '.join(options.formats)} already determines the moment; or, if "
            "the source counts or writes local time, use a format without an offset (`excel` for days since 1900)"
        )


def _aware(local: datetime, zone: ZoneInfo, options: TimeFormats) -> datetime:
    moment = local.replace(tzinfo=zone, fold=options.fold == "later")
    round_trip = moment.astimezone(UTC).astimezone(zone)
    if round_trip.replace(tzinfo=None, fold=0) != local.replace(fold=0):  # this local time does not exist
        if options.gap == "reject":
            raise ConversionFailed("time_in_gap")
        return local.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)
    return moment


def _iso(value: Any) -> datetime | None:
    if type(value) is not str or len(value) > LONGEST:
        return None
    text = value.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if len(text) > _LONGEST_DATE else moment + _NOON


def _epoch(unit: int) -> Callable[[Any], datetime | None]:
    start = datetime(1970, 1, 1, tzinfo=UTC)

    def read(value: Any) -> datetime | None:
        try:
            number = _number(value)
            return start + timedelta(microseconds=int(number * 1_000_000 / unit))
        except (ConversionFailed, OverflowError):
            return None

    return read


def _excel(value: Any) -> datetime | None:
    """Read a spreadsheet's date: days since 1900 in local time, to the millisecond, as finer digits are noise."""
    try:
        number = _number(value)
    except ConversionFailed:
        return None
    if not _EXCEL_FIRST <= number < _EXCEL_END:
        return None
    moment = _EXCEL_START + timedelta(milliseconds=int((number * 86_400_000).to_integral_value()))
    return moment if number % 1 else moment + _NOON


def _pattern(pattern: str) -> Callable[[Any], datetime | None]:
    if "%" not in pattern:
        raise StepError(
            f"time: {pattern!r} is not a format; use iso, epoch_s, epoch_ms, excel, or a pattern such as %d/%m/%Y"
        )
    try:
        datetime.strptime("", pattern)  # noqa: DTZ007 (only to validate the pattern)
    except ValueError as error:
        if "does not match" not in str(error):
            raise StepError(f"time: {pattern!r}: {error}") from None
    except re.error:
        raise StepError(f"time: {pattern!r} has the same field twice") from None
    fault = fault_of(pattern)
    if fault is not None:
        raise StepError(f"time: {pattern!r}: {fault}")
    whole, time_of_day = whole_numbers(pattern), timedelta(0) if has_hour(pattern) else _NOON

    def read(text: str) -> datetime | None:
        if len(text) > LONGEST:
            return None
        try:
            moment = datetime.strptime(text.strip(), pattern)  # noqa: DTZ007 (local times become aware in `_aware`)
        except ValueError:
            return None
        if whole is not None and whole.fullmatch(text.strip()) is None:
            return None
        return moment + time_of_day

    cached = _cached(read)  # strptime takes 5 µs, and all receipts of a minute share a time
    return lambda value: cached(value) if type(value) is str else None


_READERS: dict[str, Callable[[Any], datetime | None]] = {
    "iso": _iso,
    "epoch_s": _epoch(1),
    "epoch_ms": _epoch(1000),
    "excel": _excel,
}
#: Formats that count from a fixed instant, independent of the zone.
_INSTANTS = ("epoch_s", "epoch_ms")
#: Day 0 for dates since March 1900; earlier dates are off by one, as spreadsheets have a 29 February 1900.
_EXCEL_START = datetime(1899, 12, 30)  # noqa: DTZ001 (local times become aware in `_aware`)
_EXCEL_FIRST, _EXCEL_END = 61, 2_958_466
#: A date without a time of day means noon, so that the business date is that day whatever the store's cut-off.
_NOON = timedelta(hours=12)
_LONGEST_DATE = len("2026-03-10")


def _codes(codes: CodeTable) -> Conversion:
    def convert(value: Any, _: ConversionContext) -> Any:
        code = str(value).lower() if isinstance(value, bool) else text_of(value)
        result = codes.table.get(code)
        if result is None:
            result = codes.table.get(_whole(code), codes.otherwise)
        if result is None:
            raise ConversionFailed("unknown_code")
        return result

    return convert


def _boolean(options: BooleanTexts) -> Conversion:
    table = {word.lower(): True for word in options.yes} | {word.lower(): False for word in options.no}

    def convert(value: Any, _: ConversionContext) -> bool:
        if type(value) is bool:
            return value
        result = table.get(text_of(value).strip().lower())
        if result is None:
            raise ConversionFailed("not_a_boolean")
        return result

    return convert


def _trimmed(value: Any, _: ConversionContext) -> str:
    text = text_of(value)
    if text.isascii() or len(text) > _MAX_NORMALISED_LENGTH:
        return text.strip()
    return unicodedata.normalize("NFC", text).strip()


#: Full-width forms of ASCII, and the ideographic space.
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def _half_width(value: Any, context: ConversionContext) -> str:
    return _trimmed(text_of(value).translate(_HALF_WIDTH), context)


def _whole(code: str) -> str:
    """Return a code without a spreadsheet's quoting. Raises DamagedCode."""
    bare = bare_code(code)
    if is_damaged(bare):
        raise DamagedCode
    return bare


def _gtin(mode: str) -> Conversion:
    def convert(value: Any, _: ConversionContext) -> str:
        code = _whole(text_of(value))
        code = code.removesuffix(".0")  # some programs write number columns with gaps as decimals
        if not (code.isascii() and code.isdigit()) or len(code) > max(GTIN_LENGTHS):
            raise ConversionFailed("not_a_gtin")
        code = with_zeros(code)
        if len(code) not in GTIN_LENGTHS:
            raise ConversionFailed("not_a_gtin")
        if not check_digit_is_right(code):
            raise ConversionFailed("wrong_check_digit")
        return code.zfill(14) if mode == "to_14" else code

    return convert


def _sign(mode: str) -> Conversion:
    if mode == "absolute":
        return lambda value, _: format(abs(_number(value)), "f")
    return lambda value, _: format(EXACT.minus(_number(value)), "f")


def _lookup(options: ListLookup) -> Conversion:
    try:
        rows, row_key, take = json_path(options.rows), json_path(options.by), json_path(options.take)
    except PathError as fault:
        raise StepError(f"lookup: {fault}") from None

    def convert(value: Any, context: ConversionContext) -> Any:
        index = context.memo.get(convert)
        if index is None:
            candidates = rows(context.tree)
            listed_rows = candidates if isinstance(candidates, list) else []
            index = context.memo[convert] = {
                str(key): row for row in reversed(listed_rows) if (key := row_key(row)) is not None
            }
        key = text_of(value)
        if is_damaged(key):  # several rows may share a damaged key, and the first would win
            raise DamagedCode
        row = index.get(key)
        return None if row is None else take(row)

    return convert


_REVISIONS_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)


def _revision(_: str) -> Conversion:
    def convert(value: Any, _: ConversionContext) -> int:
        moment = _iso(value)
        if moment is None or moment.tzinfo is None:
            raise ConversionFailed("not_a_time")
        return (moment - _REVISIONS_BEGIN) // timedelta(seconds=1)

    return convert


_CONVERTERS: dict[str, Callable[[Any], Conversion]] = {
    "decimal": _decimal,
    "minor_units": _minor_units,
    "multiply": _multiply,
    "round": lambda _: _round,
    "time": _time,
    "codes": _codes,
    "boolean": _boolean,
    "text": lambda mode: _trimmed if mode == "trim" else _half_width,
    "gtin": _gtin,
    "sign": _sign,
    "lookup": _lookup,
    "revision": _revision,
}
