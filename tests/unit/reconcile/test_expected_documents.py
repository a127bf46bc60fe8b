"""Rows of the records that were sent, evaluated by the line's own steps."""

import asyncio

from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.rows import SentRow
from schemas.store import Store, Stores
from streams.mapping.mapper import IdentityMapper, Mapper
from streams.sources.canonical import CANONICAL
from tests.support.events import NOON, batch, value
from tests.support.mapping import ANY_STORE, table_mapper


def rows(*values: bytes | None, mapper: Mapper | None = None) -> list[SentRow]:
    expected = ExpectedDocuments(CANONICAL, mapper or IdentityMapper(ANY_STORE))
    found, _ = asyncio.run(expected.rows(batch(*values), NOON))
    return sorted(found, key=lambda row: row.offset)


def test_event_sent_twice_in_a_batch_has_a_row_for_each_record() -> None:
    assert [(row.offset, row.place, row.event_id) for row in rows(value(1), value(2), value(1))] == [
        (0, 0, "pos:e-1"),
        (1, 0, "pos:e-2"),
        (2, 0, "pos:e-1"),
    ]


def test_rows_have_the_reason_why_there_is_no_document() -> None:
    listed = IdentityMapper(Stores({"S1": Store()}, None))
    found = rows(value(1), value(2, store="S2"), value(3, lines=[]), b"{", None, mapper=listed)
    assert [row.reason for row in found] == ["", "unknown_store", "empty_receipt", "invalid_json", ""]
    assert [row.skipped for row in found] == ["", "", "", "", "tombstone"]


def test_codes_of_a_mapping_do_not_change_a_row() -> None:
    coded = table_mapper(
        items=[{"sku": "A", "item_code": "4711"}], cleaning={"quantity": {"at_most": 1, "then": "hold"}}
    )
    assert rows(value(1), mapper=coded) == rows(value(1))
