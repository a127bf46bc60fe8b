"""What the simulated tills promise, computed again with Decimal and, for the dead letters, by the line itself."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count, islice
from random import Random
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from ops.simulator.faults import FAULTS
from ops.simulator.receipts import assortment, compact
from ops.simulator.tills import SimulatedRecord, TrafficShares, traffic
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent, SaleLine
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CENT = Decimal("0.01")


def ticking(step: timedelta = timedelta(seconds=2)) -> Callable[[], datetime]:
    ticks = count()
    return lambda: START + step * next(ticks)


@pytest.fixture(scope="module")
def sent() -> list[SimulatedRecord]:
    return list(islice(traffic(7, ticking()), 20_000))


@pytest.fixture(scope="module")
def fresh(sent: list[SimulatedRecord]) -> list[tuple[SimulatedRecord, SaleEvent]]:
    return [(one, SaleEvent.model_validate_json(one.value)) for one in sent if one.kind == "fresh"]


def half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def cost(line: SaleLine) -> Decimal:
    return half_up(
        Decimal(line["quantity"]) * Decimal(line["unit_price"])
        - sum(Decimal(reduction["amount"]) for reduction in line.get("discounts", ()))
    )


def broken_by(name: str, seed: int = 3) -> tuple[dict[str, Any], bytes]:
    """A sound sale and what the fault makes of it."""
    value = next(traffic(seed, ticking(), shares=TrafficShares(0, 0, 0, 0))).value
    return json.loads(value), FAULTS[name].spoil(json.loads(value), Random(seed))


def test_every_fresh_event_adds_up(fresh: list[tuple[SimulatedRecord, SaleEvent]]) -> None:
    for _, event in fresh:
        amounts = [cost(line) for line in event.lines]
        assert [line.get("amount") for line in event.lines] == list(map(str, amounts))
        assert sum(amounts) == sum(Decimal(tender["amount"]) for tender in event.tenders)
        rates = [1 + Decimal(line["tax_rate"]) / 100 for line in event.lines]
        net = sum(half_up(amount / rate) for amount, rate in zip(amounts, rates, strict=True))
        assert event.totals == {"gross": str(sum(amounts)), "net": str(net), "tax": str(sum(amounts) - net)}
        assert all(Decimal(line["quantity"]) > 0 for line in event.lines)
        assert min(amounts) > 0


def test_gross_is_signed_from_the_stores_side(fresh: list[tuple[SimulatedRecord, SaleEvent]]) -> None:
    for one, event in fresh:
        assert one.gross == Decimal(event.totals["gross"]) * (1 if event.type == "sale" else -1)
        assert (one.key, one.store, one.type) == (event.store.encode(), event.store, event.type)


def test_traffic_looks_like_that_of_shops(fresh: list[tuple[SimulatedRecord, SaleEvent]]) -> None:
    lines = [line for _, event in fresh for line in event.lines]
    assert len({line["sku"] for line in lines}) > 190
    assert {line["tax_rate"] for line in lines} == {"7", "19"}
    assert {line.get("unit", "each") for line in lines} == {"each", "kg"}
    assert any(line.get("discounts") for line in lines)
    tenders = {
        tuple((t["kind"], t["amount"].startswith("-")) for t in event.tenders)
        for _, event in fresh
        if event.type == "sale"
    }
    assert {(("cash", False), ("cash", True)), (("card", False),), (("voucher", False), ("card", False))} <= tenders


def test_assortment_has_200_distinct_products() -> None:
    assert len(assortment()) == len({product.sku for product in assortment()}) == 200
    assert len({product.description for product in assortment()}) == 200


def test_receipt_numbers_run_per_register_and_ids_are_unique(sent: list[SimulatedRecord]) -> None:
    numbers: dict[tuple[str, str], list[int]] = {}
    ids: set[str] = set()
    for one in sent:
        if one.kind == "fresh":
            event = json.loads(one.value)
            numbers.setdefault((event["store"], event["register"]), []).append(int(event["receipt"]))
            ids.add(event["event_id"])
    assert len(numbers) == 12
    # A broken receipt uses up its number as well, so there are gaps.
    assert all(n == sorted(set(n)) for n in numbers.values())
    assert len(ids) == sum(len(n) for n in numbers.values())


def test_shares_are_as_stated(sent: list[SimulatedRecord]) -> None:
    kinds = Counter(one.kind for one in sent)
    types = Counter(one.type for one in sent if one.kind == "fresh")
    assert 0.04 < kinds["resent"] / len(sent) < 0.06
    assert 0.007 < kinds["broken"] / len(sent) < 0.013
    assert 0.025 < types["return"] / len(sent) < 0.037
    assert 0.003 < types["void"] / len(sent) < 0.008


def test_same_seed_and_clock_give_the_same_bytes(sent: list[SimulatedRecord]) -> None:
    assert list(islice(traffic(7, ticking()), 5_000)) == sent[:5_000]
    assert [one.value for one in islice(traffic(8, ticking()), 100)] != [one.value for one in sent[:100]]


def test_repetition_is_identical_and_1_to_200_records_of_its_store_later(sent: list[SimulatedRecord]) -> None:
    places: dict[bytes, int] = {}
    position: Counter[str] = Counter()
    distances = []
    for one in sent:
        position[one.store] += 1
        if one.kind == "fresh":
            places[one.value] = position[one.store]
        elif one.kind == "resent":
            distances.append(position[one.store] - places[one.value] - 1)
    assert len(distances) > 500
    assert min(distances) >= 1
    assert 100 < max(distances) <= 200


def test_return_refers_to_an_earlier_sale_and_gives_back_its_lines_once(
    fresh: list[tuple[SimulatedRecord, SaleEvent]],
) -> None:
    sales: dict[tuple[str, str, str], SaleEvent] = {}
    for _, event in fresh:
        if event.type == "sale":
            sales[event.store, event.register_id, event.receipt] = event
            continue
        assert event.original is not None
        sale = sales.pop((event.store, str(event.original.get("register")), event.original["receipt"]))
        assert not Counter(map(str, event.lines)) - Counter(map(str, sale.lines))
        assert event.customer == sale.customer
        if event.type == "void":
            assert (event.lines, event.tenders, event.totals) == (sale.lines, sale.tenders, sale.totals)


def test_first_receipt_keeps_two_runs_apart() -> None:
    def ids(first: int) -> set[str]:
        records = islice(traffic(7, ticking(), first_receipt=first), 400)
        return {json.loads(one.value)["event_id"] for one in records if one.kind == "fresh"}

    assert not ids(1) & ids(10_000)


def test_shares_leave_room_for_each_other() -> None:
    with pytest.raises(ValueError, match="40 %"):
        TrafficShares(resent=0.5)


# The broken records


def test_every_reason_of_a_fault_appears_and_broken_is_all_that_has_one(sent: list[SimulatedRecord]) -> None:
    assert {one.reason for one in sent if one.kind == "broken"} == {fault.reason for fault in FAULTS.values()} | {
        Reason.CONFLICTING_DUPLICATE
    }
    assert all((one.reason is None) == (one.kind != "broken") for one in sent)


def test_cut_off_text_is_the_beginning_of_the_event() -> None:
    event, value = broken_by("cut_off")
    assert compact(event).startswith(value)
    with pytest.raises(ValueError, match=r"."):
        json.loads(value)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("missing_field", {"missing"}),
        ("wrong_type", {"string_pattern_mismatch", "tuple_type", "string_type", "dict_type"}),
        ("naive_time", {"timezone_aware"}),
    ],
)
def test_schema_fault_is_one_field_of_the_stated_kind(name: str, kinds: set[str]) -> None:
    seen = set()
    for seed in range(40):
        with pytest.raises(ValidationError) as error:
            SaleEvent.model_validate_json(broken_by(name, seed)[1])
        fields = {tuple(step for step in one["loc"] if "#" not in str(step)) for one in error.value.errors()}
        assert len(fields) == 1  # an amount that is neither a text nor a number has a fault of each
        seen.add(error.value.errors()[0]["type"])
    assert seen == kinds


@pytest.mark.parametrize(
    ("name", "field", "faulty"),
    [
        ("unknown_currency", "currency", lambda event: event["currency"] == "EUX"),
        ("old_clock", "occurred_at", lambda event: event["occurred_at"].startswith("1999-12-31T23:59")),
        ("no_lines", "lines", lambda event: event["lines"] == [] and event["totals"]["gross"] == "0.00"),
        ("wrong_line", "lines", lambda event: not agrees(event["lines"][0]["amount"], event["lines"][:1])),
        ("wrong_totals", "totals", lambda event: not agrees(event["totals"]["gross"], event["lines"])),
        ("wrong_totals", "tenders", lambda event: agrees(event["totals"]["gross"], event["tenders"])),
        ("wrong_tenders", "tenders", lambda event: not agrees(event["totals"]["gross"], event["tenders"])),
        ("too_many_places", "lines", lambda event: len(price_of(event).partition(".")[2]) == 7),
    ],
)
def test_sum_or_value_is_wrong_as_stated(name: str, field: str, faulty: Callable[[Any], bool]) -> None:
    sound, value = broken_by(name)
    spoilt = json.loads(value)
    assert faulty(spoilt)
    assert sound[field] != spoilt[field]


def agrees(total: str, parts: Iterable[dict[str, Any]]) -> bool:
    """Whether the total is the sum of lines (by their own quantities and prices) or of tenders."""
    sums = [cost(cast(SaleLine, part)) if "quantity" in part else Decimal(part["amount"]) for part in parts]
    return Decimal(total) == sum(sums)


def price_of(event: dict[str, Any]) -> str:
    return str(event["lines"][0]["unit_price"])


def test_double_key_states_two_currencies() -> None:
    _, value = broken_by("double_key")
    keys: list[str] = []
    json.loads(value, object_pairs_hook=lambda pairs: keys.extend(key for key, _ in pairs))
    assert keys.count("currency") == 2


def test_conflict_has_an_earlier_events_id_and_other_content(sent: list[SimulatedRecord]) -> None:
    earlier: dict[str, bytes] = {}
    conflicts = 0
    for one in sent:
        if one.kind == "fresh":
            earlier[json.loads(one.value)["event_id"]] = one.value
        elif one.reason is Reason.CONFLICTING_DUPLICATE:
            event = SaleEvent.model_validate_json(one.value)
            assert earlier[str(event.event_id)] != one.value
            assert Decimal(event.totals["gross"]) == sum(cost(line) for line in event.lines) == one.gross
            conflicts += 1
    assert conflicts > 5


@dataclass
class FakeRecord:
    value: bytes
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def test_the_line_rejects_what_is_broken_for_the_stated_reason_and_nothing_else(sent: list[SimulatedRecord]) -> None:
    records = [FakeRecord(one.value, offset) for offset, one in enumerate(sent)]
    arrivals, rejected, _ = decode(Batch("pos.sales", 0, records))
    _, held = check(arrivals, START + timedelta(days=1))
    found = {rejection.record.offset: rejection.reason for rejection in [*rejected, *held]}
    # Only the table of seen events can find a conflict.
    assert found == {
        offset: one.reason
        for offset, one in enumerate(sent)
        if one.kind == "broken" and one.reason is not Reason.CONFLICTING_DUPLICATE
    }


# The day's close


def test_day_close_states_the_registers_day_in_the_stores_zone() -> None:
    clock, berlin = ticking(timedelta(minutes=5)), ZoneInfo("Europe/Berlin")
    takings: Counter[tuple[str, str, str]] = Counter()
    closes: dict[tuple[str, str, str], Decimal] = {}
    for one in islice(traffic(5, clock, zone=berlin, day_close=True, shares=TrafficShares(broken=0)), 3_000):
        event = json.loads(one.value)
        if one.type == "day_close":
            SaleEvent.model_validate_json(one.value)
            assert one.gross == 0
            closes[event["store"], event["register"], event["receipt"]] = Decimal(event["totals"]["gross"])
        elif one.kind == "fresh":
            assert event["occurred_at"].endswith(("+01:00", "+02:00"))
            day = "Z" + event["occurred_at"][:10].replace("-", "")
            assert (event["store"], event["register"], day) not in closes
            takings[event["store"], event["register"], day] += one.gross
    assert len(closes) > 80
    assert closes == {key: takings[key] for key in closes}
