"""Draft the rules for the fields of receipts and lines, with the conversion steps that their values need."""

import json

from ops.inspect.column import ValueColumn
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.value_kinds import MARKS

_DEFAULTS = {
    "store": ("S1", "no field holds the store; enter yours, or use `key: true` or a header"),
    "register": ("1", "no field holds the register; receipt numbers must be unique within store and register"),
    "currency": ("EUR", "no field holds the currency; enter yours"),
}


def receipt_rules(draft: ContractDraft) -> list[str]:
    """Return the rules for the receipt's fields."""
    lines = ["", "fields:"]
    if draft.receipt is not None:
        lines.append(f"  receipt: {_rule(draft.receipt_path(draft.receipt), _as_text(draft.receipt))}")
    else:
        lines.append('  receipt: {path: "receipt"}  # check: no field looks like a receipt number')
    lines.append(_time(draft))
    for role, (value, remark) in _DEFAULTS.items():
        column = draft.fields.get(role)
        if column is None:
            lines.append(f"  {role}: {{value: {yaml_text(value)}}}  # check: {remark}")
        else:
            lines.append(f"  {role}: {_rule(draft.receipt_path(column), _as_text(column))}")
    for role in ("cashier", "customer.id"):
        if role in draft.fields:
            column = draft.fields[role]
            steps, remark = _identity(column)
            lines.append(f"  {role}: {_rule(draft.receipt_path(column), steps)}{remark}")
    gross = draft.fields.get("totals.gross")
    if gross is None:
        lines.append("  totals.gross: {derive: total}  # the source has no total: use the sum of its lines")
    else:
        remark = _remark("is this the amount paid, with tax?", *_doubts(gross))
        lines.append(f"  totals.gross: {_rule(draft.receipt_path(gross), _money(gross))}{remark}")
    return lines


def _time(draft: ContractDraft) -> str:
    column = draft.fields.get("occurred_at")
    if column is None:
        return '  occurred_at: {path: "occurred_at", as: time}  # check: no field looks like the time of sale'
    several = len(column.formats) > 1
    formats = json.dumps(column.formats, ensure_ascii=False) if several else yaml_text(column.formats[0])
    zone = "" if column.zones == "all" else ", zone: store"
    steps = f"{{time: {{formats: {formats}{zone}}}}}"
    remarks = []
    if column.ambiguous_time:
        remarks.append("day and month could be swapped")
    if (others := column.filled - column.kinds["time"]) > 0:
        remarks.append(f"{others / column.filled:.1%} of the values don't match these formats")
    if column.has_dates_only:
        remarks.append(
            "no time of day: each counts as noon; if another column holds the time, use join(' ', [Date, Time])"
        )
    if column.zones != "all":
        remarks.append("no time zone: taken as the store's local time, from its `timezone` in the settings")
    return f"  occurred_at: {_rule(draft.receipt_path(column), steps)}{_remark(*remarks)}"


def line_block_rules(draft: ContractDraft) -> list[str]:
    """Return the rules for the receipt's lines."""
    return ["", "lines:", *line_rules(draft, "  ", negate=False)]


def line_rules(draft: ContractDraft, indent: str, *, negate: bool) -> list[str]:
    """Return the rules of one `lines` block; `negate` reverses the sign of quantities and amounts."""
    lines = [f"{indent}- each: {yaml_text(draft.lines_path)}", f"{indent}  fields:"]
    for role in ("sku", "description", "quantity", "unit_price", "amount", "tax_rate"):
        column = draft.line_fields.get(role)
        text = _line_rule(draft, role, column, negate=negate)
        if text:
            lines.append(f"{indent}    {role}: {text}")
    return lines


def _line_rule(draft: ContractDraft, role: str, column: ValueColumn | None, *, negate: bool) -> str:
    if column is None:
        return _line_default(draft, role)
    path = draft.line_path(column)
    if role in ("sku", "description"):
        return _rule(path, "trim")
    if role == "quantity":
        steps = _decimal(column)
        return _rule(path, f"[{steps}, negate]" if negate else steps) + _remark(*_doubts(column))
    if role == "tax_rate":
        return _rule(path, _decimal(column)) + _remark("must be in percent: 19 means 19 %", *_doubts(column))
    own_remarks = ["is this after discounts, with tax?"] if role == "amount" else []
    remark = _remark(*own_remarks, *_doubts(column))
    steps = _money(column)
    return _rule(path, f"[{steps}, negate]" if negate and role == "amount" else steps) + remark


def _line_default(draft: ContractDraft, role: str) -> str:
    if role == "tax_rate":
        return '{value: "0"}  # check: no field holds the tax rate; prices include tax unless tax_included is false'
    if role == "quantity":
        return '{value: "1"}  # check: no field holds the quantity'
    if role == "sku":
        return '{path: "sku"}  # check: no field looks like an article number'
    if role == "unit_price":
        amount, quantity = draft.line_fields.get("amount"), draft.line_fields.get("quantity")
        if amount is not None and quantity is not None and draft.format != "xml":
            path = f"divide({draft.line_path(amount)}, {draft.line_path(quantity)})"
            remark = "  # check: no field holds the unit price; amount / quantity may have too many decimal places"
            return f"{{path: {yaml_text(path)}}}{remark}"
        return '{path: "unit_price"}  # check: no field looks like a unit price'
    return ""


def _doubts(column: ValueColumn) -> list[str]:
    return ["the decimal mark is ambiguous: 1,234 may be a thousand"] if column.ambiguous_marks else []


def _remark(*remarks: str) -> str:
    return f"  # check: {'; '.join(remarks)}" if remarks else ""


def _rule(path: str, steps: str) -> str:
    return f"{{path: {yaml_text(path)}, as: {steps}}}" if steps else yaml_text(path)


def _as_text(column: ValueColumn) -> str:
    return "trim" if column.native else ""


def _identity(column: ValueColumn) -> tuple[str, str]:
    """Return the steps for an identifier, and a comment; if a spreadsheet added `.0`, keep the whole part."""
    if column.kind == "decimal" and all(text.strip().endswith(".0") for text in column.counts if text.strip()):
        return '[decimal, {multiply: "1"}]', "  # 1234.0 becomes 1234"
    return _as_text(column), ""


def _decimal(column: ValueColumn) -> str:
    marks = column.marks or list(MARKS[:1])
    point, thousands = marks[0]
    options = [] if marks[0] == MARKS[0] else [f"point: {yaml_text(point)}", f"thousands: {yaml_text(thousands)}"]
    if column.signs:
        options.append(f"signs: [{', '.join(map(yaml_text, column.signs))}]")
    if column.brackets:
        options.append("brackets: negative")
    return f"{{decimal: {{{', '.join(options)}}}}}" if options else "decimal"


def _money(column: ValueColumn) -> str:
    words = column.path.lower()
    if column.kind == "integer" and any(word in words for word in ("money", "cent", "minor")):
        return "minor_units"
    return _decimal(column)
