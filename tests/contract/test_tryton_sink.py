"""What becomes of receipts in Tryton: sales, stock and ledger moves, to the cent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from ops.post import post_once
from schemas.dead_letter import Reason
from schemas.document import DocumentPayment, ErpDocument
from sinks.base import Accepted, Refused, SinkUnavailable
from sinks.erp.delivery_log import DeliveryEntry
from sinks.tryton import posting
from sinks.tryton.rpc import TrytonRefused
from sinks.tryton.sink import TrytonSink
from tests.conftest import ON_POSTGRES
from tests.support.documents import document, documents, line
from tests.support.tryton import Books, Running, sink_of

pytestmark = pytest.mark.parametrize("tryton", ["tryton_server", ON_POSTGRES], indirect=True)


@pytest.fixture
def sink(tryton: Running, tmp_path: Path) -> Iterator[TrytonSink]:
    """A sink on an empty Tryton."""
    sink = sink_of(tryton, tmp_path)
    yield sink
    sink.close()


@pytest.fixture
def books(tryton: Running) -> Iterator[Books]:
    """The accountant's view of the same."""
    books = Books(tryton)
    yield books
    books.close()


def book(sink: TrytonSink, *documents: ErpDocument) -> None:
    """Writes and posts; all must be taken."""
    assert {type(result) for result in sink.write(documents)} == {Accepted}
    assert sum(done.refused for done in posting.post(sink)) == 0


def paid(d: ErpDocument, *payments: tuple[str, str]) -> ErpDocument:
    """The document with these payments."""
    return replace(d, payments=[DocumentPayment(kind, Decimal(amount)) for kind, amount in payments])


def opposite(d: ErpDocument, external_ref: str, **changes: Any) -> ErpDocument:
    """The document that takes all of it back."""
    names = ("quantity", "net", "tax", "gross")
    lines = [replace(one, **{name: -getattr(one, name) for name in names}) for one in d.lines]
    payments = [replace(one, amount=-one.amount) for one in d.payments]
    sums = {name: -getattr(d, name) for name in ("net", "tax", "rounding", "gross")}
    event_id = f"{d.event_id}-back"
    return replace(
        d, event_id=event_id, external_ref=external_ref, lines=lines, payments=payments, content="b", **sums, **changes
    )


def test_sale_with_two_rates_split_tenders_change_and_rounding_is_posted_to_the_cent(
    sink: TrytonSink, books: Books
) -> None:
    lines = [line(1), line(2, "1.00", "0.07", tax_rate=Decimal(7)), line(3, "0.90", "0.00", tax_rate=Decimal(0))]
    sold = replace(document(1, lines=lines), rounding=Decimal("-0.02"), gross=Decimal("4.95"))
    book(sink, paid(sold, ("card", "2.00"), ("cash", "5.00"), ("cash", "-2.05")))
    zero = Decimal(0)
    assert sorted(
        (debit - credit, debit, credit) for _, debit, credit in books.moves_of(sold.external_ref) if debit != credit
    ) == sorted(
        [
            (Decimal("2.00"), Decimal("2.00"), zero),
            (Decimal("5.00"), Decimal("5.00"), zero),
            (Decimal("-2.05"), Decimal("-2.05"), zero),
            (Decimal("-2.52"), zero, Decimal("2.52")),
            (Decimal("-1.00"), zero, Decimal("1.00")),
            (Decimal("-0.90"), zero, Decimal("0.90")),
            (Decimal("0.02"), Decimal("0.02"), zero),
            (Decimal("-0.48"), zero, Decimal("0.48")),
            (Decimal("-0.07"), zero, Decimal("0.07")),
        ]
    )
    assert sum(books.balances().values()) == 0
    assert books.balances()["Card clearing"] == Decimal("2.00")


