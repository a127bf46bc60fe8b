"""A first contract from a survey: it loads as it is, and says with `# check:` where it guessed."""

import json
import re
from pathlib import Path

from ops.inspect.column import Column
from ops.inspect.kinds import MARKS
from ops.inspect.layout import Layout
from ops.inspect.records import rows
from ops.inspect.roles import LINE_WORDS, RECEIPT_WORDS, WORDS, guess, joined, lines_list
from ops.inspect.survey import Survey

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RETURNS = re.compile(r"return|refund|credit", re.IGNORECASE)
_VOIDS = re.compile(r"void|cancel", re.IGNORECASE)
_FIXED = {
    "store": ("S1", "no field names the store; put yours, or `key: true`, or a header"),
    "register": ("1", "no field names the register; receipt numbers must be unique within store and register"),
    "currency": ("EUR", "no field names the currency; put yours"),
}


class Draft:
    """The contract in the making: where fields were found, and how their paths are written."""

    def __init__(self, survey: Survey, layout: Layout | None, path: Path) -> None:
        self.survey = survey
        self.layout = layout
        self.file = path
        self.format = survey.format
        self.list = "rows" if self.format == "csv" else lines_list(survey)
        self.groups = survey.groups()
        columns = list(survey.columns.values())
        inside = [column for column in columns if self._in_list(column)]
        outside = [column for column in columns if "[]" not in column.path] if self.format != "csv" else []
        taken: set[str] = set()
        self.receipt = self._receipt(outside, inside)
        if self.receipt is not None:
            taken.add(self.receipt.path)
        top = dict(WORDS)
        gross_words = top.pop("totals.gross")
        self.fields = guess(outside, top, taken)
        line_columns = inside or outside
        self.line = guess(line_columns, LINE_WORDS, taken)
        rest = {role: words for role, words in top.items() if role not in self.fields}
        self.fields |= guess(inside, rest, taken)
        if self.format != "csv" and self.list is not None:
            self.fields |= guess(outside, {"totals.gross": gross_words}, taken)

    def _in_list(self, column: Column) -> bool:
        if self.format == "csv":
            return True
        return self.list is not None and column.path.startswith(f"{self.list}[]") and column.path.count("[]") == 1

    def _receipt(self, outside: list[Column], inside: list[Column]) -> Column | None:
        if self.groups:
            return self.survey.columns[self.groups[0]]
        keys = [column for column in outside if column.unique is not False]
        for columns in (keys, outside, inside):
            found = guess(columns, {"receipt": RECEIPT_WORDS}, set())
            if found:
                return found["receipt"]
        return None

    def top(self, column: Column) -> str:
        """The path of a field of the receipt; a field of the rows is taken from the first."""
        if self.format == "csv":
            return f"rows[0].{_quoted(column.path)}"
        return self._written(column.path.replace("[]", "[1]" if self.format == "xml" else "[0]"))

    def inner(self, column: Column) -> str:
        """The path of a field of a line."""
        if self.format == "csv":
            return _quoted(column.path)
        prefix = f"{self.list}[]."
        return self._written(column.path.removeprefix(prefix) if self.list is not None else column.path)

    def everywhere(self, column: Column) -> str:
        """The path of all values of a field."""
        if self.format == "csv":
            return f"rows[].{_quoted(column.path)}"
        return self._written(column.path.replace("[]", "") if self.format == "xml" else column.path)

    def _written(self, path: str) -> str:
        return path.replace(".", "/") if self.format == "xml" else path

    @property
    def each(self) -> str:
        """What finds the lines."""
        if self.list is None:
            return "." if self.format == "xml" else "@"
        return self._written(self.list)


def draft(survey: Survey, layout: Layout | None, path: Path) -> str:
    """The contract's text, in YAML."""
    made = Draft(survey, layout, path)
    return "\n".join([*_head(made), *_kinds(made), *_fields(made), *_lines(made), *_personal(made), ""])


def _head(made: Draft) -> list[str]:
    lines = [
        "# yaml-language-server: $schema=contract.schema.json",
        "# (tillstream map schema > contract.schema.json lets an editor complete and check this file)",
        "contract: 1",
        f"source: {_text(_slug(made.file))}",
        'version: "1"',
        f"format: {made.format}",
    ]
    if made.format == "csv":
        if made.groups:
            lines.append(f"group_by: [{_text(made.groups[0])}]  # its rows stand together, and are one receipt")
        else:
            lines.append(
                "group_by: []  # check: each row is a receipt; name the columns that rows of one receipt share"
            )
    if made.layout is not None and made.layout.record is not None:
        lines.append(f"# events: {made.layout.record}  # where a Kafka record holds the whole file")
    return lines


