"""The benchmark's job against its own expectation, counted by decoding and checking every record."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest

from bench.generate import Job, pos_job
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode

CENT = Decimal("0.01")


@dataclass
class FakeRecord:
    value: bytes
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.fixture(scope="module")
def job() -> Job:
    return pos_job(20_000, seed=3)


@pytest.fixture(scope="module")
def reasons(job: Job) -> dict[int, Reason]:
    """Why the line rejects a record, by its place."""
    records = [FakeRecord(value, place) for place, (_, _, value) in enumerate(job.records)]
    arrivals, rejected, _ = decode(Batch("bench", 0, records))
    _, held = check(arrivals, datetime(2026, 3, 3, tzinfo=UTC))
    return {rejection.record.offset: rejection.reason for rejection in [*rejected, *held]}


def test_expectation_is_what_the_records_hold(job: Job, reasons: dict[int, Reason]) -> None:
    good = {value for place, (_, _, value) in enumerate(job.records) if place not in reasons}
    events = [SaleEvent.model_validate_json(value) for value in good]
    assert len({event.event_id for event in events}) == len(events) == job.expected_delivered == 18_800
    assert len({event.receipt_ref for event in events}) == len(events)
    assert sum(Decimal(event.totals["gross"]) for event in events) == job.expected_gross
    assert sum(len(event.lines) for event in events) == job.expected_lines
    assert (len(reasons), dict(Counter(reasons.values()))) == (job.expected_bad, dict(job.bad_by_reason))
    assert len(job.records) == 20_000 == len(good) + job.expected_bad + job.resent
    assert (job.resent, job.expected_bad) == (1_000, 200)


def test_good_events_add_up(job: Job, reasons: dict[int, Reason]) -> None:
    for place, (_, _, value) in enumerate(job.records[:3_000]):
        if place in reasons:
            continue
        event = SaleEvent.model_validate_json(value)
        amounts = [
            (Decimal(line["quantity"]) * Decimal(line["unit_price"])).quantize(CENT, ROUND_HALF_UP)
            for line in event.lines
        ]
        nets = [
            (amount / (1 + Decimal(line["tax_rate"]) / 100)).quantize(CENT, ROUND_HALF_UP)
            for amount, line in zip(amounts, event.lines, strict=True)
        ]
        assert [line["amount"] for line in event.lines] == list(map(str, amounts))
        assert [tender["amount"] for tender in event.tenders] == [str(sum(amounts))]
        net = sum(nets)
        assert event.totals == {"gross": str(sum(amounts)), "net": str(net), "tax": str(sum(amounts) - net)}


def test_every_kind_of_bad_record_is_there(job: Job) -> None:
    assert set(job.bad_by_reason) == {
        Reason.INVALID_JSON,
        Reason.SCHEMA_MISMATCH,
        Reason.UNKNOWN_CURRENCY,
        Reason.TOTALS_MISMATCH,
        Reason.PAYMENT_MISMATCH,
    }


def test_store_is_the_key_and_stays_in_one_partition(job: Job, reasons: dict[int, Reason]) -> None:
    partitions: dict[bytes, set[int]] = {}
    for place, (partition, key, value) in enumerate(job.records):
        partitions.setdefault(key, set()).add(partition)
        assert place in reasons or json.loads(value)["store"].encode() == key
    assert all(len(found) == 1 for found in partitions.values())
    assert {found.pop() for found in partitions.values()} == {0, 1, 2, 3}
    share = Counter(partition for partition, _, _ in job.records)
    assert all(0.2 < count / len(job.records) < 0.3 for count in share.values())


def test_resent_records_repeat_an_earlier_one_of_their_partition(job: Job) -> None:
    seen: dict[bytes, int] = {}
    repeated = 0
    for partition, _, value in job.records:
        if value in seen:
            assert seen[value] == partition
            repeated += 1
        seen[value] = partition
    assert repeated == job.resent


def test_same_seed_gives_the_same_job(job: Job) -> None:
    assert pos_job(20_000, seed=3) == job
    assert pos_job(100, seed=4).records != pos_job(100, seed=3).records


def test_mean_size_is_about_735_bytes(job: Job) -> None:
    assert sum(len(value) for _, _, value in job.records) / len(job.records) == pytest.approx(735, abs=10)