@pytest.mark.parametrize("tender", ["cash", "card"])
def test_refund_goes_back_as_the_till_says_and_goods_to_the_return_location(
    sink: TrytonSink, books: Books, tender: str
) -> None:
    sold = paid(document(1), (tender, "3.00"))
    book(sink, sold, opposite(sold, "pos/S1/R1/2/return", kind="credit_note", original_ref=sold.external_ref))
    assert books.balances() == {}
    assert books.stock_moves() == [("CUS", "IN", 2.0), ("STO", "CUS", 2.0)]


def test_void_takes_back_every_tender(sink: TrytonSink, books: Books) -> None:
    sold = paid(document(1, lines=[line(1), line(2)]), ("card", "1.00"), ("voucher", "2.00"), ("cash", "3.00"))
    book(sink, sold, opposite(sold, "pos/S1/R1/1/void", kind="cancellation", original_ref=sold.external_ref))
    assert books.balances() == {}
    assert [(day.documents, day.gross) for day in sink.totals()] == [(2, Decimal("0.00"))]


@pytest.mark.parametrize("posted_before", [False, True])
def test_newer_revision_leaves_its_own_amounts_in_the_ledger(
    sink: TrytonSink, books: Books, posted_before: bool
) -> None:
    newer = document(1, 1, lines=[line(1, "5.00", "0.95")])
    assert sink.write([document(1, 0)]) == [Accepted("pos:e-1-0", "written")]
    if posted_before:
        assert sum(done.posted for done in posting.post(sink)) == 1
    book(sink, newer)
    sales = books.sales()
    assert {ref: sale["total"] for ref, sale in sales.items()} == {
        newer.external_ref: Decimal("5.95"),
        f"{newer.external_ref}#0": Decimal("3.00"),
        f"{newer.external_ref}#0-reversed": Decimal("-3.00"),
    }
    assert books.balances()["Card clearing"] == Decimal("5.95")
    assert [(day.documents, day.gross) for day in sink.totals()] == [(1, Decimal("5.95"))]
    assert sink.ledger.find([newer.external_ref]) == [
        DeliveryEntry(newer.external_ref, 1, "posted", sales[newer.external_ref]["number"], attempts=2)
    ]


def test_receipt_that_is_not_paid_stays_open_until_a_newer_revision_is(sink: TrytonSink, books: Books) -> None:
    sink.write([document(1, 0, payments=[])])
    assert sink.ledger.counts() == {"created": 1}
    book(sink, document(1, 1))
    assert {ref[-2:]: sale["state"] for ref, sale in books.sales().items()} == {"#0": "cancelled", "le": "posted"}
    assert books.balances()["Card clearing"] == Decimal("3.00")


@pytest.mark.parametrize(
    ("quantity", "net", "tax", "sku"),
    [("144", "121.01", "22.99", "A-1"), ("999", "280.11", "53.22", "A-1"), ("0.34", "4.07", "0.28", "K-1")],
)
def test_line_whose_price_has_no_four_places_comes_to_its_amounts(
    sink: TrytonSink, books: Books, quantity: str, net: str, tax: str, sku: str
) -> None:
    rate = Decimal(7 if sku == "K-1" else 19)
    sold = document(1, lines=[line(1, net, tax, quantity=Decimal(quantity), sku=sku, tax_rate=rate)])
    book(sink, sold)
    sale = books.sales()[sold.external_ref]
    assert (sale["total"], sale["total_tax"]) == (sold.gross, sold.tax)
    assert sum(moved for _, _, moved in books.stock_moves()) == float(quantity)
    assert books.balances()["Card clearing"] == sold.gross


