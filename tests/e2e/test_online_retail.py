"""A real shop's invoices, as they stand in its files: imported, streamed and reconciled, with nothing left unexplained.

The UCI Online Retail data set has what real exports have: cancellations, bad debts, stock that is written off at no
price, lines twice, invoices whose rows stand apart. What each invoice has to become is worked out here from the rows.
"""

import csv
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sinks.registry import open_sink
from tests.e2e.test_real_data import shared_data
from tests.e2e.test_reconcile import Books
from tests.support.kafka import Kafka
from tests.support.workers import open_shop

CENT = Decimal("0.01")


class Due(NamedTuple):
    """What the rows of some files come to."""

    rows: int
    documents: dict[str, tuple[int, Decimal]]
    skipped: Counter[str]


def files() -> list[Path]:
    """By month. Skips where there are none."""
    found = sorted((shared_data() / "online-retail").glob("*.csv.gz"))
    if not found:
        pytest.skip("the UCI Online Retail data set is not here; set TILLSTREAM_SHARED_DATA")
    return found


def rows_of(paths: Iterable[Path]) -> Iterator[dict[str, str]]:
    """All rows, as they stand."""
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def due(rows: Iterable[dict[str, str]]) -> Due:
    """Of each invoice its lines and its gross; of what is no sale, how many."""
    invoices: dict[str, list[tuple[Decimal, Decimal]]] = defaultdict(list)
    for row in rows:
        invoices[row["InvoiceNo"]].append((Decimal(row["Quantity"]), Decimal(row["UnitPrice"])))
    made = Due(sum(map(len, invoices.values())), {}, Counter())
    for number, lines in invoices.items():
        if number.startswith("A"):
            made.skipped["bad debt adjustment"] += 1
        elif not any(price for _, price in lines):
            made.skipped["stock adjustment"] += 1
        else:
            gross = sum(((q * price).quantize(CENT, ROUND_HALF_UP) for q, price in lines), Decimal(0))
            made.documents[number] = (len(lines), gross)
    return made


@contextmanager
def imported(folder: Path, kafka: Kafka, topic: str, url: str, paths: Sequence[Path]) -> Iterator[Books]:
    """A shop into whose topic the files were imported, by the built-in contract."""
    with open_shop(folder, kafka, topic, url, contract="online_retail", data_folder=str(folder / "kept")) as shop:
        books = Books(shop)
        books.told = json.loads(books.run("import", *map(str, paths), "--json"))
        yield books


def assert_proved(books: Books, expected: Due) -> dict[str, Any]:
    """The ERP holds what the rows say, and a reconciliation says so of all that was sent; gives what it found."""
    assert sum(file["rows"] for file in books.told["files"]) == expected.rows
    found: dict[str, Any] = json.loads(books.run("reconcile", "--deep", "--json"))
    assert (found["balanced"], found["lost_until"]) == (True, None)
    assert {day["state"] for day in found["days"]} == {"balanced"}
    accounts = [account for day in found["days"] for account in day["accounts"]]
    fates: Counter[str] = Counter()
    for account in accounts:
        fates.update(account["by_fate"])
    assert fates == Counter(erp=len(expected.documents), noted=expected.skipped.total())
    assert fates.total() == books.told["confirmed"]
    assert sum((Counter(day["noted"]) for day in found["days"]), Counter()) == expected.skipped
    gross = sum(Decimal(account["erp"]["gross"]) for account in accounts)
    assert gross == sum(gross for _, gross in expected.documents.values())
    assert in_erp(books) == expected.documents
    return found


def in_erp(books: Books) -> dict[str, tuple[int, Decimal]]:
    """Of each document its lines and its gross."""
    settings = books.loaded()
    refs = [ref for (ref,) in books.shop.query("SELECT external_ref FROM documents")]
    with closing(open_sink(settings.sink_url, password=settings.password())) as sink:
        return {document.receipt: (len(document.lines), document.gross) for document in sink.read(refs)}


def test_first_rows_of_a_real_shop_are_imported_and_reconciled(tmp_path: Path, kafka: Kafka, topic_name: str) -> None:
    first = files()[0]
    head = tmp_path / "head.csv"
    with gzip.open(first, "rt", encoding="utf-8", newline="") as file:
        head.write_text("".join(islice(file, 1_001)))
    with imported(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite", [head]) as books:
        books.work()
        expected = due(islice(rows_of([first]), 1_000))
        assert any(number.startswith("C") for number in expected.documents)
        assert expected.skipped
        assert_proved(books, expected)


@pytest.mark.faults_long
def test_all_of_a_real_shop_is_imported_streamed_and_reconciled(
    tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str
) -> None:
    paths = files()
    with imported(tmp_path, kafka, topic_name, postgres_url, paths) as books:
        books.employ(600)
        found = assert_proved(books, due(rows_of(paths)))
        assert len(found["days"]) > 200
