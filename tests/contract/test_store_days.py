"""One document per store and day: views that say what the receipts say, whatever came late or was corrected."""

from collections import defaultdict
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import create_engine, text

from schemas.document import ErpDocument
from sinks.base import Sink
from tests.support.documents import document, line

TENTH = date(2026, 3, 10)


def rows(url: str, query: str) -> list[dict[str, Any]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(text(query)).mappings()]
    engine.dispose()
    return found


def amount(url: str, value: Any, places: int = 4) -> Decimal:
    """As a decimal: SQLite has whole ten-thousandths, or millionths."""
    return Decimal(value) if url.startswith("postgresql") else Decimal(value).scaleb(-places)


def of(*documents: ErpDocument) -> dict[tuple[str, str], tuple[int, Decimal]]:
    """By store and kind: receipts, and gross."""
    sums: dict[tuple[str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for d in documents:
        count, gross = sums[d.store, d.kind]
        sums[d.store, d.kind] = (count + 1, gross + d.gross)
    return dict(sums)


def test_day_is_the_sum_of_its_receipts(sql_sink: Sink, sql_url: str) -> None:
    written = [document(n, store=f"S{n % 2}", kind="credit_note" if n == 3 else "invoice") for n in range(1, 6)]
    sql_sink.write(written)
    sql_sink.write([document(9, business_date=date(2026, 3, 11))])
    found = rows(sql_url, f"SELECT * FROM day_documents WHERE business_date = '{TENTH}'")
    assert {(r["store"], r["kind"]): (r["receipts"], amount(sql_url, r["gross"])) for r in found} == of(*written)


def test_late_and_corrected_receipts_change_their_day(sql_sink: Sink, sql_url: str) -> None:
    sql_sink.write([document(1)])
    newer = document(1, 1, lines=[line(1, "5.00", "0.95")])
    sql_sink.write([newer, document(2)])
    [day] = rows(sql_url, "SELECT * FROM day_documents")
    assert (day["receipts"], amount(sql_url, day["gross"])) == (2, newer.gross + document(2).gross)


def test_lines_of_a_day_are_summed_by_article_and_tax_and_payments_by_kind(sql_sink: Sink, sql_url: str) -> None:
    two = [line(1, sku="A"), line(2, sku="B")]
    mapped = [replace(one, item_code="ART", tax_code="V19") for one in two]
    written = [document(1, lines=mapped, mapping="m@1"), document(2, lines=mapped[:1], mapping="m@1")]
    sql_sink.write(written)
    found = rows(sql_url, "SELECT * FROM day_lines ORDER BY sku")
    assert [(r["sku"], r["item_code"], r["tax_code"]) for r in found] == [("A", "ART", "V19"), ("B", "ART", "V19")]
    assert [amount(sql_url, r["net"]) for r in found] == [2 * two[0].net, two[1].net]
    assert amount(sql_url, found[0]["quantity"], 6) == 2 * two[0].quantity
    [paid] = rows(sql_url, "SELECT * FROM day_payments")
    assert (paid["tender"], amount(sql_url, paid["amount"])) == ("card", sum(d.gross for d in written))
