"""Dead letters and events are found by number, id and reference, whatever separators are in them."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ops.dlq.filters import DeadLetterFilter
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from schemas.store import Store, Stores
from streams.dead_letters.header import DeadLetterHeader
from streams.mapping.mapper import IdentityMapper
from streams.sources.canonical import CANONICAL
from tests.support.books import AFTER
from tests.support.dead_letters import dead, head
from tests.support.events import batch, value

SLASHES = {"register": "1", "receipt": "2/3"}
SHIFTED = {"register": "1/2", "receipt": "3"}


def finds(found: DeadLetterHeader, **stated: tuple[str, ...]) -> bool:
    return DeadLetterFilter(**stated).matcher()(found, dead(1))  # type: ignore[arg-type]  # the filters are texts


@pytest.mark.parametrize("receipt", ["2/3", "pos/S1/1/2%2F3/sale"])
def test_letter_is_found_by_its_number_and_reference(receipt: str) -> None:
    assert finds(head(1, **SLASHES), receipts=(receipt,))
    assert not finds(head(1, **SHIFTED), receipts=(receipt,))


@pytest.mark.parametrize("receipt", ["2026/00123", "pos/S1/R1/2026/00123/sale", "pos/S1/R1/2026%2F00123/sale"])
def test_letter_of_before_is_found_by_its_number_and_references(receipt: str) -> None:
    old = replace(head(1), receipt="pos/S1/R1/2026/00123/sale")
    assert finds(old, receipts=(receipt,))
    assert not finds(old, receipts=("00123",))


def test_source_with_a_colon_is_found() -> None:
    assert head(1, source="a:b").source == "a:b"
    assert finds(head(1, source="a:b"), sources=("a:b",))
    assert not finds(head(1, source="a:b"), sources=("a",))


@pytest.mark.parametrize("event_id", ["b:c", "S1/R1/1/sale/0"])
def test_letter_is_found_by_its_events_id(event_id: str) -> None:
    assert finds(head(1, event_id=event_id), event_ids=(event_id,))


@pytest.fixture
def event_store() -> Iterator[EventStore]:
    """What four tills have sent."""
    sent = batch(
        value(1, **SLASHES),
        value(2, **SHIFTED),
        value(3, source="a:b", event_id="c", receipt="17"),
        value(4, source="a", event_id="b:c", receipt="S1/R1/1/x/sale"),
        value(5, event_id=None, receipt="18"),
        value(6, event_id="S1/R1/18/sale/0", receipt="19"),
    )
    event_store = EventStore()
    rows, _ = asyncio.run(ExpectedDocuments(CANONICAL, IdentityMapper(Stores({}, Store()))).rows(sent, AFTER))
    event_store.add(rows)
    yield event_store
    event_store.close()


@pytest.mark.parametrize(
    ("target", "refs"),
    [
        ("2/3", ["pos/S1/1/2%2F3/sale"]),
        ("3", ["pos/S1/1%2F2/3/sale"]),
        ("pos/S1/1/2%2F3/sale", ["pos/S1/1/2%2F3/sale"]),
        ("pos/S1/1/2/3/sale", ["pos/S1/1%2F2/3/sale", "pos/S1/1/2%2F3/sale"]),
        ("c", ["a:b/S1/R1/17/sale"]),
        ("a%3Ab:c", ["a:b/S1/R1/17/sale"]),
        ("a:b:c", ["a/S1/R1/S1%2FR1%2F1%2Fx%2Fsale/sale"]),
        ("S1/R1/1/x/sale", ["a/S1/R1/S1%2FR1%2F1%2Fx%2Fsale/sale"]),
        ("pos:S1/R1/18/sale/0", ["pos/S1/R1/18/sale"]),
        ("pos:/S1/R1/18/sale/0", ["pos/S1/R1/19/sale"]),
        ("S1/R1/18/sale/0", ["pos/S1/R1/18/sale", "pos/S1/R1/19/sale"]),
    ],
)
def test_receipt_is_meant_by_number_reference_or_event(event_store: EventStore, target: str, refs: list[str]) -> None:
    assert event_store.find_references(target) == refs
