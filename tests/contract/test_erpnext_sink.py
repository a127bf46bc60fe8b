"""ERPNext, as far as a simulator goes: what is booked how, what its errors mean, and that any step may be the last."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.document import DocumentPayment
from sinks.base import Refused, SinkMisconfigured, SinkUnavailable
from sinks.erp.delivery_log import DeliveryEntry
from sinks.erp.sink import ErpSink, digest, key_of
from sinks.registry import open_sink
from tests.contract.conftest import erpnext_url
from tests.contract.test_sink_contract import effects
from tests.support.documents import document, documents, line
from tests.support.erpnext import INVOICE, SECRET, ErpNextSite
from tests.support.web import SILENCE_AFTER, Response, Website

Opener = Callable[..., ErpSink]


@pytest.fixture
def open_erpnext(erpnext: Website, tmp_path: Path) -> Iterator[Opener]:
    """Opens sinks at the simulated ERPNext; each may have a ledger of its own, as on another machine."""
    opened: list[ErpSink] = []

    def opener(ledger: str = "ledger", parameters: str = "update_stock=yes", password: str = SECRET) -> ErpSink:
        url = f"{erpnext_url(erpnext)}&ledger=sqlite:///{tmp_path}/{ledger}.db&{parameters}"
        sink = open_sink(url, password=password)
        assert isinstance(sink, ErpSink)
        opened.append(sink)
        return sink

    yield opener
    for sink in opened:
        sink.close()


@pytest.fixture
def sink(open_erpnext: Opener) -> ErpSink:
    """A sink whose custom fields are there."""
    sink = open_erpnext()
    assert [f for f in sink.check(apply=True) if not f.ok] == []
    return sink


def site(erpnext: Website) -> ErpNextSite:
    assert isinstance(erpnext.application, ErpNextSite)
    return erpnext.application


def invoices(erpnext: Website) -> list[dict[str, Any]]:
    return list(site(erpnext).tables[INVOICE].values())


def posted(erpnext: Website) -> int:
    return sum(row["docstatus"] == 1 for row in invoices(erpnext))


def states(erpnext: Website) -> list[tuple[int, int]]:
    """(revision, docstatus) of all invoices."""
    return sorted((row["tillstream_revision"], row["docstatus"]) for row in invoices(erpnext))


def test_what_a_restored_backup_has_lost_is_written_again(erpnext: Website, sink: ErpSink) -> None:
    sink.write(documents(2))
    site(erpnext).tables[INVOICE].pop(key_of(document(2)))
    assert effects(sink.write(documents(2))) == ["duplicate", "written"]
    assert posted(erpnext) == 2
    assert effects(sink.write([document(2, cashier="Bob")])) == ["conflicting_duplicate"]


@pytest.mark.parametrize("series", ["SINV/2026/{:05}", "POS/../{:05}", "A?b=#{:05} %2F"])
def test_invoice_is_posted_and_cancelled_whatever_its_series_is(
    erpnext: Website, open_erpnext: Opener, series: str
) -> None:
    site(erpnext).prompt, site(erpnext).series = False, series
    sink = open_erpnext()
    sink.check(apply=True)
    assert effects(sink.write([document(1)])) == ["written"]
    assert effects(sink.write([document(1, 1)])) == ["replaced"]
    assert states(erpnext) == [(0, 2), (1, 1)]


def test_sale_is_a_paid_invoice_that_moves_stock(erpnext: Website, sink: ErpSink) -> None:
    lines = [line(1, item_code="ART-1", tax_code="VAT - S"), line(2, "1.00", "0.07", tax_rate=Decimal(7))]
    paid = [
        DocumentPayment("cash", Decimal("5.00"), "Cash"),
        DocumentPayment("cash", Decimal("-2.00"), "Cash"),
        DocumentPayment("card", Decimal("1.07")),
    ]
    sale = document(1, lines=lines, payments=paid, warehouse="Stores - S", cost_centre="Main - S", customer_code="C-7")
    assert effects(sink.write([sale])) == ["written"]
    [row] = invoices(erpnext)
    assert {
        name: row[name] for name in ("name", "is_pos", "update_stock", "is_return", "posting_date", "customer")
    } == {
        "name": key_of(sale),
        "is_pos": 1,
        "update_stock": 1,
        "is_return": 0,
        "posting_date": "2026-03-10",
        "customer": "C-7",
    }
    assert [(i["item_code"], i["qty"], i["rate"], i["warehouse"]) for i in row["items"]] == [
        ("ART-1", "2", "1.26", "Stores - S"),
        ("B-2", "2", "0.50", "Stores - S"),
    ]
    assert [(t["charge_type"], t["description"], t["tax_amount"]) for t in row["taxes"]] == [
        ("Actual", "19 %", "0.48"),
        ("Actual", "7 %", "0.07"),
    ]
    assert [(p["mode_of_payment"], p["amount"]) for p in row["payments"]] == [("Cash", "3.00"), ("card", "1.07")]
    assert sink.ledger.find([sale.external_ref]) == [
        DeliveryEntry(sale.external_ref, 0, "posted", key_of(sale), attempts=1)
    ]


@pytest.mark.parametrize("kind", ["credit_note", "cancellation"])
def test_refund_and_void_are_returns_against_their_sale(erpnext: Website, sink: ErpSink, kind: str) -> None:
    sale = document(1)
    back = line(1, "-2.52", "-0.48", quantity=Decimal(-2), unit_price=Decimal("1.50"))
    refund = document(2, kind=kind, original_ref=sale.external_ref, lines=[back])
    assert effects(sink.write([sale])) == effects(sink.write([refund])) == ["written"]
    row = site(erpnext).tables[INVOICE][key_of(refund)]
    assert (row["is_return"], row["return_against"], row["grand_total"]) == (1, key_of(sale), -3.0)
    assert row["payments"][0]["amount"] == "-3.00"
    [day] = sink.totals()
    assert (day.documents, day.gross) == (2, 0)


def test_sums_that_were_changed_in_the_erp_show_in_totals_and_prints(erpnext: Website, sink: ErpSink) -> None:
    sink.write([document(1), document(2)])
    [before] = sink.totals(deep=True)
    told = set(map(repr, sink.prints("S1", before.business_date)))
    invoices(erpnext)[1] |= {"net_total": 3.52, "grand_total": 4.0}
    [after] = sink.totals(deep=True)
    assert (after.gross - before.gross, after.digest == before.digest) == (1, False)
    [changed] = [each for each in sink.prints("S1", before.business_date) if repr(each) not in told]
    assert (changed.external_ref, changed.gross) == (document(2).external_ref, 4)


def test_refund_of_a_sale_that_is_not_there_stands_alone(erpnext: Website, sink: ErpSink) -> None:
    back = line(1, "-2.52", "-0.48", quantity=Decimal(-2))
    assert effects(sink.write([document(2, kind="credit_note", original_ref="pos/S1/R1/9/sale", lines=[back])])) == [
        "written"
    ]
    assert (invoices(erpnext)[0]["is_return"], invoices(erpnext)[0]["return_against"]) == (1, None)


def test_void_of_a_refund_is_an_invoice(erpnext: Website, sink: ErpSink) -> None:
    assert effects(sink.write([document(3, kind="cancellation", original_ref="pos/S1/R1/2/return")])) == ["written"]
    assert invoices(erpnext)[0]["is_return"] == 0


def test_cents_that_rates_can_not_express_and_cash_rounding_go_to_one_account(erpnext: Website, sink: ErpSink) -> None:
    thirds = line(1, "10.00", "1.90", quantity=Decimal(3))
    odd = document(1, lines=[thirds], rounding=Decimal("-0.03"), gross=Decimal("11.87"), payments=[])
    assert effects(sink.write([odd])) == ["written"]
    [row] = invoices(erpnext)
    assert [(t["account_head"], t["tax_amount"]) for t in row["taxes"]] == [
        ("VAT - S", "1.90"),
        ("Round Off - S", "-0.02"),
    ]
    assert (row["is_pos"], row["net_total"], row["grand_total"]) == (0, 9.99, 11.87)
    [day] = sink.totals()
    assert (day.net, day.tax, day.gross) == (Decimal("10.00"), Decimal("1.90"), Decimal("11.87"))


def test_newer_revision_cancels_the_invoice_of_the_older(erpnext: Website, sink: ErpSink) -> None:
    sink.write([document(1, 0)])
    sink.write([document(1, 1)])
    assert states(erpnext) == [(0, 2), (1, 1)]


def test_names_of_a_series_do_as_well(erpnext: Website, sink: ErpSink) -> None:
    site(erpnext).prompt = False
    assert effects(sink.write(documents(3))) == ["written"] * 3
    assert effects(sink.write(documents(4))) == ["duplicate"] * 3 + ["written"]
    assert [row["name"] for row in invoices(erpnext)] == [f"ACC-SINV-2026-{n:05}" for n in range(1, 5)]


@pytest.mark.parametrize("lost", range(8))
def test_any_request_may_be_the_last_before_a_crash(
    erpnext: Website, open_erpnext: Opener, sink: ErpSink, lost: int
) -> None:
    """The answer to one request is lost, and another worker, who knows nothing, goes on."""
    sink.write([document(1, 0), document(2, 0)])
    batch = [document(1, 1), document(2, 0), document(3, 0)]
    seen = len(erpnext.requests)
    answer = erpnext.application

    def crash(request: Any) -> Response:
        if len(erpnext.requests) - seen == lost + 1:
            answer(request)
            return Response(0)
        return answer(request)

    erpnext.application = crash
    try:
        sink.write(batch)
        crashed = False
    except SinkUnavailable:
        crashed = True
    erpnext.application = answer
    assert crashed == (lost < 7)  # so many requests are made: the test has lost each of them
    other = open_erpnext("another-ledger")
    assert set(effects(other.write(batch))) <= {"written", "replaced", "duplicate"}
    assert set(effects(other.write(batch))) == {"duplicate"}
    assert states(erpnext) == [(0, 1), (0, 1), (0, 2), (1, 1)]
    assert sink.totals() == other.totals()


def test_writer_who_comes_second_sees_what_the_first_has_begun(
    erpnext: Website, open_erpnext: Opener, sink: ErpSink
) -> None:
    """Two workers with two revisions of one receipt, step by step in each other's way."""
    other = open_erpnext("another-ledger")
    older, newer = document(1, 0), document(1, 1)
    sink.system.create([older])
    assert effects(other.write([newer])) == ["written"]
    assert states(erpnext) == [(1, 1)]
    assert effects(sink.write([older])) == ["superseded"]
    sink.system.create([document(2, 1)])
    other.system.create([document(2, 0)])
    assert effects(other._book([document(2, 0)])) == ["superseded"]
    assert effects(sink.write([document(2, 1)])) == ["written"]


