"""Documents that a repair takes back are cut into records that any broker takes, and put together again."""

from typing import Any

import pytest

from sinks.base import ReferenceSnapshot
from streams.dead_letters.audit import parse_entries
from streams.dead_letters.removed_documents import RemovedPiece, reassemble, to_pieces
from streams.kafka.reader import TopicRecord

#: What a sender takes whatever the settings say is a little more.
MOST = 2**17


def kept(ref: str, text: str) -> ReferenceSnapshot:
    rows: dict[str, list[dict[str, Any]]] = {"documents": [{"sku": text, "cashier": None, "revision": 3}]}
    return ReferenceSnapshot(ref, rows)


@pytest.mark.parametrize("text", ["", "a|b", '"\\', "\x01" * 40_000, '"' * 100_000, "𝕏" * 100_000, "ü漢🍏" * 50_000])
def test_documents_of_any_size_come_back_equal(text: str) -> None:
    both = [kept("pos/S1/R1/1/sale", text), kept("pos/S1/R1/2/sale", "another")]
    pieces = list(to_pieces("a-1", "sqlite:///erp.db", both))
    sent = [piece.model_dump_json().encode() for piece in pieces]
    assert max(map(len, sent)) < MOST
    read = [RemovedPiece.model_validate_json(each) for each in reversed(sent)]
    assert reassemble([*read, *read]) == (both, [])


def test_document_of_which_a_piece_is_lost_is_named_and_not_put_together() -> None:
    pieces = list(to_pieces("a-1", "sqlite:///erp.db", [kept("x", "a" * 100_000), kept("y", "b")]))
    for place in range(len(pieces) - 1):
        assert reassemble(pieces[:place] + pieces[place + 1 :]) == ([kept("y", "b")], ["x"])


def test_kept_documents_are_no_entries_about_letters() -> None:
    (piece,) = to_pieces("a-1", "sqlite:///erp.db", [kept("x", "a")])
    assert parse_entries(TopicRecord(0, 0, 0, b"a-1", piece.model_dump_json().encode(), [])) == ()
