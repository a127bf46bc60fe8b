"""`tillstream explain`: a receipt's whole way, by its number, its reference, or an event of it."""

import json
from typing import Any

import pytest

from ops.reconcile.event_store import EventStore
from ops.reconcile.explain import word_filter
from streams.kafka.reader import TopicRecord
from tests.support.reconciliation import DAYS, TOPIC, Desk, ref


def ways(desk: Desk, target: str, code: int = 0) -> list[dict[str, Any]]:
    """What is known of it."""
    found: list[dict[str, Any]] = json.loads(desk.raw("explain", target, "--json", code=code))
    return found


def test_way_of_a_corrected_receipt_has_both_events_and_the_document(desk: Desk) -> None:
    (way,) = ways(desk, "e-1b")
    assert way["receipt"] == ref(1)
    sold, arrived = f"{DAYS[0]}T12:00:01.000+00:00", f"{DAYS[0]}T13:00:00.000+00:00"
    where = f"store S1, business day {DAYS[0]}"
    assert [tuple(step.values()) for step in way["steps"][:4]] == [
        (sold, "sold at the till", where, "event pos:e-1b, revision 1, 3.00 EUR"),
        (sold, "sold at the till", where, "event pos:e-1, revision 0, 3.00 EUR"),
        (arrived, "arrived", f"{TOPIC}, partition 1, offset 4", "delivered: the document that the ERP should hold"),
        (arrived, "arrived", f"{TOPIC}, partition 1, offset 0", "replaced by a higher revision"),
    ]
    assert [(step["what"], step["where"], step["detail"]) for step in way["steps"][4:]] == [
        ("in the ERP: written", ref(1), "pos:e-1, revision 0"),
        ("in the ERP: replaced", ref(1), "pos:e-1b, revision 1"),
        ("now: the ERP holds the invoice", ref(1), f"revision 1, 3.00 EUR, booked on {DAYS[0]} in store S1"),
    ]
    assert way["document"] == {
        "external_ref": ref(1), "event_id": "pos:e-1b", "kind": "invoice", "revision": 1, "store": "S1",
        "currency": "EUR", "mapping": None, "company": None, "review": None, "business_date": DAYS[0], "lines": 1,
        "net": "2.52", "tax": "0.48", "rounding": "0.00", "gross": "3.00",
    }  # fmt: skip
    assert "Zimmer" not in json.dumps(way)


def test_receipt_in_dead_letters_is_told_by_number_and_reference(desk: Desk) -> None:
    (way,) = ways(desk, "13")
    assert ways(desk, ref(13)) == [way]
    assert [(step["what"], step["where"], step["detail"]) for step in way["steps"][1:]] == [
        ("arrived", f"{TOPIC}, partition 1, offset 8", "a dead letter; today's rules: totals_mismatch"),
        ("dead letter, attempt 1", "letter 3:0", "totals_mismatch: totals.gross: differs_from_lines"),
        ("now: NOT BOOKED", ref(13), "9.99 EUR, in dead letters"),
    ]
    assert way["document"] is None


def test_number_of_several_receipts_means_all_of_them(desk: Desk) -> None:
    assert [way["receipt"] for way in ways(desk, "1")] == [ref(1), ref(1, "S2")]
    assert [way["receipt"] for way in ways(desk, "12")] == [ref(12, kind="return"), ref(12)]


def test_screen_shows_the_steps_of_a_receipt_that_was_deleted(desk: Desk) -> None:
    desk.execute(f"DELETE FROM documents WHERE external_ref = '{ref(2)}'")
    shown = desk.run("explain", "pos:e-2")
    assert shown.startswith(f"{ref(2)} when (UTC) what where detail {DAYS[0]} 12:00:02.000 sold at the till store S1")
    assert shown.endswith(f"now: the ERP holds no document {ref(2)} but one is due: tillstream reconcile")


def test_nothing_is_known_of_other_names(desk: Desk) -> None:
    told = desk.both("explain", "no-such-receipt", code=1)
    assert (told.stdout, told.stderr) == ("", "no receipt and no event matches no-such-receipt\n")
    (way,) = ways(desk, ref(77), code=1)
    assert way["steps"] == [
        {
            "at": None,
            "what": "now: the ERP holds no document",
            "where": ref(77),
            "detail": "and the topic has no record of it",
        }
    ]


def test_records_are_decoded_that_may_have_the_word(desk: Desk) -> None:
    def chosen(word: str, value: bytes | None, **settings: Any) -> bool:
        made = desk.settings.model_copy(update=settings)
        return word_filter(made, word)(TopicRecord(0, 0, 0, None, value, []))

    assert chosen("4711", b'{"receipt":"4711"}')
    assert chosen("4711", rb'{"receipt":"\u00344711"}')
    assert not chosen("4711", b'{"receipt":"4712"}')
    assert not chosen("4711", None)
    assert chosen("47/11", None)
    assert chosen("4711", None, contract="shopify")


def test_at_most_twenty_receipts_of_one_number_are_traced(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [ref(1, store=f"S{number}") for number in range(1, 26)]
    monkeypatch.setattr("ops.reconcile.explain._find_references", lambda *_: refs)
    assert [way["receipt"] for way in ways(desk, "1")] == refs[:20]


def test_scratch_files_of_a_trace_are_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[EventStore] = []
    closed: list[EventStore] = []
    begin, end = EventStore.__init__, EventStore.close
    monkeypatch.setattr(EventStore, "__init__", lambda store: (begin(store), opened.append(store))[0])
    monkeypatch.setattr(EventStore, "close", lambda store: (end(store), closed.append(store))[0])
    assert ways(desk, "e-1b")
    assert len(opened) >= 2
    assert opened == closed