def test_invoice_that_another_writer_makes_meanwhile_is_waited_for(
    sink: ErpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = sink.system.create

    def slow(batch: Any) -> None:
        monkeypatch.setattr(sink.system, "create", create)
        create(batch)
        create(batch)

    monkeypatch.setattr(sink.system, "create", slow)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert caught.value.kind == "lock"
    assert effects(sink.write([document()])) == ["written"]


def test_cancellation_by_hand_is_not_undone(erpnext: Website, open_erpnext: Opener, sink: ErpSink) -> None:
    sink.write([document()])
    site(erpnext)._update(key_of(document()), 2)
    assert effects(open_erpnext("another-ledger").write([document()])) == ["duplicate"]
    assert states(erpnext) == [(0, 2)]
    assert sink.holds([document().external_ref]) == set()


def test_sums_that_differ_are_not_posted(erpnext: Website, sink: ErpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    validated = site(erpnext)._validated

    def inclusive(doc: dict[str, Any]) -> dict[str, Any]:
        return validated(doc) | {"net_total": 2.51, "grand_total": 2.99}

    monkeypatch.setattr(site(erpnext), "_validated", inclusive)
    [result] = sink.write([document()])
    assert isinstance(result, Refused)
    assert result.detail.startswith("the ERP's sums differ: net 2.51")
    assert invoices(erpnext) == []


def test_item_that_is_not_there_is_refused_alone_with_frappes_words(erpnext: Website, sink: ErpSink) -> None:
    site(erpnext).unknown_items = {"Z"}
    batch = [document(1), document(2, lines=[line(sku="Z")]), document(3)]
    results = sink.write(batch)
    assert effects(results) == ["written", "refused_by_sink", "written"]
    assert isinstance(results[1], Refused)
    assert results[1].detail == "LinkValidationError: Could not find Row #1: Item: Z"
    [entry] = sink.ledger.find([batch[1].external_ref])
    assert (entry.state, entry.number) == ("refused", None)


def test_customer_is_not_named_in_a_refusal(sink: ErpSink) -> None:
    [result] = sink.write([document(customer_id="4711", customer_code="Ada Lovelace")])
    assert isinstance(result, Refused)
    assert result.detail == "LinkValidationError: Could not find Customer: …"


def test_invoice_that_something_else_refers_to_stays_and_the_revision_is_refused(
    erpnext: Website, sink: ErpSink
) -> None:
    sink.write([document(1)])
    back = line(1, "-2.52", "-0.48", quantity=Decimal(-2))
    sink.write([document(2, kind="credit_note", original_ref=document(1).external_ref, lines=[back])])
    assert effects(sink.write([document(1, 1)])) == ["refused_by_sink"]
    assert states(erpnext) == [(0, 1), (0, 1)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lines": []}, "no_lines"),
        ({"payments": [DocumentPayment("cash", Decimal("1.00"))]}, "payments"),
        ({"gross": Decimal("9.00"), "payments": []}, "gross"),
        ({"lines": [line(quantity=Decimal(0))]}, "lines"),
    ],
)
def test_what_does_not_add_up_is_not_sent(erpnext: Website, sink: ErpSink, changes: dict[str, Any], told: str) -> None:
    bad = replace(document(), **changes)
    asked = len(erpnext.requests)
    [result] = sink.write([bad])
    assert isinstance(result, Refused)
    assert result.detail.startswith(told)
    assert len(erpnext.requests) == asked + 1  # the look-up


@pytest.mark.parametrize(
    ("answer", "kind", "wait"),
    [
        (Response(429, b"Too Many Requests", {"Retry-After": "30"}), "limit", 30),  # frappe/rate_limiter.py
        (Response(503, b"<html>Updating</html>"), "maintenance", None),  # frappe/app.py, SessionStopped
        (Response(403, b'{"exc_type": "PermissionError"}'), "privilege", None),
        (Response(401, b'{"exc_type": "AuthenticationError"}'), "auth", None),
        (Response(417, b'{"exc_type": "TimestampMismatchError"}'), "lock", None),
        (Response(508, b'{"exc_type": "QueryDeadlockError"}'), "lock", None),
        (Response(500, b'{"exc_type": "AttributeError", "exc": "Traceback: Ada"}'), "fault", None),
        (Response(404, b"<html>nginx</html>"), "schema", None),
        (Response(200, b"<html>log in</html>"), "connection", None),
        (Response(302, b"", {"Location": "/login"}), "connection", None),
        (SILENCE_AFTER, "connection", None),
    ],
)
def test_world_is_waited_for(erpnext: Website, sink: ErpSink, answer: Response, kind: str, wait: float | None) -> None:
    erpnext.faults.append(answer)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert (caught.value.kind, caught.value.retry_after) == (kind, wait)
    assert "Ada" not in str(caught.value)
    assert sink.ledger.counts() == {}
    assert effects(sink.write([document()])) == ["written"]


def test_ledger_can_be_lost(erpnext: Website, open_erpnext: Opener, sink: ErpSink) -> None:
    sink.write([document(1, 0), document(2, 0)])
    sink.write([document(1, 1)])
    other = open_erpnext("another-ledger")
    assert effects(other.write([document(1, 1), document(2, 0)])) == ["duplicate"] * 2
    assert effects(other.write([document(1, 0)])) == ["duplicate"]
    assert effects(other.write([document(2, 0, event_id="pos:x", cashier="Bob")])) == ["conflicting_receipt"]
    assert effects(other.write([document(1, 0, event_id="pos:y", cashier="Bob")])) == ["superseded"]


def test_check_tells_what_is_missing_and_writes_nothing(erpnext: Website, open_erpnext: Opener) -> None:
    site(erpnext).negative_rates = 0
    site(erpnext).version = "11.1.65"
    del site(erpnext).tables["Account"]["Round Off - S"]
    found = open_erpnext(parameters="warehouse=Nowhere").check()
    assert [f.subject for f in found if not f.ok] == [
        "version",
        "custom fields",
        "warehouse Nowhere",
        "account Round Off - S",
        "negative rates",
    ]
    assert all(f.advice for f in found if not f.ok)
    assert [f.subject for f in found if not f.ok and not f.vital] == ["negative rates"]
    assert {r.path.rpartition(".")[2] for r in erpnext.requests} <= {
        *("get_logged_user", "get_versions", "get_list", "get_single_value", "has_permission")
    }


def test_check_creates_fields_once_and_asks_for_rights(erpnext: Website, sink: ErpSink) -> None:
    sink.write([document()])
    assert [f for f in sink.check(apply=True) if not f.ok] == []
    site(erpnext).forbidden = {"cancel"}
    [finding] = [f for f in sink.check() if not f.ok]
    assert finding.detail == "till@shop.example may not cancel"
    site(erpnext).tables["Custom Field"]["Sales Invoice-tillstream_key"]["unique"] = 0
    assert "not unique" in next(f.detail for f in sink.check() if f.subject == "custom fields")


def test_check_goes_on_where_the_user_may_not_look(erpnext: Website, sink: ErpSink) -> None:
    site(erpnext).forbidden = {"read Custom Field"}
    [finding] = [f for f in sink.check() if not f.ok]
    assert (finding.subject, finding.detail) == ("custom fields", "ERPNext answers 403: PermissionError")


@pytest.mark.parametrize("name", ["event_id", "external_ref", "store", "cashier"])
def test_text_that_no_database_holds_is_refused_alone(sink: ErpSink, name: str) -> None:
    for text in ("a\0", "lone \ud800"):
        bad = replace(document(2), **{name: text})
        assert effects(sink.rehearse([bad])) == ["refused_by_sink"]
        assert effects(sink.write([document(1), bad]))[1] == "refused_by_sink"
        assert sink.holds([bad.external_ref]) == set()


def test_wrong_secret_is_told(open_erpnext: Opener) -> None:
    [finding] = open_erpnext(password="wrong").check()
    assert (finding.subject, finding.ok) == ("user", False)
    assert "wrong" not in finding.detail


def test_event_of_an_invoice_is_a_digest(erpnext: Website, sink: ErpSink) -> None:
    sink.write([document(event_id="<script>", cashier="a < b > c")])
    [row] = invoices(erpnext)
    assert row["tillstream_event"] == digest("<script>")
    assert "<" not in row["tillstream_document"]
    assert sink.read([document().external_ref])[0].cashier == "a < b > c"


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("erpnext+https://h?company=A&customer=B", "s"),
        ("erpnext+https://k@h?company=A&customer=B", None),
        ("erpnext+https://k@h?company=A", "s"),
        ("erpnext+https://k@h/app?company=A&customer=B", "s"),
        ("erpnext+http://k@h?company=A&customer=B", "s"),
        ("erpnext+https://k@h?company=A&customer=B&costumer=C", "s"),
    ],
)
def test_url_that_can_not_be_meant_is_told(url: str, password: str | None, tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured):
        open_sink(f"{url}&ledger=sqlite:///{tmp_path}/ledger.db", password=password)
