"""A worker with a mapping: the ERP's own codes stand in its tables, and one added row repairs what it blocked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.events import event, value
from tests.support.kafka import Kafka
from tests.support.wait import wait_until
from tests.support.workers import Shop, open_shop

MAPPING = """\
mapping: 1
name: retail
version: "7"
reload_seconds: 1
items: {file: items.csv}
taxes: {rows: [{rate: 19, tax_code: V19}]}
tenders: {rows: [{kind: cash, payment_mode: Cash, account: 1000}]}
cleaning:
  quantity: {at_most: 1000, then: hold}
  discount_share: {at_most: "0.5", then: flag}
"""


@pytest.fixture(params=["postgres", pytest.param("sqlite", marks=pytest.mark.faults_long)])
def shop(request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Shop]:
    """A shop with master data, on each database."""
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    (tmp_path / "items.csv").write_text("sku,item_code,unit\nA,ART-1,pc\n")
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:///{tmp_path}/erp.sqlite"
    with open_shop(tmp_path, kafka, topic_name, url) as opened:
        opened.settings["mapping"] = str(tmp_path / "mapping.yaml")
        yield opened


def of(number: int, sku: str, quantity: str = "2", off: str = "0.00") -> bytes:
    """A sale of one article at 1.50."""
    gross = f"{float(quantity) * 1.5 - float(off):.2f}"
    line = event()["lines"][0] | {"sku": sku, "quantity": quantity, "discounts": [{"amount": off}]}
    return value(number, lines=[line], tenders=[{"kind": "cash", "amount": gross}], totals={"gross": gross})


def reasons(shop: Shop) -> list[tuple[str, str]]:
    stated = [dict(letter.headers) for letter in shop.dead_letters()]
    named = ("tillstream.reason", "tillstream.detail")
    return sorted(tuple((one[name] or b"").decode() for name in named) for one in stated)  # type: ignore[misc]  # pairs


def test_codes_reviews_holds_and_a_row_that_repairs_what_it_blocked(shop: Shop, tmp_path: Path) -> None:
    worker = shop.start().wait_ready()
    shop.send(of(1, "A"), of(2, "B"), of(3, "A", quantity="1001"), of(4, "A", off="2.00"))
    shop.wait_drained()
    assert shop.event_ids() == ["pos:e-1", "pos:e-4"]
    lines = shop.query("SELECT DISTINCT item_code, item_unit, tax_code FROM document_lines")
    assert [tuple(line) for line in lines] == [("ART-1", "pc", "V19")]
    assert [tuple(row) for row in shop.query("SELECT DISTINCT payment_mode, account FROM document_payments")] == [
        ("Cash", "1000")
    ]
    flagged = dict(tuple(row) for row in shop.query("SELECT event_id, review FROM documents"))
    assert flagged["pos:e-1"] is None
    assert "discount_share" in flagged["pos:e-4"]
    assert [reason for reason, _ in reasons(shop)] == ["held_outlier", "unmapped_item"]
    assert any("B" in detail for _, detail in reasons(shop))

    fresh = tmp_path / "items.new"
    fresh.write_text("sku,item_code,unit\nA,ART-1,pc\nB,ART-2,pc\n")
    fresh.rename(tmp_path / "items.csv")
    wait_until(lambda: resent(shop), 30, "the added row to be read, and the sale that it blocked to be delivered")
    assert worker.process.poll() is None


def resent(shop: Shop) -> bool:
    """Sends the blocked sale again, as a replay does, until it is delivered."""
    shop.send(of(2, "B"))
    shop.wait_drained()
    return "pos:e-2" in shop.event_ids()


def test_held_worker_goes_on_when_a_row_repairs_what_it_held(shop: Shop, tmp_path: Path) -> None:
    shop.send(*(of(number, "B") for number in range(100)), partition=0)
    worker = shop.start(dead_letter_budget={"in_a_row": 10})
    wait_until(lambda: "held: more than 10 records in a row" in worker.get("/readyz")[1], 30, "a worker that holds")
    wait_until(lambda: "tillstream_held 1.0" in worker.get("/metrics")[1], 10, "a metric to say so")
    fresh = tmp_path / "items.new"
    fresh.write_text("sku,item_code,unit\nA,ART-1,pc\nB,ART-2,pc\n")
    fresh.rename(tmp_path / "items.csv")
    wait_until(lambda: len(shop.event_ids()) + len(shop.dead_letters()) == 100, 30, "an end for every sale")
    assert len(shop.dead_letters()) <= 10  # what was read alone, before the others
    assert worker.wait_ready().terminate() == 0


def test_accepted_budget_lets_what_waits_become_dead_letters(shop: Shop) -> None:
    shop.send(*(of(number, "B") for number in range(100)), partition=0)
    worker = shop.start(options=("--accept-budget",), dead_letter_budget={"in_a_row": 10}).wait_ready()
    shop.wait_drained()
    assert len(shop.dead_letters()) == 100
    wait_until(lambda: worker.get("/metrics")[1].count("budget_used_ratio 0.0") == 1, 10, "the budget to count again")
    shop.send(*(of(number, "B") for number in range(100, 200)), partition=0)
    wait_until(lambda: "held: " in worker.get("/readyz")[1], 30, "a worker that holds")
