"""What a dead letter says of itself, whoever wrote it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from streams.dead_letters.header import UNKNOWN, RecordOrigin, parse_header
from streams.kafka.reader import TopicRecord
from tests.support.dead_letters import DLQ, dead, head
from tests.support.events import NOON


def foreign(*headers: tuple[str, bytes]) -> TopicRecord:
    return TopicRecord(3, 17, int(NOON.timestamp() * 1000), b"k", b"v", list(headers))


def digest(value: bytes) -> str:
    return sha256(value).hexdigest()[:16]


def test_another_record_at_the_same_offset_is_another() -> None:
    assert head(1).origin == head(1, at=(2, 9)).origin
    assert head(1).origin != head(1, cashier="B").origin


def test_letter_of_ours_says_all_that_is_known_of_its_record() -> None:
    said = head(7)
    assert (said.origin, said.location) == (RecordOrigin("pos.sales", 0, 7, said.origin.digest), "0:7")
    assert (said.reason, said.detail, said.stage) == ("unmapped_item", "lines.0.sku: unmapped 'A'", "map")
    assert (said.attempts, said.first_failed, said.last_failed) == (1, NOON, NOON)
    assert (said.event_id, said.source, said.store) == ("pos:e-7", "pos", "S1")
    assert (said.receipt, said.amount, said.currency) == ("pos/S1/R1/7/sale", Decimal("3.00"), "EUR")


def test_letter_in_kafka_connects_convention_is_read() -> None:
    said = parse_header(
        foreign(
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"2"),
            ("__connect.errors.offset", b"99"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            ("__connect.errors.exception.message", b"Kaputt: Ada Lovelace"),
        ),
        DLQ,
    )
    assert (said.origin, said.reason, said.stage) == (
        RecordOrigin("orders", 2, 99, digest(b"v")),
        "DataException",
        "VALUE_CONVERTER",
    )
    assert (said.detail, said.ours, said.first_failed) == ("", False, NOON)


def test_record_that_says_nothing_is_unknown_and_its_own_origin() -> None:
    said = parse_header(foreign(), DLQ)
    assert (said.reason, said.origin, said.attempts, said.amount) == (
        UNKNOWN,
        RecordOrigin(DLQ, 3, 17, digest(b"v")),
        1,
        None,
    )


def test_what_a_terminal_would_obey_is_escaped() -> None:
    said = parse_header(
        foreign(("tillstream.reason", b"\x1b[31mEVIL\r\n"), ("tillstream.store", "\x9b2JS\u202e1 é\xa0€".encode())), DLQ
    )
    assert (said.reason, said.store) == (r"\x1b[31mEVIL\r\n", "\\x9b2JS\\u202e1 é\xa0€")


@pytest.mark.parametrize("amount", [b"5", b"5 " + b"Z" * 5000, b"5 EUR\n"])
def test_amount_without_a_currency_is_none(amount: bytes) -> None:
    said = parse_header(foreign(("tillstream.amount", amount)), DLQ)
    assert (said.amount, said.currency) == (None, "")


def test_later_attempt_is_newer_and_so_is_the_same_one_once_more() -> None:
    first = dead(1)
    second = dead(1, headers=first.headers, at=(0, 2), now=NOON + timedelta(hours=1))
    assert parse_header(second, DLQ).supersedes(parse_header(first, DLQ))
    assert (parse_header(second, DLQ).attempts, parse_header(second, DLQ).first_failed) == (2, NOON)
    assert head(1, at=(0, 9)).supersedes(head(1, at=(0, 8)))


names = st.sampled_from([f"tillstream.{n}" for n in ("reason", "attempts", "amount", "first_failed_at", "event_id")])
connect = st.sampled_from([f"__connect.errors.{n}" for n in ("topic", "partition", "offset", "stage")])


@given(st.lists(st.tuples(names | connect | st.text(max_size=5), st.none() | st.binary(max_size=12))))
def test_no_header_whatsoever_is_fatal(headers: list[tuple[str, bytes]]) -> None:
    said = parse_header(foreign(*headers), DLQ)
    assert said.last_failed <= datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stated", "amount"), [(b"3.5 EUR", "3.50"), (b"3.505 EUR", "3.505"), (b"3 JPY", "3"), (b"3.5 ???", "3.5")]
)
def test_amount_has_the_decimal_places_of_its_currency(stated: bytes, amount: str) -> None:
    assert str(parse_header(foreign(("tillstream.amount", stated)), DLQ).amount) == amount


@pytest.mark.parametrize("amount", [b"1e99999999 EUR", b"NaN EUR", b"-1e12 EUR", b"x"])
def test_absurd_amount_is_none(amount: bytes) -> None:
    assert parse_header(foreign(("tillstream.amount", amount)), DLQ).amount is None


@pytest.mark.parametrize("moment", [b"9999-12-31T23:59:59+00:00", b"0001-01-01T00:00:00", b"soon"])
def test_absurd_time_is_the_record_s_own(moment: bytes) -> None:
    said = parse_header(foreign(("tillstream.first_failed_at", moment))._replace(timestamp=10**18), DLQ)
    assert 1970 < said.first_failed.year < 2200


def test_reason_of_the_future_is_shown_as_it_is() -> None:
    assert parse_header(foreign(("tillstream.reason", b"brand_new")), DLQ).reason == "brand_new"
    assert head(1, reason=Reason.HELD_TIME).reason == "held_time"
