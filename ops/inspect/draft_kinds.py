"""A draft's kinds of records: sales, and what the records themselves say are returns, voids or no sales."""

import re

from ops.files.records import rows
from ops.inspect.column import ValueColumn
from ops.inspect.draft_fields import line_rules
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.roles import normalized_name

_RETURNS = re.compile(r"return|refund|credit", re.IGNORECASE)
_VOIDS = re.compile(r"void|cancel", re.IGNORECASE)


def kind_rules(draft: ContractDraft) -> list[str]:
    """The kinds; what fits none of those found is a sale."""
    return [
        "",
        "# The first kind that fits is taken.",
        "kinds:",
        *_prefix_kinds(draft),
        *_free_kinds(draft),
        *_coded_kinds(draft),
        "  - type: sale",
    ]


def _prefix_kinds(draft: ContractDraft) -> list[str]:
    """Receipt numbers that begin with a letter: returns, where negative quantities go with it."""
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
                "    lines:  # as the contract's own, the quantity turned round: a return states what it gives back",
                *line_rules(draft, "      ", negate=True),
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


def _negative_counts(draft: ContractDraft, receipt: str, quantity: ValueColumn) -> dict[str, tuple[int, int]]:
    """For each prefix of letters of the receipt's number: its rows, and those with a negative quantity."""
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
    """Receipts that cost nothing at all: often no sales."""
    price = draft.line_fields.get("unit_price")
    if draft.format != "csv" or price is None or not price.range.zero or price.kind == "empty":
        return []
    return [
        f"  # check: {price.range.zero} rows have a price of zero: given away, or no sales? Receipts of nothing else:",
        f'  # - when: {{path: {yaml_text(f"total({draft.all_values_path(price)})")}, is: "0"}}',
        '  #   skip: "no sale"',
    ]


def _coded_kinds(draft: ContractDraft) -> list[str]:
    """A field that says in words which kind a record is."""
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
                lines.append(f"    type: {kind}  # check: is that what {_printable(value)} means?")
    return lines


def _jmes_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:40]
