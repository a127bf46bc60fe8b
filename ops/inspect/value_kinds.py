"""Classify a single value, with every way to read it, so that a column can pick the one that fits all its values."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

from schemas.money import minor_digits

Kind = Literal["integer", "decimal", "boolean", "time", "text"]
#: (point, thousands), the likeliest first.
Marks = tuple[str, str]
MARKS: tuple[Marks, ...] = (
    (".", ""),
    (",", ""),
    (".", ","),
    (",", "."),
    (",", " "),
    (".", " "),
    (".", "'"),
    (",", "'"),
)

_MAX_LENGTH = 64  # characters of a number or a time; anything longer is text
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)", re.ASCII)
_WITH_MARKS = re.compile(r"[+-]?[\d.,' ]*\d[\d.,' ]*", re.ASCII)
#: Currency before or after an amount: its symbol, its code, or a common abbreviation.
_SIGN = r"(?:[A-Z]{0,3}[$€£¥₹₩₽₺₴₫₪₱฿₦₡₲₵₸₾]|[A-Z]{3}|kr\.?|zł|Kč|Ft|Fr\.|Rs\.?|元|円)"
_SIGN_BEFORE = re.compile(rf"([+-]?)({_SIGN})\s*([+-]?[\d.,].*)")
_SIGN_AFTER = re.compile(rf"([+-]?[\d.,].*?)\s*({_SIGN})")
_BOOLEANS = frozenset(("true", "false", "yes", "no", "y", "n"))
_TIME = re.compile(
    r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})"
    r"(?:([ T])(\d{1,2}):(\d{2})(?::(\d{2})([.,]\d+)?)?( ?[AaPp][Mm])?\s*(Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)


def _pattern(marks: Marks) -> re.Pattern[str]:
    point, thousands = map(re.escape, marks)
    whole = rf"(?:(?!0+{thousands})\d{{1,3}}(?:{thousands}\d{{3}})+|\d+)" if thousands else r"\d+"
    return re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)", re.ASCII)


_PATTERNS = {marks: _pattern(marks) for marks in MARKS}


class ValueReading(NamedTuple):
    """How a value can be read. `marks` or `formats` lists all that fit; an integer fits all marks and lists none."""

    kind: Kind
    marks: tuple[Marks, ...] = ()
    formats: tuple[str, ...] = ()
    zoned: bool = False
    sign: str = ""
    brackets: bool = False


def is_number(text: str) -> bool:
    """Return whether the text is a number in any notation."""
    return read_value(text).kind in ("integer", "decimal")


def read_value(text: str) -> ValueReading:
    """Classify a text, which must not have surrounding white space."""
    if len(text) > _MAX_LENGTH:
        return ValueReading("text")
    if _INTEGER.fullmatch(text):
        return ValueReading("integer")
    bare, sign, brackets = without_currency(text)
    if _WITH_MARKS.fullmatch(bare):
        marks = tuple(marks for marks, pattern in _PATTERNS.items() if pattern.fullmatch(bare))
        if marks and not (bare.isdigit() and bare.startswith("0") and len(bare) > 1):
            return ValueReading("decimal", marks, sign=sign, brackets=brackets)
    if text.lower() in _BOOLEANS:
        return ValueReading("boolean")
    match = _TIME.fullmatch(text)
    if match is not None:
        formats = _formats(text, match)
        if formats:
            return ValueReading("time", formats=formats, zoned=match[11] is not None)
    return ValueReading("text")


def without_currency(text: str) -> tuple[str, str, bool]:
    """Return the number in a text, the currency sign next to it, and whether brackets mark it as negative."""
    text = text.replace("\u00a0", " ").replace("\u202f", " ")
    if text[:1].isdigit() and text[-1:].isdigit():
        return text, "", False
    brackets = text.startswith("(") and text.endswith(")") and text[1:-1].strip("+-") == text[1:-1]
    bare = text[1:-1].strip() if brackets else text
    if match := _SIGN_BEFORE.fullmatch(bare):
        bare, sign = match[1] + match[3], match[2]
    elif match := _SIGN_AFTER.fullmatch(bare):
        bare, sign = match[1], match[2]
    else:
        return bare, "", brackets
    # Three letters may mean anything: they are only a currency next to a number that looks like money.
    if sign.isalpha() and sign.isupper() and (minor_digits(sign) is None or not re.search("[.,]", bare)):
        return text, "", False
    return bare, sign, brackets


def number(text: str, marks: Marks) -> Decimal:
    """Parse a text that is a number written with these marks."""
    point, thousands = marks
    bare, _, brackets = without_currency(text)
    digits = bare.replace(thousands, "") if thousands else bare
    value = Decimal(digits.replace(point, ".") if point != "." else digits)
    return -value if brackets else value


def _formats(text: str, match: re.Match[str]) -> tuple[str, ...]:
    """Return the formats, as in a contract's step `time`, that this text may be written in."""
    if _is_iso(text):
        return ("iso",)
    first, separator, middle, last = match[1], match[2], match[3], match[4]
    orders: Iterable[tuple[str, str, str, str]]
    if len(first) == 4:
        orders = [(f"%Y{separator}%m{separator}%d", first, middle, last)]
    elif len(first) <= 2 and len(last) in (2, 4):
        year = "%Y" if len(last) == 4 else "%y"
        full = last if len(last) == 4 else f"20{last}"
        orders = [
            (f"%d{separator}%m{separator}{year}", full, middle, first),
            (f"%m{separator}%d{separator}{year}", full, first, middle),
        ]
    else:
        return ()
    clock = _clock(match)
    return tuple(form + clock for form, y, m, d in orders if _is_date(int(y), int(m), int(d)))


def _clock(match: re.Match[str]) -> str:
    if match[6] is None:
        return ""
    hour = "%I" if match[10] else "%H"
    seconds = "" if match[8] is None else ":%S"
    fraction = f"{match[9][0]}%f" if match[9] else ""
    am_pm = "" if not match[10] else f"{' ' if match[10].startswith(' ') else ''}%p"
    return f"{match[5]}{hour}:%M{seconds}{fraction}{am_pm}{'%z' if match[11] else ''}"


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(4096)
def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


#: Ranges of whole numbers that are moments between 2000 and 2040, if the field's name suggests a time.
_EPOCHS = {"epoch_s": (946_684_800, 2_208_988_800), "epoch_ms": (946_684_800_000, 2_208_988_800_000)}


def epoch(text: str) -> str | None:
    """Return the epoch format that an integer may be in, if any."""
    value = int(text)
    return next((name for name, (low, high) in _EPOCHS.items() if low <= value <= high), None)
