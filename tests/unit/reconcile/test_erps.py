"""What a reconciliation finds of invoices that people change in an ERP behind an API; and what it can't."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.reconcile.explain import ReceiptTrace, _now
from sinks.base import SinkUnavailable, SupportsErpNumbers
from sinks.registry import open_sink
from tests.contract.conftest import erpnext_url
from tests.support.books import World
from tests.support.erpnext import INVOICE, SECRET, ErpNextSite
from tests.support.events import value
from tests.support.line import Line
from tests.support.web import served


@dataclass
class Shop:
    """A world whose documents are invoices of a simulated ERPNext."""

    world: World
    site: ErpNextSite

    def invoice(self, number: int) -> dict[str, Any]:
        """The invoice there, for people to change."""
        return list(self.site.tables[INVOICE].values())[number - 1]

    def named(self, *, deep: bool) -> list[tuple[str, str]]:
        """The differences: kind and receipt."""
        return [(one.kind, one.ref) for day in self.world.reconcile(deep=deep) for one in day.differences]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Three sales, booked."""
    site = ErpNextSite()
    with served(site) as website:
        sink = open_sink(f"{erpnext_url(website)}&ledger=sqlite:///{tmp_path}/ledger.db", password=SECRET)
        sink.check(apply=True)
        world = World(Line(sink))
        world.send(*map(value, (1, 2, 3)))
        world.work()
        yield Shop(world, site)
        sink.close()


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_booked_as_it_was_sent_balances(shop: Shop, deep: bool) -> None:
    assert [(day.state, day.count("erp")) for day in shop.world.reconcile(deep=deep)] == [("balanced", 3)]


@pytest.mark.parametrize("deep", [False, True])
def test_sums_and_days_that_were_changed_and_invoices_that_were_cancelled_are_named(shop: Shop, deep: bool) -> None:
    shop.invoice(1)["grand_total"] = 4.0
    shop.invoice(2)["posting_date"] = "2026-03-09"
    shop.invoice(3)["docstatus"] = 2
    kinds = {"pos/S1/R1/1/sale": "altered", "pos/S1/R1/2/sale": "moved", "pos/S1/R1/3/sale": "missing"}
    assert {ref: kind for kind, ref in shop.named(deep=deep)} == kinds


def test_changes_of_sums_that_cancel_out_show_in_the_digest(shop: Shop) -> None:
    shop.invoice(1)["grand_total"] = 4.0
    shop.invoice(2)["grand_total"] = 2.0
    assert shop.named(deep=False) == []
    assert shop.named(deep=True) == [("altered", "pos/S1/R1/1/sale"), ("altered", "pos/S1/R1/2/sale")]


def test_document_that_was_spoilt_is_no_difference_but_a_fault(shop: Shop) -> None:
    shop.invoice(1)["tillstream_document"] = None
    with pytest.raises(SinkUnavailable, match="S1 on 2026-03-10 has lost its document"):
        shop.named(deep=False)


def test_explanation_of_a_receipt_has_the_erps_own_number(shop: Shop) -> None:
    ref, sink = "pos/S1/R1/1/sale", shop.world.line.sink
    assert isinstance(sink, SupportsErpNumbers)
    told = _now(ReceiptTrace(ref, document=sink.read([ref])[0]), [], sink.numbers([ref])[ref])
    assert told.what == f"now: the ERP holds the invoice {shop.invoice(1)['name']}, posted"
    assert sink.numbers(["pos/S1/R1/9/sale"]) == {}


def test_item_that_was_changed_at_the_same_price_does_not_show(shop: Shop) -> None:
    shop.invoice(1)["items"][0]["item_code"] = "another"
    assert shop.named(deep=True) == []
