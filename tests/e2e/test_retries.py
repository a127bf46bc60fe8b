"""A worker that takes dead letters up again by itself: refunds that wait for their sale, and rows that were missing."""

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
reload_seconds: 1
items: {file: items.csv}
cleaning:
  refunds: {wait_minutes: 60, then: hold}
"""


@pytest.fixture
def shop(tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Shop]:
    """A shop whose refunds wait, and whose missing items are tried again every second."""
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    (tmp_path / "items.csv").write_text("sku\nA\n")
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as opened:
        opened.settings |= {
            "mapping": str(tmp_path / "mapping.yaml"),
            "retries": {"held_refund": {"first_seconds": 1}, "unmapped_item": {"first_seconds": 1}},
        }
        yield opened


def refund(number: int, of: int) -> bytes:
    return value(number, type="return", original={"receipt": str(of)})


def test_refund_waits_for_its_sale_beyond_the_death_of_its_worker(shop: Shop) -> None:
    first = shop.start().wait_ready()
    shop.send(refund(2, of=1))
    wait_until(lambda: len(shop.dead_letters()) >= 2, 30, "the refund to be tried a second time")
    shop.wait_drained()  # else it is read again, and is a second dead letter
    first.kill()
    assert shop.event_ids() == []
    shop.send(value(1))
    worker = shop.start().wait_ready()
    wait_until(lambda: shop.event_ids() == ["pos:e-1", "pos:e-2"], 60, "the sale, and then its refund")
    tried = len(shop.dead_letters())
    healed = 'tillstream_dead_letters_retried_total{end="delivered"} 1.0'
    wait_until(lambda: healed in worker.get("/metrics")[1], 10, "the healed letter to be counted")
    assert len(shop.dead_letters()) == tried
    attempts = [dict(letter.headers)["tillstream.attempts"] for letter in shop.dead_letters()]
    assert sorted(attempts, key=lambda n: int(n or b"0"))[:2] == [b"1", b"2"]


@pytest.mark.faults_long
def test_missing_row_heals_what_it_blocked_without_a_replay(shop: Shop, tmp_path: Path) -> None:
    worker = shop.start().wait_ready()
    line = event()["lines"][0] | {"sku": "B"}
    shop.send(value(1, lines=[line]), value(2))
    wait_until(lambda: shop.event_ids() == ["pos:e-2"] and len(shop.dead_letters()) >= 1, 30, "a dead letter")
    wait_until(lambda: "tillstream_dead_letters_open 1.0" in worker.get("/metrics")[1], 30, "the letter to be counted")
    fresh = tmp_path / "items.new"
    fresh.write_text("sku\nA\nB\n")
    fresh.rename(tmp_path / "items.csv")
    wait_until(lambda: shop.event_ids() == ["pos:e-1", "pos:e-2"], 60, "the letter to be taken up again")
