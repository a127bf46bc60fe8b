"""A draft's kinds of records: sales, and what the records themselves say are returns, voids or no sales."""

import re

from ops.files.records import rows
from ops.inspect.column import ValueColumn
from ops.inspect.draft_fields import line_rules
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.roles import joined

_RETURNS = re.compile(r"return|refund|credit", re.IGNORECASE)
_VOIDS = re.compile(r"void|cancel", re.IGNORECASE)


def kinds(made: ContractDraft) -> list[str]:
    """The kinds; what fits none of those found is a sale."""
    return [
        "",
        "# The first kind that fits is taken.",
        "kinds:",
        *_prefix_kinds(made),
        *_free_kinds(made),
        *_coded_kinds(made),
        "  - type: sale",
    ]


def _prefix_kinds(made: ContractDraft) -> list[str]:
    """Receipt numbers that begin with a letter: returns, where negative quantities go with it."""
    lines: list[str] = []
    quantity = made.line.get("quantity")
    if made.format != "csv" or made.receipt is None or quantity is None or not made.receipt.prefixes:
        return lines
    for prefix, (count, negative) in _signs(made, made.receipt.path, quantity).items():
        when = f"{{path: {yaml_text(f'starts_with({made.top(made.receipt)}, {_jmes_text(prefix)})')}}}"
        if prefix and count and negative > 0.9 * count:
            lines += [
                f"  - when: {when}",
                f"    type: return  # check: {negative} of the {count} rows of {prefix}… have a negative quantity",
                "    lines:  # as the contract's own, the quantity turned round: a return states what it gives back",
                *line_rules(made, "      ", negate=True),
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


def _signs(made: ContractDraft, receipt: str, quantity: ValueColumn) -> dict[str, tuple[int, int]]:
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


def _free_kinds(made: ContractDraft) -> list[str]:
    """Receipts that cost nothing at all: often no sales."""
    price = made.line.get("unit_price")
    if made.format != "csv" or price is None or not price.range.zero or price.kind == "empty":
        return []
    return [
        f"  # check: {price.range.zero} rows have a price of zero: given away, or no sales? Receipts of nothing else:",
        f'  # - when: {{path: {yaml_text(f"total({made.everywhere(price)})")}, is: "0"}}',
        '  #   skip: "no sale"',
    ]


def _coded_kinds(made: ContractDraft) -> list[str]:
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
                lines.append(f"  - when: {{path: {yaml_text(path)}, is: {yaml_text(value)}}}")
                lines.append(f"    type: {kind}  # check: is that what {_shown(value)} means?")
    return lines


def _jmes_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:40]
