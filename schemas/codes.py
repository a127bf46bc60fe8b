"""Tell codes that a spreadsheet has damaged from whole ones, and take off what spreadsheets put around them.

A spreadsheet takes a barcode or a receipt number for a number or a date: 4006381333931 is saved as 4.00638E+12, and so
is each neighbour of it; 3-03 is saved as 3-Mar. The digits are gone, so such a text is no code: two articles, or two
receipts, would be one. Zeros in front are gone too, which nothing but a check digit can prove (`with_zeros`).
"""

import re
from functools import lru_cache

_EXPONENT = re.compile(
    r"(?<![0-9A-Za-z.,])[0-9]{1,3}(?:[.,][0-9]+[Ee][+-]?|[Ee]\+)[0-9]{1,3}(?![0-9A-Za-z])",
    re.ASCII,
)
_ENGLISH = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_GERMAN = "Jan|Feb|Mrz|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez"
_WHOLE = re.compile(
    r"#{3,}|#(?:N/A|NV|NAME\?|REF!|BEZUG!|VALUE!|WERT!|DIV/0!|NUM!|ZAHL!|NULL!|SPILL!|CALC!)"
    rf"|[0-9]{{1,2}}-(?:{_ENGLISH})(?:-[0-9]{{2,4}})?|(?:{_ENGLISH})-[0-9]{{2,4}}"
    rf"|[0-9]{{1,2}}\. (?:{_GERMAN})|(?:{_GERMAN}) [0-9]{{2}}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2} 00:00:00"
)
#: What every damaged code has in it, and few others: to look at all codes of an event at once.
SUSPICIOUS = re.compile(r"[#,.+:]|[a-zä][ -][0-9]|-[A-Z][a-z]")
_FORMULA = re.compile(r'="([^"]*)"')
#: In front of a text an apostrophe keeps a spreadsheet from reading it as a number or a formula.
_APOSTROPHE = re.compile(r"'(?=[0-9=+@-])")
#: Digits of a number that a spreadsheet keeps.
EXACT_DIGITS = 15
#: Digits of a GTIN, and of one that has lost zeros: those of GTIN-12 may begin with three, of GTIN-8 with one.
GTIN_LENGTHS = (8, 12, 13, 14)
_SHORTENED = {7: 8, 9: 12, 10: 12, 11: 12}


def bare_code(text: str) -> str:
    """Return the code without white space around it and without a spreadsheet's quoting: `="0123"` and `'0123`."""
    code = text.strip()
    match = _FORMULA.fullmatch(code)
    if match is not None:
        code = match[1].strip()
    return _APOSTROPHE.sub("", code, count=1) if code.startswith("'") else code


@lru_cache(4096)
def is_damaged(text: str) -> bool:
    """Return whether the text, or a part of it between marks, is a code that a spreadsheet has damaged."""
    return _EXPONENT.search(text) is not None or _WHOLE.fullmatch(text.strip()) is not None


def check_digit_is_right(digits: str) -> bool:
    """Return whether the last of up to 14 digits is the GTIN check digit of the others; zeros in front don't count."""
    full = digits.zfill(14)
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(full[:13]))
    return (10 - weighted % 10) % 10 == int(full[13])


def with_zeros(digits: str) -> str:
    """Return the GTIN with the zeros that a spreadsheet took off, where its check digit proves them; else as it is.

    An ISBN of ten digits stays as it is, whatever its last digit would be as a GTIN's.
    """
    length = _SHORTENED.get(len(digits))
    if length is None or not check_digit_is_right(digits) or (len(digits) == 10 and _is_isbn(digits)):
        return digits
    return digits.zfill(length)


def _is_isbn(digits: str) -> bool:
    return sum((10 - place) * int(digit) for place, digit in enumerate(digits)) % 11 == 0