def _kinds(made: Draft) -> list[str]:
    return [
        "",
        "# The first kind that fits is taken.",
        "kinds:",
        *_prefix_kinds(made),
        *_free_kinds(made),
        *_coded_kinds(made),
        "  - type: sale",
    ]


def _prefix_kinds(made: Draft) -> list[str]:
    """Receipt numbers that begin with a letter: returns, where negative quantities go with it."""
    lines: list[str] = []
    quantity = made.line.get("quantity")
    if made.format != "csv" or made.receipt is None or quantity is None or not made.receipt.prefixes:
        return lines
    for prefix, (count, negative) in _signs(made, made.receipt.path, quantity).items():
        when = f"{{path: {_text(f'starts_with({made.top(made.receipt)}, {_jmes(prefix)})')}}}"
        if prefix and count and negative > 0.9 * count:
            lines += [
                f"  - when: {when}",
                f"    type: return  # check: {negative} of the {count} rows of {prefix}… have a negative quantity",
                "    lines:  # as the contract's own, the quantity turned round: a return states what it gives back",
                *_line_rules(made, "      ", negate=True),
            ]
        elif prefix:
            lines.append(
                f"  # check: {count} rows of receipts {prefix}… ({negative} negative): what are they? For example:"
            )
            lines += [f"  # - when: {when}", '  #   skip: "not a sale"']
        elif negative:
            lines.append(
                f"  # check: {negative} rows of other receipts have a negative quantity: taken back within a sale?"
            )
    return lines


def _signs(made: Draft, receipt: str, quantity: Column) -> dict[str, tuple[int, int]]:
    """For each prefix of letters of the receipt's number: its rows, and those with a negative quantity."""
    found: dict[str, list[int]] = {}
    if made.layout is None:
        return {}
    names = made.layout.columns
    number, count = names.index(receipt), names.index(quantity.path)
    for row in rows(made.file, made.layout, lambda _: None):
        if len(row) == len(names):
            prefix = re.match(r"[^\W\d_]*", row[number])
            both = found.setdefault(prefix[0] if prefix else "", [0, 0])
            both[0] += 1
            both[1] += row[count].lstrip().startswith("-")
    return {prefix: (both[0], both[1]) for prefix, both in sorted(found.items()) if 1 < len(found) <= 20}


def _free_kinds(made: Draft) -> list[str]:
    """Receipts that cost nothing at all: often no sales."""
    price = made.line.get("unit_price")
    if made.format != "csv" or price is None or not price.range.zero or price.kind == "empty":
        return []
    return [
        f"  # check: {price.range.zero} rows have a price of zero: given away, or no sales? Receipts of nothing else:",
        f'  # - when: {{path: {_text(f"total({made.everywhere(price)})")}, is: "0"}}',
        '  #   skip: "no sale"',
    ]


def _coded_kinds(made: Draft) -> list[str]:
    """A field that says in words which kind a record is."""
    lines: list[str] = []
    for column in made.survey.columns.values():
        named = joined(column.path).endswith(("type", "kind", "status", "action"))
        if "[]" in column.path or not named or column.kind != "text" or len(column.counts) > 12 or column.personal:
            continue
        for value in column.counts:
            kind = "return" if _RETURNS.search(value) else "void" if _VOIDS.search(value) else None
            if kind is not None:
                path = made.top(column)
                lines.append(f"  - when: {{path: {_text(path)}, is: {_text(value)}}}")
                lines.append(f"    type: {kind}  # check: is that what {_shown(value)} means?")
    return lines


def _fields(made: Draft) -> list[str]:
    lines = ["", "fields:"]
    if made.receipt is not None:
        lines.append(f"  receipt: {_rule(made, made.top(made.receipt), _as_text(made.receipt))}")
    else:
        lines.append('  receipt: {path: "receipt"}  # check: no field looks like the number of a receipt')
    lines.append(_time(made))
    for role, (value, remark) in _FIXED.items():
        column = made.fields.get(role)
        if column is None:
            lines.append(f"  {role}: {{value: {_text(value)}}}  # check: {remark}")
        else:
            lines.append(f"  {role}: {_rule(made, made.top(column), _as_text(column))}")
    for role in ("cashier", "customer.id"):
        if role in made.fields:
            column = made.fields[role]
            steps, remark = _identity(column)
            lines.append(f"  {role}: {_rule(made, made.top(column), steps)}{remark}")
    gross = made.fields.get("totals.gross")
    if gross is None:
        lines.append("  totals.gross: {derive: total}  # the source prints no total: the sum of its lines")
    else:
        lines.append(f"  totals.gross: {_rule(made, made.top(gross), _money(gross))}  # check: with tax, as paid?")
    return lines


