"""`tillstream map diff`: which records have another outcome by a new contract, and how the amounts change."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import click
from rich.markup import escape
from rich.table import Table

from ops.inspect.render import console
from ops.maps.outcome import RecordOutcome, as_json, outcome
from streams.batch import Record
from streams.mapping.mapper import Mapper
from streams.sources.canonical import RecordSource

_MAX_SHOWN = 10


@dataclass
class ContractDifference:
    """The outcomes of the same records by two contracts. `changed` has rows of (record, before, after, difference).

    `worse` counts records that have a new dead letter, or for which other amounts are booked than before.
    """

    records: int = 0
    same: int = 0
    worse: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: list[tuple[str, str, str, str]] = field(default_factory=list)
    before: dict[str, Decimal] = field(default_factory=dict)
    after: dict[str, Decimal] = field(default_factory=dict)


def difference(
    old: RecordSource, new: RecordSource, mapper: Mapper, records: Iterable[tuple[str, Record]], now: datetime
) -> ContractDifference:
    """Compare the outcomes of the records, each with its name, by either contract."""
    result = ContractDifference()
    for name, record in records:
        old_outcome, new_outcome = outcome(old, mapper, record, now), outcome(new, mapper, record, now)
        result.records += 1
        _add(result.before, old_outcome)
        _add(result.after, new_outcome)
        difference_text = _difference(old_outcome, new_outcome)
        if difference_text is None:
            result.same += 1
            continue
        result.worse += _is_worse(old_outcome, new_outcome)
        result.ends[old_outcome.word, new_outcome.word] += 1
        if len(result.changed) < _MAX_SHOWN:
            result.changed.append((name, old_outcome.word, new_outcome.word, difference_text))
    return result


def _add(totals: dict[str, Decimal], result: RecordOutcome) -> None:
    for document in result.documents:
        totals[document.currency] = totals.get(document.currency, Decimal(0)) + document.gross


def _is_worse(old: RecordOutcome, new: RecordOutcome) -> bool:
    """Whether there is a new dead letter, or other amounts, unless these come from a dead letter that is booked now."""
    before, after = _booked(old), _booked(new)
    repaired = len(old.details) - len(new.details)
    return repaired < 0 or bool(before - after) or (bool(after - before) and not repaired)


def _booked(result: RecordOutcome) -> Counter[tuple[str, str, Decimal]]:
    """Return reference, currency and gross of the booked receipts, except those with a gross of zero."""
    return Counter((d.external_ref, d.currency, d.gross) for d in result.documents if d.gross)


def _difference(old: RecordOutcome, new: RecordOutcome) -> str | None:
    """Describe the difference without showing a value; None if there is no difference."""
    if (old.words, old.details) != (new.words, new.details):
        outcomes = (("before", old), ("after", new))
        return ", ".join(f"{when}: {'; '.join(result.details)}" for when, result in outcomes if result.details)
    fields: set[str] = set()
    for old_document, new_document in zip(old.documents, new.documents, strict=True):
        before, after = as_json(old_document), as_json(new_document)
        fields |= {name for name in before if before[name] != after[name]}
    # The digest of the content follows from the others.
    return ", ".join(sorted(fields - {"content"} or fields)) if fields else None


def report_difference(diff: ContractDifference, *, as_json: bool) -> None:
    """Print tables, or one JSON object."""
    currencies = sorted(diff.before.keys() | diff.after.keys())
    if as_json:
        click.echo(json.dumps(_object(diff, currencies), ensure_ascii=False))
        return
    out = console()
    worse = f", {diff.worse:,} a worse one: a new dead letter, or other amounts" if diff.worse else ""
    out.print(
        f"{diff.records:,} records, {diff.records - diff.same:,} have another outcome{worse}",
        soft_wrap=True,
    )
    if diff.ends:
        table = Table("records", "before", "after", box=None, header_style="bold")
        for (before_word, after_word), count in diff.ends.most_common():
            table.add_row(f"{count:,}", escape(before_word), escape(after_word))
        out.print(table)
        table = Table("record", "before", "after", "difference", box=None, header_style="bold")
        for row in diff.changed:
            table.add_row(*map(escape, row))
        out.print(table)
        more = diff.records - diff.same - len(diff.changed)
        if more:
            out.print(f"… and {more:,} more")
    table = Table("gross", "before", "after", "difference", box=None, header_style="bold")
    for currency in currencies:
        before, after = diff.before.get(currency, Decimal(0)), diff.after.get(currency, Decimal(0))
        table.add_row(currency, f"{before:,}", f"{after:,}", f"{after - before:+,}")
    out.print(table)


def _object(diff: ContractDifference, currencies: list[str]) -> dict[str, object]:
    return {
        "records": diff.records,
        "same": diff.same,
        "worse": diff.worse,
        "ends": [
            {"before": before, "after": after, "records": count} for (before, after), count in diff.ends.most_common()
        ],
        "changed": [dict(zip(("record", "before", "after", "what"), row, strict=True)) for row in diff.changed],
        "gross": {
            currency: {
                "before": str(diff.before.get(currency, Decimal(0))),
                "after": str(diff.after.get(currency, Decimal(0))),
            }
            for currency in currencies
        },
    }
