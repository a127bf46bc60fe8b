"""What is far from usual is told by what the ERP's tables hold, which neither a restart nor a rebalance forgets."""

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.mapping import OutlierRule
from sinks.registry import open_sink
from streams.cleaning.outliers import UsualRange, median, usual_range
from streams.mapping.master_data import MasterData
from streams.mapping.tables import QueryDatabase
from streams.metrics import WorkerMetrics
from streams.sources.contracts import ContractError
from tests.support.documents import document, line
from tests.support.events import NOON, event
from tests.support.mapping import ANY_STORE, NOWHERE, mapped, mapping_file, refused

LINE = event()["lines"][0]
TODAY = NOON.date()


def sold(folder: Path, *prices: str, day: date = TODAY, first: int = 1) -> QueryDatabase:
    """A sink that holds a receipt for each price of an apple."""
    url = f"sqlite:///{folder / 'sink.db'}"
    sink = open_sink(url)
    sink.check(apply=True)
    made = [line(sku="A", net=price, tax="0.00", unit_price=Decimal(price)) for price in prices]
    sink.write([document(first + n, lines=[one], business_date=day) for n, one in enumerate(made)])
    sink.close()
    return QueryDatabase(url, None)


def learned(folder: Path, database: QueryDatabase, clock: Any = lambda: NOON, **usual: Any) -> MasterData:
    cleaning = {"usual": {"prices": "flag", "receipts": "hold", "warm_up": 5, **usual}}
    data = MasterData(mapping_file(folder, {"mapping": 1, "cleaning": cleaning}), database, ANY_STORE, clock)
    data.load()
    return data


def receipt(price: str, **changes: Any) -> dict[str, Any]:
    lines = [{**LINE, "quantity": "1", "unit_price": price}]
    return {"lines": lines, "tenders": [], "totals": {"gross": price}, **changes}


@given(st.lists(st.integers(-50, 50), min_size=1))
def test_median_has_half_of_the_values_on_each_side(numbers: list[int]) -> None:
    middle = median(Counter(map(Decimal, numbers)))
    assert middle == sorted(numbers)[(len(numbers) - 1) // 2]


def test_price_that_never_changes_has_a_span_of_its_own_size() -> None:
    rule = OutlierRule(warm_up=5, times=Decimal(10))
    assert usual_range(Counter({Decimal("2.00"): 5}), rule) == UsualRange(Decimal("1.80"), Decimal("2.20"))
    assert usual_range(Counter({Decimal("2.00"): 4}), rule) is None


def test_one_outlier_does_not_widen_the_range() -> None:
    values = [Decimal(price) for price in ("1.00", "1.10", "1.20", "1.30", "1.40", "9999")]
    span = usual_range(Counter(values), OutlierRule(warm_up=5, times=Decimal(3)))
    assert span is not None
    assert span.high < 2


def test_unusual_price_is_flagged_and_an_unusual_receipt_held(tmp_path: Path) -> None:
    mapper = learned(tmp_path, sold(tmp_path, *["1.50"] * 6), receipts=None).current()
    assert mapped(mapper, **receipt("1.55")).review is None
    assert mapped(mapper, **receipt("15.00")).review == "lines.0.unit_price: far_from_usual"
    assert mapped(mapper, **receipt("15.00", currency="CHF")).review is None
    holding = learned(tmp_path, QueryDatabase(f"sqlite:///{tmp_path / 'sink.db'}", None), prices=None).current()
    assert holding is not None
    assert refused(holding, **receipt("15.00")) == ("held_outlier", "totals.gross: far_from_usual")
    assert mapped(holding, **receipt("15.00", type="return")).review is None


def test_nothing_is_judged_before_it_is_known_well_enough(tmp_path: Path) -> None:
    mapper = learned(tmp_path, sold(tmp_path, *["1.50"] * 4)).current()
    assert mapped(mapper, **receipt("15.00")).review is None


def test_documents_older_than_the_window_do_not_count(tmp_path: Path) -> None:
    long_ago = NOON.date() - timedelta(days=31)
    mapper = learned(tmp_path, sold(tmp_path, *["1.50"] * 6, day=long_ago), days=30).current()
    assert mapped(mapper, **receipt("15.00")).review is None


def test_baselines_are_computed_again_after_a_while(tmp_path: Path) -> None:
    now: list[datetime] = [NOON]
    database = sold(tmp_path, "1.50")
    data = learned(tmp_path, database, lambda: now[0], receipts=None, minutes=60)
    sold(tmp_path, *["1.50"] * 6, first=100)
    for minutes, review in ((59, None), (60, "lines.0.unit_price: far_from_usual")):
        now[0] = NOON + timedelta(minutes=minutes)
        data.reload_if_changed(WorkerMetrics())
        mapper = data.current()
        assert mapped(mapper, **receipt("15.00")).review == review


def test_sink_that_holds_no_tables_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"cleaning\.usual: There are no queries on memory"):
        learned(tmp_path, NOWHERE)
