"""Statistics about one field of the records, collected value by value within bounded memory."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any

from ops.inspect.ranges import NumberRange, median
from ops.inspect.value_kinds import MARKS, Marks, ValueReading, epoch, number, read_value
from streams.privacy.detection import by_value
from streams.privacy.field_names import by_name

#: How many distinct values a column keeps; beyond that it only knows that there are more.
MAX_DISTINCT = 50_000
_MAX_LENGTH = 200
_MAX_EXPONENT = 30
_RARE_SHARE = 0.05
_OUTLIER_DISTANCE = 20  # median absolute deviations
_TIME_WORDS = re.compile(r"date|time|_at$|At$|^ts$|stamp|when", re.IGNORECASE)
_PREFIX = re.compile(r"([A-Za-z]{1,4})[-_/]?\d+", re.ASCII)


@dataclass
class ValueColumn:
    """The values at one path. `present` counts all values; those of white space alone count as missing."""

    path: str
    present: int = 0
    blank: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    overflowed: bool = False
    readings: Counter[ValueReading] = field(default_factory=Counter)
    native: Counter[str] = field(default_factory=Counter)
    personal_counts: Counter[str] = field(default_factory=Counter)
    ranges: dict[Marks | None, NumberRange] = field(default_factory=dict)
    epochs: Counter[str | None] = field(default_factory=Counter)
    prefixes: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    first_text: str | None = None
    last_text: str | None = None
    longest: int = 0
    runs: int = 0
    _previous: str | None = None

    def add(self, value: Any) -> None:
        """Add one value of a record's tree; None counts as absent."""
        if value is None:
            return
        if isinstance(value, str):
            self.add_texts((value,))
        elif isinstance(value, bool):
            self.native["boolean"] += 1
            self.add_texts(("true" if value else "false",))
        else:
            self.native["number"] += 1
            self.add_texts((_written(value),))

    def add_texts(self, values: Iterable[str]) -> None:
        """Add values as text, in the order of the records."""
        values = tuple(values)
        if not values:
            return
        self.present += len(values)
        self.runs += sum(map(_differ, (self._previous, *values), values))
        self._previous = values[-1]
        self.counts.update(values)
        while len(self.counts) > MAX_DISTINCT:
            value, count = self.counts.popitem()  # the newest one
            self.overflow[value] += count
            self.overflowed = True
        if len(self.overflow) > MAX_DISTINCT:
            self._classify(self.overflow)
            self.overflow = Counter()

    def finish(self) -> None:
        """Classify the remaining values. Nothing may be added afterwards."""
        self._classify(self.overflow)
        self._classify(self.counts)

    def _classify(self, values: Counter[str]) -> None:
        for raw, count in values.items():
            text = raw.strip()
            if not text:
                self.blank += count
                continue
            reading = read_value(text)
            self.readings[reading] += count
            self._detect_personal(text, reading, count)
            examples = self.samples.setdefault(reading.kind, [])
            if len(examples) < 5:
                examples.append(shortened(text))
            if reading.kind in ("integer", "decimal"):
                self._range(text, reading, count)
            else:
                self.first_text = min(self.first_text or text, text)
                self.last_text = max(self.last_text or text, text)
            self.longest = max(self.longest, len(text))

    def _range(self, text: str, reading: ValueReading, count: int) -> None:
        if reading.kind == "integer":
            self.epochs[epoch(text)] += count
            self.ranges.setdefault(None, NumberRange()).add(number(text, MARKS[0]), count)
        for marks in reading.marks:
            self.ranges.setdefault(marks, NumberRange()).add(number(text, marks), count)

    def _detect_personal(self, text: str, reading: ValueReading, count: int) -> None:
        if reading.kind == "text" or (reading.kind == "integer" and len(text) >= 13):
            category = by_value(text)
            if category is not None:
                self.personal_counts[category] += count
        match = _PREFIX.fullmatch(text)
        if match is not None and (len(self.prefixes) < 50 or match[1] in self.prefixes):
            self.prefixes[match[1]] += count

    @property
    def filled(self) -> int:
        """The number of values that are not blank."""
        return self.present - self.blank

    @property
    def kinds(self) -> Counter[str]:
        """The number of values of each kind; integers count as times if the whole column suggests it."""
        kinds: Counter[str] = Counter()
        times = self.epoch_format is not None
        for reading, count in self.readings.items():
            kinds["time" if times and reading.kind == "integer" else reading.kind] += count
        return kinds

    @property
    def kind(self) -> str:
        """The most common kind; integers among decimals count as decimals."""
        kinds = self.kinds
        if not kinds:
            return "empty"
        if kinds["decimal"] and kinds["decimal"] + kinds["integer"] > self.filled / 2:
            return "decimal"
        return kinds.most_common(1)[0][0]

    @property
    def epoch_format(self) -> str | None:
        """`epoch_s` or `epoch_ms` if the name suggests a time and every integer may be one, otherwise None."""
        if len(self.epochs) != 1 or not _TIME_WORDS.search(self.path.rpartition(".")[2]):
            return None
        return next(iter(self.epochs))

    @property
    def marks(self) -> list[Marks]:
        """The marks that fit all decimals, the likeliest first; if there are several, the data leaves it open."""
        marks_by_reading = [set(reading.marks) for reading in self.readings if reading.kind == "decimal"]
        return [
            marks
            for marks in MARKS
            if marks_by_reading and all(marks in reading_marks for reading_marks in marks_by_reading)
        ]

    @property
    def signs(self) -> list[str]:
        """The currency signs next to the numbers."""
        return sorted({reading.sign for reading in self.readings if reading.sign})

    @property
    def brackets(self) -> bool:
        """Whether some numbers are in brackets, which makes them negative."""
        return any(reading.brackets for reading in self.readings)

    @property
    def formats(self) -> list[str]:
        """Time formats that together fit all times; see also `ambiguous_time`."""
        if self.epoch_format is not None:
            return [self.epoch_format]
        readings = {reading.formats: count for reading, count in self.readings.items() if reading.kind == "time"}
        formats_found: list[str] = []
        common = [form for form in next(iter(readings), ()) if all(form in formats for formats in readings)]
        if common:
            return common[:1]
        for formats in sorted(
            readings, key=len
        ):  # unambiguous ones first: they decide the order of day and month in the others
            if not set(formats) & set(formats_found):
                formats_found.append(
                    next((form for form in formats if _order(form) in map(_order, formats_found)), formats[0])
                )
        return formats_found

    @property
    def ambiguous_time(self) -> bool:
        """Whether day and month could be swapped in some values, and no other value decides it."""
        possible_formats = [reading.formats for reading in self.readings if reading.kind == "time"]
        certain = {_order(formats[0]) for formats in possible_formats if len(formats) == 1}
        return any(len(formats) > 1 and not certain & set(map(_order, formats)) for formats in possible_formats)

    @property
    def ambiguous_marks(self) -> bool:
        """Whether decimals could be a thousand times as large, read with other marks, or no marks fit all of them."""
        return self.kind == "decimal" and (not self.marks or len({point for point, _ in self.marks}) > 1)

    @property
    def has_dates_only(self) -> bool:
        """Whether the sample times are dates without a time of day."""
        return self.epoch_format is None and not any(":" in text for text in self.samples.get("time", ()))

    @property
    def zones(self) -> str:
        """Which times have an offset: `all`, `none` or `some`."""
        if self.epoch_format is not None:
            return "all"
        zoned = {reading.zoned for reading in self.readings if reading.kind == "time"}
        return "some" if len(zoned) > 1 else "all" if True in zoned else "none"

    @property
    def range(self) -> NumberRange:
        """The range of the numbers."""
        marks = self.marks
        parts = [self.ranges[key] for key in (None, *marks[:1]) if key in self.ranges]
        return NumberRange.of(parts)

    @property
    def personal(self) -> list[str]:
        """Reasons why the field probably holds personal data; empty if it probably doesn't."""
        reasons = [f"name: {reason}"] if (reason := by_name(self.path)) else []
        thresholds = {"e-mail": 0.0, "phone number": 0.2, "bank or card number": 0.5}
        reasons += [
            f"values: {reason}"
            for reason, count in self.personal_counts.items()
            if count >= thresholds[reason] * (self.filled or 1)
        ]
        return reasons

    @property
    def unique(self) -> bool | None:
        """Whether no value occurs twice; None if no kept value does but there were too many to keep."""
        if self.blank or not self.filled or self.counts.most_common(1)[0][1] > 1:
            return False
        return None if self.overflowed else True

    def outliers(self) -> tuple[int, list[Decimal]]:
        """Return how many numbers are far from the median, in median absolute deviations, and the farthest three."""
        marks = (self.marks or list(MARKS[:1]))[0]
        numbers: Counter[Decimal] = Counter()
        for text, count in self.counts.items():
            if read_value(text.strip()).kind in ("integer", "decimal"):
                numbers[number(text.strip(), marks)] += count
        center = median(numbers)
        if center is None:
            return 0, []
        distances: Counter[Decimal] = Counter()
        for value, count in numbers.items():
            distances[abs(value - center)] += count
        spread = median(distances)
        if not spread:
            return 0, []
        outlying = {
            value: count for value, count in numbers.items() if abs(value - center) > _OUTLIER_DISTANCE * spread
        }
        return sum(outlying.values()), sorted(outlying, key=lambda value: -abs(value - (center or 0)))[:3]

    def rare_kinds(self) -> dict[str, int]:
        """Return the kinds that only few values have, with their counts."""
        kinds = self.kinds
        if self.kind == "decimal":
            del kinds["integer"]
        return {
            kind: count for kind, count in kinds.items() if 0 < count < _RARE_SHARE * self.filled and kind != self.kind
        }


def shortened(text: str) -> str:
    """Return a value, or the beginning and a digest of a long one."""
    if len(text) <= _MAX_LENGTH:
        return text
    digest = sha256(text.encode(errors="backslashreplace")).hexdigest()
    return f"{text[:40]}…{digest[:16]}"


def _written(number: int | Decimal) -> str:
    """Return a number as text without an exponent, unless it is far larger or smaller than any amount."""
    return f"{number:f}" if isinstance(number, Decimal) and abs(number.adjusted()) < _MAX_EXPONENT else str(number)


def _differ(previous: str | None, current: str) -> bool:
    return previous != current


def _order(form: str) -> str:
    return "".join(part for part in re.findall(r"%[dmyY]", form)).lower()