UNBOOKABLE = [
    (document(2, lines=[line(sku="unheard-of")]), Reason.UNMAPPED_ITEM, "lines.0.sku: no_item"),
    (paid(document(2), ("shells", "3.00")), Reason.UNMAPPED_TENDER, "payments.0.kind: no_payment_method"),
    (document(2, lines=[line(sku="B-1")]), Reason.UNMAPPED_TAX, "lines.0.tax_rate: not_that_of_the_item"),
    (document(2, currency="USD"), Reason.WRONG_CURRENCY, "currency: not_the_companys"),
    (document(2, lines=[line(net="2.00", tax="1.00")]), Reason.REFUSED_BY_SINK, "lines.0.tax: differs_from_rate"),
    (document(2, gross=Decimal("3.01")), Reason.REFUSED_BY_SINK, "gross: differs_from_net_and_tax"),
    (document(2, net=Decimal("2.53")), Reason.REFUSED_BY_SINK, "net: differs_from_lines"),
    (paid(document(2), ("cash", "2.99")), Reason.REFUSED_BY_SINK, "payments: sum_differs_from_gross"),
    (
        document(2, lines=[line(quantity=Decimal("0.5"))]),
        Reason.REFUSED_BY_SINK,
        "lines.0.quantity: more_places_than_the_items_unit",
    ),
]


@pytest.mark.parametrize(("bad", "reason", "detail"), UNBOOKABLE, ids=[row[2] for row in UNBOOKABLE])
def test_what_cannot_be_booked_is_refused_with_its_reason_alone(
    sink: TrytonSink, bad: ErpDocument, reason: Reason, detail: str
) -> None:
    first, refused, last = sink.write([document(1), bad, document(3)])
    assert (type(first), type(last)) == (Accepted, Accepted)
    assert refused == Refused(bad.event_id, reason, detail)
    assert sink.ledger.find([bad.external_ref]) == [
        DeliveryEntry(bad.external_ref, 0, "refused", attempts=1, last_error=f"{reason.value}: {detail}")
    ]


def test_store_without_a_point_of_sale_is_refused(tryton: Running, tmp_path: Path) -> None:
    sink = sink_of(tryton, tmp_path, point="S1")
    assert [type(one) for one in sink.write([document(1, store="S9")])] == [Accepted]
    sink.close()
    sink = sink_of(tryton, tmp_path, point="nowhere")
    assert sink.write([document(2, store="S9")]) == [
        Refused("pos:e-2-0", Reason.UNMAPPED_STORE, "store: no_point_of_sale")
    ]
    sink.close()


def test_what_was_delivered_is_recognised_when_its_article_is_gone(
    sink: TrytonSink, books: Books, tryton: Running, tmp_path: Path
) -> None:
    sink.write([document(1)])
    (article,) = books.call("product.product", "search", [["code", "=", "A-1"]], 0, None, None)
    books.call("product.product", "write", [article], {"active": False})
    try:
        later = sink_of(tryton, tmp_path)
        again, new = later.write([document(1), document(2)])
        later.close()
    finally:
        books.call("product.product", "write", [article], {"active": True})
    assert again == Accepted("pos:e-1-0", "duplicate")
    assert new == Refused("pos:e-2-0", Reason.UNMAPPED_ITEM, "lines.0.sku: no_item")


def test_article_is_found_by_its_bar_code(sink: TrytonSink, books: Books) -> None:
    (article,) = books.call("product.product", "search", [["code", "=", "A-9"]], 0, None, None)
    (code,) = books.call("product.identifier", "create", [{"product": article, "type": None, "code": "4006381333931"}])
    try:
        book(sink, document(1, lines=[line(sku="4006381333931")]))
    finally:
        books.call("product.identifier", "delete", [code])


def test_what_cannot_be_posted_stays_confirmed_with_its_reason_and_holds_up_no_other(
    sink: TrytonSink, books: Books
) -> None:
    old = document(2, business_date=date(2019, 1, 1))
    sink.write([document(1), old, document(3)])
    assert sum(done.posted for done in posting.post(sink, batch=3)) == 2
    (entry,) = sink.ledger.with_errors("confirmed")
    assert (entry.external_ref, str(entry.last_error)[:5]) == (old.external_ref, "post:")
    sink.write([document(4)])
    assert [(done.posted, done.refused) for done in posting.post(sink)] == [(1, 0), (0, 1)]
    assert posting.left(sink) == 1
    assert sink.ledger.counts() == {"posted": 3, "confirmed": 1}