def _time(made: Draft) -> str:
    column = made.fields.get("occurred_at")
    if column is None:
        return '  occurred_at: {path: "occurred_at", as: time}  # check: no field looks like the time of the sale'
    formats = json.dumps(column.formats, ensure_ascii=False) if len(column.formats) > 1 else _text(column.formats[0])
    steps = (
        f"{{time: {{formats: {formats}, zone: store}}}}"
        if column.zones != "all"
        else f"{{time: {{formats: {formats}}}}}"
    )
    remarks = []
    if column.ambiguous_time:
        remarks.append("day and month could be the other way round")
    if column.zones != "all":
        remarks.append("no time zone: local time of the store, whose `timezone` stands in the settings")
    return f"  occurred_at: {_rule(made, made.top(column), steps)}" + (
        f"  # check: {'; '.join(remarks)}" if remarks else ""
    )


def _lines(made: Draft) -> list[str]:
    return ["", "lines:", *_line_rules(made, "  ", negate=False)]


def _line_rules(made: Draft, indent: str, *, negate: bool) -> list[str]:
    lines = [f"{indent}- each: {_text(made.each)}", f"{indent}  fields:"]
    for role in ("sku", "description", "quantity", "unit_price", "amount", "tax_rate"):
        column = made.line.get(role)
        text = _line_rule(made, role, column, negate=negate)
        if text:
            lines.append(f"{indent}    {role}: {text}")
    return lines


def _line_rule(made: Draft, role: str, column: Column | None, *, negate: bool) -> str:
    if column is None:
        return _line_default(made, role)
    path = made.inner(column)
    if role in ("sku", "description"):
        return _rule(made, path, "trim")
    if role == "quantity":
        steps = _decimal(column)
        return _rule(made, path, f"[{steps}, negate]" if negate else steps)
    if role == "tax_rate":
        return _rule(made, path, _decimal(column)) + "  # check: in percent: 19 means 19 %"
    remark = "  # check: after discounts, with tax?" if role == "amount" else ""
    steps = _money(column)
    return _rule(made, path, f"[{steps}, negate]" if negate and role == "amount" else steps) + remark


def _line_default(made: Draft, role: str) -> str:
    if role == "tax_rate":
        return '{value: "0"}  # check: no field has the tax rate; prices contain it unless tax_included is false'
    if role == "quantity":
        return '{value: "1"}  # check: no field has the quantity'
    if role == "sku":
        return '{path: "sku"}  # check: no field looks like the number of an article'
    if role == "unit_price":
        amount, quantity = made.line.get("amount"), made.line.get("quantity")
        if amount is not None and quantity is not None and made.format != "xml":
            path = f"divide({made.inner(amount)}, {made.inner(quantity)})"
            return (
                f"{{path: {_text(path)}}}  # check: no field has the price; amount / quantity may have too many places"
            )
        return '{path: "unit_price"}  # check: no field looks like the price of a unit'
    return ""


def _personal(made: Draft) -> list[str]:
    personal = [column for column in made.survey.columns.values() if column.personal]
    if not personal:
        return []
    lines = ["", "# Never shown by tools; check: is something missing?", "personal:"]
    return lines + [f"  - {_text(made.everywhere(column))}  # {'; '.join(column.personal)}" for column in personal]


def _rule(_: Draft, path: str, steps: str) -> str:
    return f"{{path: {_text(path)}, as: {steps}}}" if steps else _text(path)


def _as_text(column: Column) -> str:
    return "trim" if column.native else ""


def _identity(column: Column) -> tuple[str, str]:
    """A number that a spreadsheet made a decimal is its whole part."""
    if column.kind == "decimal" and all(text.strip().endswith(".0") for text in column.counts if text.strip()):
        return '[decimal, {multiply: "1"}]', "  # 1234.0 becomes 1234"
    return _as_text(column), ""


def _decimal(column: Column) -> str:
    marks = column.marks or list(MARKS[:1])
    point, thousands = marks[0]
    if (point, thousands) == MARKS[0]:
        return "decimal"
    return f"{{decimal: {{point: {_text(point)}, thousands: {_text(thousands)}}}}}"


def _money(column: Column) -> str:
    words = column.path.lower()
    if column.kind == "integer" and any(word in words for word in ("money", "cent", "minor")):
        return "minor_units"
    return _decimal(column)


def _slug(path: Path) -> str:
    name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "source"


def _quoted(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _jmes(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _text(text: str) -> str:
    """A text in YAML's double quotes; YAML wants escapes for more than JSON does."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:40]
