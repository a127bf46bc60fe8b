"""Odoo, as far as a simulator goes: what is booked how, by either protocol, and that any call may be the last."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sinks.base import Refused, SinkMisconfigured, SinkUnavailable
from sinks.erp.delivery_log import DeliveryEntry
from sinks.erp.sink import ErpSink, digest
from sinks.registry import open_sink
from tests.contract.conftest import odoo_url
from tests.contract.test_sink_contract import effects
from tests.support.documents import document, documents, line
from tests.support.odoo import KEY, MOVE, OdooServer
from tests.support.web import SILENCE_AFTER, Response, Website

Opener = Callable[..., ErpSink]


@pytest.fixture(params=["odoo19", "odoo17"])
def website(request: pytest.FixtureRequest) -> Website:
    """A simulated Odoo."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Website)
    return found


@pytest.fixture
def odoo(website: Website) -> OdooServer:
    """What is behind it."""
    assert isinstance(website.application, OdooServer)
    return website.application


@pytest.fixture
def open_odoo(website: Website, tmp_path: Path) -> Iterator[Opener]:
    """Opens sinks at the simulated Odoo; each may have a ledger of its own, as on another machine."""
    opened: list[ErpSink] = []

    def opener(ledger: str = "ledger", parameters: str = "rounding_account=4980", password: str = KEY) -> ErpSink:
        url = f"{odoo_url(website)}&ledger=sqlite:///{tmp_path}/{ledger}.db&{parameters}"
        sink = open_sink(url, password=password)
        assert isinstance(sink, ErpSink)
        opened.append(sink)
        return sink

    yield opener
    for sink in opened:
        sink.close()


@pytest.fixture
def sink(open_odoo: Opener) -> ErpSink:
    """A sink whose custom fields are there."""
    sink = open_odoo()
    assert [f for f in sink.check(apply=True) if not f.ok] == []
    return sink


def moves(odoo: OdooServer) -> list[dict[str, Any]]:
    return list(odoo.tables[MOVE].values())


def states(odoo: OdooServer) -> list[tuple[int, str]]:
    """(revision, state) of all invoices."""
    return sorted((row["x_tillstream_revision"], row["state"]) for row in moves(odoo))


def test_sale_is_a_posted_invoice(odoo: OdooServer, sink: ErpSink) -> None:
    lines = [
        line(1, description="Äpfel"),
        line(2, "1.00", "0.07", tax_rate=Decimal(7)),
        line(3, "2.00", "0.00", tax_rate=Decimal(0)),
    ]
    assert effects(sink.write([document(1, lines=lines)])) == ["written"]
    [(number, row)] = odoo.tables[MOVE].items()
    assert (row["state"], row["move_type"], row["invoice_date"]) == ("posted", "out_invoice", "2026-03-10")
    parts = [(x["name"], x["product_id/.id"], x["quantity"], x["price_unit"], x["tax_ids/.id"]) for x in row["lines"]]
    assert parts == [
        ("Äpfel", "101", "2", "1.26", "1"),
        ("Apple", "", "2", "0.50", "2"),
        ("Apple", "", "2", "1.00", ""),
    ]
    ref = document(1).external_ref
    assert sink.ledger.find([ref]) == [DeliveryEntry(ref, 0, "posted", str(number), attempts=1)]


@pytest.mark.parametrize("kind", ["credit_note", "cancellation"])
def test_refund_and_void_are_credit_notes_of_their_sale(odoo: OdooServer, sink: ErpSink, kind: str) -> None:
    sale = document(1)
    back = line(1, "-2.52", "-0.48", quantity=Decimal(-2))
    refund = document(2, kind=kind, original_ref=sale.external_ref, lines=[back])
    assert effects(sink.write([sale])) == effects(sink.write([refund])) == ["written"]
    (first, _), (_, row) = odoo.tables[MOVE].items()
    assert (row["move_type"], row["reversed_entry_id"], row["amount_total"]) == ("out_refund", first, 3.0)
    assert (row["lines"][0]["quantity"], row["lines"][0]["price_unit"]) == ("2", "1.26")
    [day] = sink.totals()
    assert (day.documents, day.net, day.gross) == (2, 0, 0)


def test_invoice_that_was_moved_to_another_day_in_the_erp_counts_there(odoo: OdooServer, sink: ErpSink) -> None:
    sink.write([document(1), document(2)])
    moves(odoo)[1]["invoice_date"] = "2026-04-01"
    [stayed, moved] = sink.totals(deep=True)
    assert (stayed.documents, moved.documents, moved.business_date) == (1, 1, date(2026, 4, 1))
    assert [each.external_ref for each in sink.prints("S1", moved.business_date)] == [document(2).external_ref]