def test_what_a_killed_run_has_posted_is_noted_by_the_next(sink: TrytonSink, books: Books) -> None:
    sink.write([document(1), document(2)])
    books.call("sale.point.sale", "post", [books.call("sale.point.sale", "search", [["state", "=", "done"]])[0]])
    assert sink.ledger.counts() == {"confirmed": 2}
    assert sum(done.posted for done in posting.post(sink)) == 1
    assert sink.ledger.counts() == {"posted": 2}


def test_sales_that_several_post_at_once_are_in_the_books_once(sink: TrytonSink, books: Books, tryton: Running) -> None:
    sink.write(documents(30))
    sales = books.call("sale.point.sale", "search", [["state", "=", "done"]], 0, None, None)

    def post(_: int) -> None:
        other = Books(tryton)
        with suppress(SinkUnavailable, TrytonRefused):  # it may be told that another one is at it
            other.call("sale.point.sale", "post", sales)
        other.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(post, range(4)))
    assert {sale["state"] for sale in books.sales().values()} == {"posted"}
    assert books.call("account.move", "search_count", [["origin", "like", "sale.point.sale,%"]], 0, None) == 30
    assert len(books.stock_moves()) == 30


def test_sales_that_two_runs_post_at_once_are_in_the_books_once(
    sink: TrytonSink, books: Books, tryton: Running, tmp_path: Path
) -> None:
    """Two of `tillstream post`. The one that finds the other at it waits, and posts what is left."""
    sink.write(documents(40))
    (tmp_path / "other").mkdir()
    runs = [sink, sink_of(tryton, tmp_path / "other")]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda one: post_once(one, 5, as_json=True), runs)) == [0, 0]
    runs[1].close()
    assert {sale["state"] for sale in books.sales().values()} == {"posted"}
    assert books.call("account.move", "search_count", [["origin", "like", "sale.point.sale,%"]], 0, None) == 40
    assert books.balances()["Card clearing"] == 40 * document().gross


def test_ledger_can_be_rebuilt_from_tryton(sink: TrytonSink, tryton: Running, tmp_path: Path) -> None:
    sink.write([document(1), document(2, 0), document(3, payments=[])])
    assert sum(done.posted for done in posting.post(sink)) == 2
    sink.write([document(2, 1)])
    refs = [document(n).external_ref for n in (1, 2, 3)]
    before = [replace(entry, attempts=0) for entry in sink.ledger.find(refs)]
    assert [entry.state for entry in before] == ["posted", "confirmed", "created"]
    (tmp_path / "other").mkdir()
    other = sink_of(tryton, tmp_path / "other")
    other.ledger.rebuild(other.entries())
    assert other.ledger.find(refs) == before
    other.close()


