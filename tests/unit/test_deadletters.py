"""Dead letters keep the record as it came; the budget stops a bad deploy."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletter import Reason
from streams.batch import Rejection
from streams.deadletters import BudgetExceeded, BudgetGuard, DeadLetters, Letter, letter, reason_of
from streams.decode import decode
from tests.support.events import NOON, FakeRecord, batch, value


def rejection(record: FakeRecord) -> Rejection:
    return Rejection(record, Reason.INVALID_JSON, "json_invalid", "decode")


def headers(made: Letter) -> dict[str, str]:
    return {name: text.decode() for name, text in made.headers}


def test_key_value_and_headers_are_kept_byte_for_byte() -> None:
    theirs = [("trace", b"\xff\x00"), ("trace", b"again"), ("empty", b"")]
    made = letter(rejection(FakeRecord(7, b"\xfe{", b"\x00k", headers=theirs)), "pos.sales", 3, NOON)
    assert (made.key, made.value) == (b"\x00k", b"\xfe{")
    assert made.headers[:3] == theirs


def test_headers_say_where_from_why_and_when() -> None:
    said = headers(letter(rejection(FakeRecord(7, b"{")), "pos.sales", 3, NOON))
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
    said = headers(letter(dead, "pos.sales", 0, NOON))
    assert (said["tillstream.event_id"], said["tillstream.store"], said["tillstream.amount"]) == (
        "pos:e-1",
        "S1",
        "3.00 EUR",
    )
    assert not any(secret in str(said) for secret in ("4711", "Surname", "example.org", "Casey"))


def test_second_pass_overwrites_our_headers_and_counts_the_attempt() -> None:
    first = letter(rejection(FakeRecord(7, b"{", headers=[("trace", b"t")])), "pos.sales", 3, NOON)
    later = NOON + timedelta(hours=2)
    second = letter(rejection(FakeRecord(90, b"{", headers=first.headers)), "pos.sales", 1, later)
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
    said = headers(letter(rejection(FakeRecord(7, b"{", headers=before)), "pos.sales", 3, NOON))
    assert said["tillstream.attempts"] == "1"


def test_reason_of_a_foreign_record_is_none() -> None:
    assert reason_of([("tillstream.reason", b"no_such")]) is None
    assert reason_of([]) is None
    assert reason_of(letter(rejection(FakeRecord(7, b"{")), "t", 0, NOON).headers) is Reason.INVALID_JSON


async def test_letters_go_out_in_the_order_of_their_offsets() -> None:
    sent: list[bytes | None] = []

    async def publish(letters: list[Letter]) -> None:
        sent.extend(made.value for made in letters)

    queue = DeadLetters(publish, lambda: datetime.now(UTC))  # type: ignore[arg-type]  # a list is a sequence
    await queue.put("pos.sales", 0, [rejection(FakeRecord(offset, str(offset).encode())) for offset in (9, 2, 5)])
    assert sent == [b"2", b"5", b"9"]


def test_every_reason_has_a_meaning_and_an_advice() -> None:
    for reason in Reason:
        assert reason.meaning.endswith(".")
        assert reason.advice.endswith(".")


def test_budget_stops_a_topic_of_rejections_within_the_sample() -> None:
    guard = BudgetGuard(0.5, 1000)
    passed = 0
    while passed < 500:
        guard.spend(100, 100)
        passed += 100
    with pytest.raises(BudgetExceeded, match="600 of the latest 600 records"):
        guard.spend(100, 100)


def test_one_batch_over_the_ratio_is_stopped_whatever_its_size() -> None:
    with pytest.raises(BudgetExceeded):
        BudgetGuard(0.5, 1000).spend(2000, 1001)
    BudgetGuard(0.5, 1000).spend(2000, 1000)


def test_old_rejections_are_forgotten() -> None:
    guard = BudgetGuard(0.1, 100)
    guard.spend(10, 10)
    for _ in range(10):
        guard.spend(10, 0)
    assert guard.used == 0
    guard.spend(10, 10)


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 0.5)), max_size=60))
def test_stream_within_the_ratio_is_never_stopped(batches: list[tuple[int, float]]) -> None:
    guard = BudgetGuard(0.5, 100)
    for records, share in batches:
        guard.spend(records, int(records * share / 2))
