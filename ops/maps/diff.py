"""`tillstream map diff`: which records come to another end by a new contract, and what that does to the money."""

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

_SHOWN = 10


@dataclass
class ContractDifference:
    """Two contracts on the same records. `changed`: (record, before, after, what differs).

    `worse` are records of which a dead letter is new, or of which other money is booked than was.
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
        was, becomes = outcome(old, mapper, record, now), outcome(new, mapper, record, now)
        result.records += 1
        _add(result.before, was)
        _add(result.after, becomes)
        what = _differs(was, becomes)
        if what is None:
            result.same += 1
            continue
        result.worse += _is_worse(was, becomes)
        result.ends[was.word, becomes.word] += 1
        if len(result.changed) < _SHOWN:
            result.changed.append((name, was.word, becomes.word, what))
    return result


def _add(totals: dict[str, Decimal], result: RecordOutcome) -> None:
    for document in result.documents:
        totals[document.currency] = totals.get(document.currency, Decimal(0)) + document.gross


def _is_worse(was: RecordOutcome, becomes: RecordOutcome) -> bool:
    """Money that comes of what was a dead letter is none that was booked otherwise."""
    before, after = _booked(was), _booked(becomes)
    repaired = len(was.details) - len(becomes.details)
    return repaired < 0 or bool(before - after) or (bool(after - before) and not repaired)


def _booked(result: RecordOutcome) -> Counter[tuple[str, str, Decimal]]:
    """The receipts that are booked, and their money; receipts of nothing are left out."""
    return Counter((each.external_ref, each.currency, each.gross) for each in result.documents if each.gross)


def _differs(was: RecordOutcome, becomes: RecordOutcome) -> str | None:
    """What is different, in words that show no value; None: nothing is."""
    if (was.words, was.details) != (becomes.words, becomes.details):
        faults = [
            f"{when}: {'; '.join(each.details)}" for when, each in (("before", was), ("after", becomes)) if each.details
        ]
        return ", ".join(faults)
    fields: set[str] = set()
    for one, other in zip(was.documents, becomes.documents, strict=True):
        first, second = as_json(one), as_json(other)
        fields |= {name for name in first if first[name] != second[name]}
    # The digest of the content follows from the others.
    return ", ".join(sorted(fields - {"content"} or fields)) if fields else None


def report_difference(found: ContractDifference, *, as_json: bool) -> None:
    """As tables, or as one JSON object."""
    currencies = sorted(found.before.keys() | found.after.keys())
    if as_json:
        click.echo(json.dumps(_object(found, currencies), ensure_ascii=False))
        return
    out = console()
    worse = f", {found.worse:,} to a worse one: a new dead letter, or other money" if found.worse else ""
    out.print(f"{found.records:,} records, {found.records - found.same:,} come to another end{worse}", soft_wrap=True)
    if found.ends:
        table = Table("records", "before", "after", box=None, header_style="bold")
        for (was, becomes), count in found.ends.most_common():
            table.add_row(f"{count:,}", escape(was), escape(becomes))
        out.print(table)
        table = Table("record", "before", "after", "what", box=None, header_style="bold")
        for row in found.changed:
            table.add_row(*map(escape, row))
        out.print(table)
        more = found.records - found.same - len(found.changed)
        if more:
            out.print(f"… and {more:,} more")
    table = Table("gross", "before", "after", "difference", box=None, header_style="bold")
    for currency in currencies:
        before, after = found.before.get(currency, Decimal(0)), found.after.get(currency, Decimal(0))
        table.add_row(currency, f"{before:,}", f"{after:,}", f"{after - before:+,}")
    out.print(table)


def _object(found: ContractDifference, currencies: list[str]) -> dict[str, object]:
    return {
        "records": found.records,
        "same": found.same,
        "worse": found.worse,
        "ends": [{"before": was, "after": then, "records": count} for (was, then), count in found.ends.most_common()],
        "changed": [dict(zip(("record", "before", "after", "what"), row, strict=True)) for row in found.changed],
        "gross": {
            currency: {
                "before": str(found.before.get(currency, Decimal(0))),
                "after": str(found.after.get(currency, Decimal(0))),
            }
            for currency in currencies
        },
    }
