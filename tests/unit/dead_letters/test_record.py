"""A dead letter keeps the record as it came, and its headers say where it came from and why it failed."""

import hashlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from streams.batch import Rejection
from streams.dead_letters.record import DeadLetterRecord, dead_letter_record, reason_of, record_size, truncate
from streams.decode import decode
from tests.support.events import NOON, FakeRecord, batch, value


def rejection(record: FakeRecord) -> Rejection:
    return Rejection(record, Reason.INVALID_JSON, "json_invalid", "decode")


def headers(made: DeadLetterRecord) -> dict[str, str]:
    return {name: text.decode() for name, text in made.headers}


def test_key_value_and_headers_are_kept_byte_for_byte() -> None:
    theirs = [("trace", b"\xff\x00"), ("trace", b"again"), ("empty", b"")]
    made = dead_letter_record(rejection(FakeRecord(7, b"\xfe{", b"\x00k", headers=theirs)), "pos.sales", 3, NOON)
    assert (made.key, made.value) == (b"\x00k", b"\xfe{")
    assert made.headers[:3] == theirs


def test_headers_say_where_from_why_and_when() -> None:
    said = headers(dead_letter_record(rejection(FakeRecord(7, b"{")), "pos.sales", 3, NOON))
    assert said == {
        "__connect.errors.topic": "pos.sales",
        "__connect.errors.partition": "3",
        "__connect.errors.offset": "7",
        "__connect.errors.stage": "decode",
        "__connect.errors.exception.class.name": "invalid_json",
        "__connect.errors.exception.message": "json_invalid",
        "tillstream.reason": "invalid_json",
        "tillstream.detail": "json_invalid",
        "tillstream.attempts": "1",
        "tillstream.first_failed_at": "2026-03-10T12:00:00.000+00:00",
        "tillstream.last_failed_at": "2026-03-10T12:00:00.000+00:00",
    }


def test_event_that_was_readable_is_named_with_its_store_and_amount_and_no_person() -> None:
    person = {"id": "C-4711", "name": "Name Surname", "email": "n@example.org"}
    arrivals, _, _ = decode(batch(value(1, customer=person, cashier="Casey")))
    dead = Rejection(arrivals[0].record, Reason.TOTALS_MISMATCH, "totals.gross", "check", arrivals[0].event)
    said = headers(dead_letter_record(dead, "pos.sales", 0, NOON))
    assert (said["tillstream.event_id"], said["tillstream.store"], said["tillstream.amount"]) == (
        "pos:e-1",
        "S1",
        "3.00 EUR",
    )
    assert not any(secret in str(said) for secret in ("4711", "Surname", "example.org", "Casey"))


def test_second_pass_overwrites_our_headers_and_counts_the_attempt() -> None:
    first = dead_letter_record(rejection(FakeRecord(7, b"{", headers=[("trace", b"t")])), "pos.sales", 3, NOON)
    later = NOON + timedelta(hours=2)
    second = dead_letter_record(rejection(FakeRecord(90, b"{", headers=first.headers)), "pos.sales", 1, later)
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names))
    said = headers(second)
    assert said["tillstream.attempts"] == "2"
    assert said["tillstream.first_failed_at"] == "2026-03-10T12:00:00.000+00:00"
    assert said["tillstream.last_failed_at"] == "2026-03-10T14:00:00.000+00:00"
    assert said["__connect.errors.offset"] == "90"


@pytest.mark.parametrize("stated", [b"", b"x", b"-1", b"\xff", b"9" * 5000, "²".encode()])
def test_nonsense_in_our_headers_is_overwritten(stated: bytes) -> None:
    before = [("tillstream.attempts", stated), ("tillstream.first_failed_at", stated)]
    said = headers(dead_letter_record(rejection(FakeRecord(7, b"{", headers=before)), "pos.sales", 3, NOON))
    assert said["tillstream.attempts"] == "1"


def test_reason_of_a_foreign_record_is_none() -> None:
    assert reason_of([("tillstream.reason", b"no_such")]) is None
    assert reason_of([]) is None
    assert reason_of(dead_letter_record(rejection(FakeRecord(7, b"{")), "t", 0, NOON).headers) is Reason.INVALID_JSON


@given(st.binary(max_size=50), st.binary(max_size=100), st.lists(st.text(max_size=9), max_size=4), st.integers(0, 200))
def test_truncated_letter_fits_and_says_what_the_whole_was(
    key: bytes, content: bytes, extra: list[str], room: int
) -> None:
    record = FakeRecord(7, content, key, headers=[("h", one.encode()) for one in extra])
    whole = dead_letter_record(rejection(record), "pos.sales", 3, NOON)
    made = truncate(whole, room)
    assert record_size(made) <= room or room == 0
    assert key.startswith(made.key or b"")
    assert content.startswith(made.value or b"")
    said = headers(made)
    assert (said["tillstream.truncated"], said["tillstream.sha256"]) == (
        str(len(content)),
        hashlib.sha256(content).hexdigest(),
    )
    assert said["__connect.errors.offset"] == "7"
    assert said["tillstream.reason"] == "invalid_json"


def test_key_is_kept_before_the_value_and_both_before_headers() -> None:
    whole = dead_letter_record(
        rejection(FakeRecord(7, b"v" * 10, b"k" * 5, headers=[("h", b"x" * 9)])), "pos.sales", 3, NOON
    )
    assert record_size(whole) == 25
    assert [
        (made.key, made.value, "h" in headers(made)) for made in (truncate(whole, room) for room in (25, 15, 8))
    ] == [
        (b"kkkkk", b"vvvvvvvvvv", True),
        (b"kkkkk", b"vvvvvvvvvv", False),
        (b"kkkkk", b"vvv", False),
    ]


def test_record_without_a_key_has_none_when_truncated() -> None:
    assert truncate(dead_letter_record(rejection(FakeRecord(7, b"{", None)), "t", 0, NOON), 0)[:2] == (None, b"")


def test_truncated_letter_that_is_rejected_again_still_says_so() -> None:
    first = truncate(dead_letter_record(rejection(FakeRecord(7, b"{" * 100)), "pos.sales", 3, NOON), 10)
    again = headers(
        dead_letter_record(rejection(FakeRecord(9, first.value, headers=first.headers)), "pos.sales", 3, NOON)
    )
    assert again["tillstream.truncated"] == "100"


def test_every_reason_has_a_meaning_and_an_advice() -> None:
    for reason in Reason:
        assert reason.meaning.endswith(".")
        assert reason.advice.endswith(".")
