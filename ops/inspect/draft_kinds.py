"""Draft the kinds of records: sales, and those that the data marks as returns, voids or not sales at all."""

import re

from ops.files.records import rows
from ops.inspect.column import ValueColumn
from ops.inspect.draft_fields import line_rules
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.roles import normalized_name

_RETURNS = re.compile(r"return|refund|credit", re.IGNORECASE)
_VOIDS = re.compile(r"void|cancel", re.IGNORECASE)


def kind_rules(draft: ContractDraft) -> list[str]:
    """Return the rules for the kinds; a record that fits no other kind is a sale."""
    return [
        "",
        "# The first kind whose conditions hold is used.",
        "kinds:",
        *_prefix_kinds(draft),
        *_free_kinds(draft),
        *_coded_kinds(draft),
        "  - type: sale",
    ]


def _prefix_kinds(draft: ContractDraft) -> list[str]:
    """Return kinds for receipt numbers that begin with letters: returns, if their quantities are negative."""
    lines: list[str] = []
    quantity = draft.line_fields.get("quantity")
    if draft.format != "csv" or draft.receipt is None or quantity is None or not draft.receipt.prefixes:
        return lines
    for prefix, (count, negative) in _negative_counts(draft, draft.receipt.path, quantity).items():
        when = f"{{path: {yaml_text(f'starts_with({draft.receipt_path(draft.receipt)}, {_jmes_text(prefix)})')}}}"
        if prefix and count and negative > 0.9 * count:
            lines += [
                f"  - when: {when}",
                f"    type: return  # check: {negative} of the {count} rows of {prefix}… have a negative quantity",
                "    lines:  # like the contract's lines with the sign reversed: returns state positive quantities",
                *line_rules(draft, "      ", negate=True),
            ]
        elif prefix:
            lines.append(
                f"  # check: {count} rows of receipts {prefix}… ({negative} negative): what are they? To skip them:"
            )
            lines += [f"  # - when: {when}", '  #   skip: "not a sale"']
        elif negative:
            lines.append(
                f"  # check: {negative} rows of other receipts have a negative quantity: items returned within a sale?"
            )
    return lines


def _negative_counts(draft: ContractDraft, receipt: str, quantity: ValueColumn) -> dict[str, tuple[int, int]]:
    """Count rows, and rows with a negative quantity, for each letter prefix of the receipt numbers."""
    counts_by_prefix: dict[str, list[int]] = {}
    if draft.layout is None:
        return {}
    names = draft.layout.columns
    receipt_index, quantity_index = names.index(receipt), names.index(quantity.path)
    for row in rows(draft.path, draft.layout, lambda _: None):
        if len(row) == len(names):
            prefix = re.match(r"[^\W\d_]*", row[receipt_index])
            counts = counts_by_prefix.setdefault(prefix[0] if prefix else "", [0, 0])
            counts[0] += 1
            counts[1] += row[quantity_index].lstrip().startswith("-")
    return {
        prefix: (counts[0], counts[1])
        for prefix, counts in sorted(counts_by_prefix.items())
        if 1 < len(counts_by_prefix) <= 20
    }


def _free_kinds(draft: ContractDraft) -> list[str]:
    """Return a commented-out kind for receipts without any price, which often aren't sales."""
    price = draft.line_fields.get("unit_price")
    if draft.format != "csv" or price is None or not price.range.zero or price.kind == "empty":
        return []
    return [
        f"  # check: {price.range.zero} rows have a price of zero: given away, or not sales? To skip such receipts:",
        f'  # - when: {{path: {yaml_text(f"total({draft.all_values_path(price)})")}, is: "0"}}',
        '  #   skip: "not a sale"',
    ]


def _coded_kinds(draft: ContractDraft) -> list[str]:
    """Return kinds for values that name a return or a void, in fields such as `type` or `status`."""
    lines: list[str] = []
    for column in draft.survey.columns.values():
        names_a_kind = normalized_name(column.path).endswith(("type", "kind", "status", "action"))
        if (
            "[]" in column.path
            or not names_a_kind
            or column.kind != "text"
            or len(column.counts) > 12
            or column.personal
        ):
            continue
        for value in column.counts:
            kind = "return" if _RETURNS.search(value) else "void" if _VOIDS.search(value) else None
            if kind is not None:
                path = draft.receipt_path(column)
                lines.append(f"  - when: {{path: {yaml_text(path)}, is: {yaml_text(value)}}}")
                lines.append(f"    type: {kind}  # check: does {_printable(value)} mean this?")
    return lines


def _jmes_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:40]