def test_sale_below_zero_is_a_credit_note_and_void_of_a_refund_an_invoice(odoo: OdooServer, sink: ErpSink) -> None:
    back = line(1, "-2.52", "-0.48", quantity=Decimal(-2))
    assert effects(sink.write([document(1, lines=[back]), document(2, kind="cancellation")])) == ["written"] * 2
    assert [row["move_type"] for row in moves(odoo)] == ["out_refund", "out_invoice"]


def test_price_that_has_no_two_places_is_booked_as_an_amount(odoo: OdooServer, sink: ErpSink) -> None:
    thirds = line(1, "10.00", "1.90", quantity=Decimal(3))
    odd = document(1, lines=[thirds], rounding=Decimal("-0.03"), gross=Decimal("11.87"), payments=[])
    assert effects(sink.write([odd])) == ["written"]
    [row] = moves(odoo)
    assert [(x["name"], x["quantity"], x["price_unit"], x["account_id/.id"]) for x in row["lines"]] == [
        ("3 × Apple", "1", "10.00", ""),
        ("Rounding", "1", "-0.03", "44"),
    ]
    [day] = sink.totals()
    assert (day.net, day.tax, day.gross) == (Decimal("10.00"), Decimal("1.90"), Decimal("11.87"))


def test_prices_are_gross_where_the_tax_is_included(odoo: OdooServer, sink: ErpSink) -> None:
    odoo.tables["account.tax"][1]["price_include"] = True
    sink.ping()  # master data are read anew
    assert effects(sink.write([document()])) == ["written"]
    assert moves(odoo)[0]["lines"][0]["price_unit"] == "1.50"


def test_tax_may_be_named_by_a_mapping(odoo: OdooServer, sink: ErpSink) -> None:
    odoo.tables["account.tax"][9] = odoo.tables["account.tax"][1] | {"name": "19% S"}
    sink.ping()
    sink.write([document(lines=[line(tax_code="19% S")])])
    assert moves(odoo)[0]["lines"][0]["tax_ids/.id"] == "9"


def test_newer_revision_cancels_the_invoice_of_the_older(odoo: OdooServer, sink: ErpSink) -> None:
    sink.write([document(1, 0)])
    sink.write([document(1, 1)])
    assert states(odoo) == [(0, "cancel"), (1, "posted")]


@pytest.mark.parametrize("lost", range(11))
def test_any_call_may_be_the_last_before_a_crash(
    website: Website, odoo: OdooServer, open_odoo: Opener, sink: ErpSink, lost: int
) -> None:
    """The answer to one call is lost, and another worker, who knows nothing, goes on."""
    sink.write([document(1, 0), document(2, 0)])
    batch = [document(1, 1), document(2, 0), document(3, 0)]
    seen = len(website.requests)

    def crash(request: Any) -> Response:
        answer = odoo(request)
        return Response(0) if len(website.requests) - seen == lost + 1 else answer

    website.application = crash
    try:
        sink.write(batch)
        crashed = False
    except SinkUnavailable:
        crashed = True
    website.application = odoo
    assert crashed == (lost < 9)  # so many calls are made: the test has lost each of them
    other = open_odoo("another-ledger")
    assert set(effects(other.write(batch))) <= {"written", "replaced", "duplicate"}
    assert set(effects(other.write(batch))) == {"duplicate"}
    assert states(odoo) == [(0, "cancel"), (0, "posted"), (0, "posted"), (1, "posted")]
    assert sink.totals() == other.totals()


def test_draft_that_is_loaded_again_is_the_same_draft(odoo: OdooServer, sink: ErpSink, open_odoo: Opener) -> None:
    sink.system.create([document()])
    open_odoo("another-ledger").system.create([document()])
    [row] = moves(odoo)
    assert len(row["lines"]) == 1


