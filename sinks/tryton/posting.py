"""The second stage: sales that are done are posted to Tryton's stock and ledger, in batches, at a pace of their own.

The sales to post are queried from Tryton each time, so that the next run continues after one that was interrupted. A
sale that Tryton refuses to post (a closed period, a missing account) stays done, with the reason in the delivery log,
and the next run retries it, after all others and one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sinks.base import DocumentsRefused
from sinks.tryton.master_data import SALE
from sinks.tryton.sink import TrytonSink

BATCH = 50


@dataclass(frozen=True, slots=True)
class PostingProgress:
    """Sales that one call posted, or was refused for."""

    posted: int
    refused: int
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _PendingSale:
    id: int
    external_ref: str


def post(sink: TrytonSink, batch: int = BATCH) -> Iterator[PostingProgress]:
    """Post all sales that are done now, oldest first; one item for each call. Raises SinkUnavailable."""
    last, troubled = 0, []
    known = {entry.external_ref for entry in sink.ledger.with_errors("confirmed")}
    while sales := _done(sink, batch, last):
        last = sales[-1].id
        troubled += [sale for sale in sales if sale.external_ref in known]
        if new := [sale for sale in sales if sale.external_ref not in known]:
            yield from _post(sink, new)
    for sale in troubled:
        yield from _post(sink, [sale])
    _catch_up(sink)


def left(sink: TrytonSink) -> int:
    """How many sales are done and not posted."""
    return int(sink.client.call(f"{SALE}search_count", _done_sales(sink), 0, None, sink.master.context()))


def _done_sales(sink: TrytonSink) -> list[list[object]]:
    own = ["company", "=", sink.master.context()["company"]]
    return [own, ["state", "=", "done"], ["external_ref", "!=", None]]


def _done(sink: TrytonSink, limit: int, after: int) -> list[_PendingSale]:
    fields, order = ["external_ref"], [["id", "ASC"]]
    domain = [*_done_sales(sink), ["id", ">", after]]
    rows = sink.client.call(f"{SALE}search_read", domain, 0, limit, order, fields, sink.master.context())
    return [_PendingSale(row["id"], row["external_ref"]) for row in rows]


def _still_done(sink: TrytonSink, sales: Sequence[_PendingSale]) -> list[_PendingSale]:
    domain = [*_done_sales(sink), ["id", "in", [sale.id for sale in sales]]]
    ids = set(sink.client.call(f"{SALE}search", domain, 0, None, None, sink.master.context()))
    return [sale for sale in sales if sale.id in ids]


def _post(sink: TrytonSink, sales: Sequence[_PendingSale]) -> Iterator[PostingProgress]:
    try:
        sink.client.call(f"{SALE}post", [sale.id for sale in sales], sink.master.context())
    except DocumentsRefused as refused:
        still = _still_done(sink, sales)
        if len(still) < len(sales):  # another run posts too: one that was killed has its last call going on in Tryton
            _note(sink, [sale for sale in sales if sale not in still])
            if still:
                yield from _post(sink, still)
        elif len(sales) > 1:
            middle = len(sales) // 2
            yield from _post(sink, sales[:middle])
            yield from _post(sink, sales[middle:])
        else:
            sink.ledger.fail([sales[0].external_ref], f"post: {refused.detail}")
            yield PostingProgress(0, 1, refused.detail)
    else:
        _note(sink, sales)
        yield PostingProgress(len(sales), 0)


def _catch_up(sink: TrytonSink) -> None:
    """Record the sales that a killed run has posted without recording them."""
    behind = [entry.external_ref for entry in sink.ledger.in_state("confirmed")]
    sink.ledger.note(entry for entry in sink.entries_of(behind) if entry.state != "confirmed")


def _note(sink: TrytonSink, sales: Sequence[_PendingSale]) -> None:
    """Record the state of these sales in Tryton."""
    sink.ledger.note(sink.entries_of([sale.external_ref for sale in sales]))
