"""Check that a strptime pattern states a whole moment: a date, once, and a time of day that can't be half a day off."""

import re

_DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
#: What each directive states. Those that are not here `strptime` refuses by itself.
_PARTS = {
    "Y": "year",
    "y": "year",
    "m": "month",
    "b": "month",
    "B": "month",
    "d": "day",
    "j": "day of the year",
    "U": "week",
    "W": "week",
    "V": "ISO week",
    "G": "ISO year",
    "a": "weekday",
    "A": "weekday",
    "w": "weekday",
    "u": "weekday",
    "H": "hour",
    "I": "hour of twelve",
    "p": "half of the day",
    "M": "minute",
    "S": "second",
    "f": "fraction",
    "z": "offset",
}
_DATES = (
    frozenset({"year", "month", "day"}),
    frozenset({"year", "day of the year"}),
    frozenset({"year", "week", "weekday"}),
    frozenset({"ISO year", "ISO week", "weekday"}),
)
_OF_A_DATE = frozenset().union(*_DATES)
#: Number of digits of directives that always have that many, for those adjacent to the next one.
_WIDTHS = dict.fromkeys("ymdHIMSUWV", 2) | {"Y": 4, "G": 4, "j": 3, "w": 1, "u": 1}
_PIECE = re.compile(r"%(.)|(\s+)|(.)", re.DOTALL)
_OF_A_LOCALE = {"c": "%Y-%m-%d %H:%M:%S", "x": "%Y-%m-%d", "X": "%H:%M:%S"}


def fault_of(pattern: str) -> str | None:
    """Return why the pattern can't be used, and what to write instead; None for one that states a whole moment."""
    directives = [each for each in _DIRECTIVE.findall(pattern) if each != "%"]
    for each in directives:
        if each in _OF_A_LOCALE:
            return f"%{each} is another order of day and month on each computer; write it out, {_OF_A_LOCALE[each]}"
        if each == "Z":
            return "%Z reads the name of a zone and does not apply it; use %z for an offset, or `zone`"
    parts = [_PARTS[each] for each in directives if each in _PARTS]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        return f"it has the {twice} twice, and only one of them would count; keep one"
    return _date_fault(frozenset(parts)) or _clock_fault(frozenset(parts))


def has_offset(pattern: str) -> bool:
    """Return whether times of this pattern state their offset from UTC."""
    return "z" in _DIRECTIVE.findall(pattern)


def has_hour(pattern: str) -> bool:
    """Return whether times of this pattern state a time of day, and not a date alone."""
    return bool({"H", "I"}.intersection(_DIRECTIVE.findall(pattern)))


def whole_numbers(pattern: str) -> re.Pattern[str] | None:
    """Return a regular expression for texts in which adjacent numbers have all their digits; None without such numbers.

    `strptime` takes a digit less where a zero has been lost, and reads 00:15:00, written 1500, as 15:00:00.
    """
    pieces = _PIECE.findall(pattern)
    text, packed = "", False
    for place, (directive, space, literal) in enumerate(pieces):
        width = _WIDTHS.get(directive)
        beside = [pieces[at][0] for at in (place - 1, place + 1) if 0 <= at < len(pieces)]
        if width is not None and any(each in _WIDTHS or each == "f" for each in beside):
            text, packed = text + f"[0-9]{{{width}}}", True
        elif directive:
            text += "%" if directive == "%" else ".+?"
        else:
            text += r"\s+" if space else re.escape(literal)
    return re.compile(text, re.DOTALL | re.IGNORECASE) if packed else None


def _date_fault(parts: frozenset[str]) -> str | None:
    stated = parts & _OF_A_DATE
    whole = next((date for date in _DATES if date <= stated), None)
    if whole is None:
        if not stated & {"year", "ISO year"}:
            return (
                "it has no year, so every date would be of 1900; add %Y or %y, or join the columns that hold the date"
            )
        if "ISO year" in stated or "ISO week" in stated:
            return "%G and %V take each other and a weekday (%u), and no other year"
        return (
            "it states no day: a date is %d with %m (or %b) and %Y (or %y), or %j and %Y, or %U (or %W), a weekday "
            "and %Y"
        )
    more = sorted(stated - whole - {"weekday"})
    if more:
        return f"it states the date twice, by {', '.join(sorted(whole))} and by {', '.join(more)}; keep one way"
    return None


def _clock_fault(parts: frozenset[str]) -> str | None:
    if "hour" in parts and "hour of twelve" in parts:
        return "it has %H and %I; keep %H for 0 to 23, or %I and %p for 1 to 12 with AM and PM"
    if "half of the day" in parts and "hour of twelve" not in parts:
        return "%p counts with %I alone, so 5 PM would be 5 in the morning; write %I, not %H"
    if "hour of twelve" in parts and "half of the day" not in parts:
        return "%I without %p does not say which half of the day; add %p where AM or PM stands, or write %H"
    for finer, coarser in (("fraction", "second"), ("second", "minute"), ("minute", "hour")):
        there = coarser in parts or (coarser == "hour" and "hour of twelve" in parts)
        if finer in parts and not there:
            return f"it has the {finer} and not the {coarser}; add it"
    return None