def test_invoice_that_another_writer_has_posted_meanwhile_is_waited_for(
    sink: ErpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, system = sink.system.create, sink.system

    def slow(batch: Any) -> None:
        monkeypatch.setattr(system, "create", create)
        create(batch)
        system.post(system.find([digest(batch[0].external_ref)]))
        create(batch)

    monkeypatch.setattr(system, "create", slow)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert caught.value.kind == "lock"
    assert effects(sink.write([document()])) == ["duplicate"]


def test_invoice_that_somebody_has_set_back_to_draft_is_theirs(
    odoo: OdooServer, sink: ErpSink, open_odoo: Opener
) -> None:
    sink.write([document()])
    [(number, row)] = odoo.tables[MOVE].items()
    odoo._button_draft(number, row)
    assert effects(open_odoo("another-ledger").write([document()])) == ["duplicate"]
    assert states(odoo) == [(0, "draft")]
    assert effects(sink.write([document(1, 1)])) == ["replaced"]
    assert states(odoo) == [(0, "cancel"), (1, "posted")]


def test_sums_that_differ_are_not_posted(odoo: OdooServer, sink: ErpSink) -> None:
    [result] = sink.write([document(lines=[line(1, "2.51", "0.49")])])
    assert isinstance(result, Refused)
    assert result.detail.startswith("the ERP's sums differ")
    assert moves(odoo) == []
    assert odoo.external == {}


def test_invoice_that_can_not_be_posted_leaves_no_draft_and_keeps_nobody_back(odoo: OdooServer, sink: ErpSink) -> None:
    odoo.unpostable = {document(2).external_ref}
    results = sink.write(documents(3))
    assert effects(results) == ["written", "refused_by_sink", "written"]
    assert isinstance(results[1], Refused)
    assert results[1].detail == "UserError: Sie dürfen nicht buchen"
    assert states(odoo) == [(0, "posted")] * 2
    odoo.unpostable = set()
    assert effects(sink.write([document(2)])) == ["written"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lines": [], "payments": []}, "no_lines"),
        ({"currency": "CHF"}, "currency"),
        ({"lines": [line(tax_rate=Decimal("19.5"))]}, "tax"),
        ({"lines": [line(tax_code="nothing")]}, "tax"),
        ({"gross": Decimal("9.00")}, "gross"),
    ],
)
def test_what_odoo_could_not_take_is_not_sent(
    odoo: OdooServer, sink: ErpSink, changes: dict[str, Any], told: str
) -> None:
    [result] = sink.write([document(**changes)])
    assert isinstance(result, Refused)
    assert result.detail.startswith(told)
    assert moves(odoo) == []


def failing(website: Website, odoo: OdooServer, name: str, status: int) -> None:
    """The next call fails with this exception, as its protocol says it."""
    data = {"name": name, "message": "Ada"}
    body = (
        data if odoo.json2 else {"jsonrpc": "2.0", "error": {"code": 0, "message": "Odoo Server Error", "data": data}}
    )
    website.faults.append(Response(status if odoo.json2 else 200, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("psycopg2.errors.SerializationFailure", 500, "lock"),
        ("odoo.exceptions.LockError", 409, "lock"),
        ("odoo.exceptions.AccessError", 403, "privilege"),
        ("odoo.exceptions.AccessDenied", 403, "auth"),
        ("builtins.KeyError", 500, "fault"),
    ],
)
def test_exceptions_of_the_world_are_waited_for(
    website: Website, odoo: OdooServer, sink: ErpSink, name: str, status: int, kind: str
) -> None:
    failing(website, odoo, name, status)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert caught.value.kind == kind
    assert "Ada" not in str(caught.value)
    assert effects(sink.write([document()])) == ["written"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Response(429, headers={"Retry-After": "3"}), "limit"),
        (Response(502, b"<html>"), "fault"),
        (Response(200, b"<html>"), "connection"),
        (SILENCE_AFTER, "connection"),
    ],
)
def test_world_is_waited_for(website: Website, sink: ErpSink, answer: Response, kind: str) -> None:
    website.faults.append(answer)
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert caught.value.kind == kind
    assert effects(sink.write([document()])) == ["written"]


def test_check_tells_what_is_missing_and_writes_nothing(odoo: OdooServer, open_odoo: Opener) -> None:
    odoo.tables["account.account"].clear()
    odoo.tables["res.partner"].clear()
    odoo.tables["res.company"][5]["tax_calculation_rounding_method"] = "round_globally"
    odoo.forbidden = {"unlink"}
    found = open_odoo().check()
    assert [f.subject for f in found if not f.ok] == [
        "custom fields",
        "rights",
        "customer 7",
        "account 4980",
        "tax rounding",
    ]
    assert all(f.advice for f in found if not f.ok)
    assert odoo.tables["ir.model.fields"] == {}


def test_wrong_key_is_told_and_not_shown(open_odoo: Opener) -> None:
    [finding] = [f for f in open_odoo(password="not-the-key").check() if not f.ok]
    assert finding.subject == "user"
    assert "not-the-key" not in finding.detail


def test_company_that_is_not_there_is_found(odoo: OdooServer, sink: ErpSink) -> None:
    odoo.tables["res.company"].clear()
    assert [f.subject for f in sink.check() if not f.ok] == ["company Shop"]
    with pytest.raises(SinkUnavailable, match="tillstream check"):
        sink.ping()


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("odoo+https://u@h/db?company=A&journal=B&customer=1", None),
        ("odoo+https://h/db?company=A&journal=B&customer=1", "s"),
        ("odoo+https://u@h?company=A&journal=B&customer=1", "s"),
        ("odoo+https://u@h/db?company=A&journal=B", "s"),
        ("odoo+https://u@h/db?company=A&journal=B&customer=Ada", "s"),
        ("odoo+http://u@h/db?company=A&journal=B&customer=1", "s"),
    ],
)
def test_url_that_can_not_be_meant_is_told(url: str, password: str | None, tmp_path: Path) -> None:
    with pytest.raises(SinkMisconfigured):
        open_sink(f"{url}&ledger=sqlite:///{tmp_path}/ledger.db", password=password)