def test_session_that_is_gone_is_renewed(sink: TrytonSink, tryton: Running) -> None:
    sink.write([document(1)])
    engine = create_engine(tryton.sql_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM ir_session"))
    engine.dispose()
    assert sink.write([document(2)]) == [Accepted("pos:e-2-0", "written")]


def test_sale_that_somebody_reopened_is_done_again_when_its_event_comes_again(sink: TrytonSink, books: Books) -> None:
    sink.write([document(1)])
    (sale,) = books.call("sale.point.sale", "search", [], 0, None, None)
    books.call("sale.point.sale", "open", [sale])
    assert sink.write([document(1), document(2)])[0] == Accepted("pos:e-1-0", "duplicate")
    assert sink.ledger.counts() == {"confirmed": 2}


def test_sale_that_somebody_changed_is_left_alone_and_its_event_still_recognised(
    sink: TrytonSink, books: Books
) -> None:
    sink.write([document(1)])
    (sale,) = books.call("sale.point.sale", "search", [], 0, None, None)
    books.call("sale.point.sale", "open", [sale])
    (line_,) = books.call("sale.point.sale", "read", [sale], ["lines"])[0]["lines"]
    books.call("sale.point.sale.line", "write", [line_], {"quantity": 1.0})
    assert sink.write([document(1), document(2)]) == [
        Accepted("pos:e-1-0", "duplicate"),
        Accepted("pos:e-2-0", "written"),
    ]
    assert sink.ledger.counts() == {"confirmed": 1, "created": 1}


def test_nobody_changes_or_deletes_what_a_till_has_sent(sink: TrytonSink, books: Books) -> None:
    sink.write([document(1, payments=[])])
    (sale,) = books.call("sale.point.sale", "search", [], 0, None, None)
    with pytest.raises(TrytonRefused):
        books.call("sale.point.sale", "write", [sale], {"external_ref": "another"})
    with pytest.raises(TrytonRefused):
        books.call("sale.point.sale", "delete", [sale])
    (copy,) = books.call("sale.point.sale", "copy", [sale], {})
    assert books.call("sale.point.sale", "read", [copy], ["external_ref", "till_document", "revision"]) == [
        {"id": copy, "external_ref": None, "till_document": None, "revision": None}
    ]
    assert [day.documents for day in sink.totals()] == [1]


def test_user_without_rights_is_refused(sink: TrytonSink, books: Books, tryton: Running, tmp_path: Path) -> None:
    (user,) = books.call("res.user", "search", [["login", "=", "tillstream"]], 0, None, None)
    groups = books.call("res.user", "read", [user], ["groups"])[0]["groups"]
    books.call("res.user", "write", [user], {"groups": [["remove", groups]]})
    try:
        assert [type(one) for one in sink.write([document(1)])] == [Refused]
        wrong = {finding.subject for finding in sink.check() if not finding.ok}
    finally:
        books.call("res.user", "write", [user], {"groups": [["add", groups]]})
    assert wrong == {"group POS", "group POS Posting"}


def test_check_says_what_is_missing(books: Books, tryton: Running, tmp_path: Path) -> None:
    (point,) = books.call("sale.point", "search", [["name", "=", "Main"]], 0, None, None)
    location = books.call("sale.point", "read", [point], ["return_location"])[0]["return_location"]
    books.call("sale.point", "write", [point], {"return_location": None})
    sink = sink_of(tryton, tmp_path, point="nowhere", rounding="A-1")
    try:
        wrong = {finding.subject: finding.detail for finding in sink.check() if not finding.ok}
    finally:
        books.call("sale.point", "write", [point], {"return_location": location})
        sink.close()
    assert wrong == {"return location": "none at: Main", "point=": "nowhere", "rounding": "no A-1"}


def test_tryton_that_is_away_is_told_and_noted(tryton: Running, tmp_path: Path) -> None:
    sink = sink_of(tryton, tmp_path)
    sink.client._root = "http://127.0.0.1:1"
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document(1)])
    assert caught.value.kind == "connection"
    (entry,) = sink.ledger.find([document(1).external_ref])
    assert (entry.state, str(entry.last_error)[:10]) == ("new", "connection")
    sink.close()


def test_writers_in_two_processes_wait_for_each_other(sink: TrytonSink, tryton: Running, tmp_path: Path) -> None:
    """The two sinks share nothing but Tryton."""
    (tmp_path / "other").mkdir()
    other = sink_of(tryton, tmp_path / "other")

    kinds: set[str] = set()

    def patiently(one: TrytonSink) -> list[Any]:
        while True:
            try:
                return one.write(documents(30))
            except SinkUnavailable as error:
                kinds.add(error.kind)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(patiently, [sink, other]))
    effects = sorted(({result.effect for result in batch} for batch in results), key=str)
    other.close()
    assert effects == [{"duplicate"}, {"written"}]
    assert kinds <= {"lock"}
    assert [day.documents for day in sink.totals()] == [30]
