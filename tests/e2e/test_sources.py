"""A worker on a topic of another format than our own: its contract decides what every record becomes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_cli import error_text, tillstream
from tests.support.kafka import Kafka
from tests.support.workers import Shop, open_shop


def order(number: int, state: str = "COMPLETED", amount: int = 500) -> bytes:
    """As Square has it: one article of so many cents, paid in cash."""
    money = {"amount": amount, "currency": "USD"}
    return json.dumps(
        {
            "order": {
                "id": f"O{number}",
                "location_id": "L1",
                "version": 3,
                "state": state,
                "created_at": "2026-03-02T10:00:00Z",
                "closed_at": "2026-03-02T10:05:00Z",
                "line_items": [
                    {
                        "uid": "a",
                        "catalog_object_id": "TEA",
                        "name": "Tea",
                        "quantity": "1",
                        "base_price_money": money,
                        "gross_sales_money": money,
                        "total_money": money,
                    }
                ],
                "tenders": [{"type": "CASH", "amount_money": money}],
                "total_money": money,
                "total_tax_money": money | {"amount": 0},
            }
        }
    ).encode()


@pytest.fixture
def shop(tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Shop]:
    """A shop whose topic holds Square's orders."""
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as opened:
        opened.settings["contract"] = "square"
        yield opened


def test_records_of_a_contract_become_documents_or_dead_letters_that_name_it(shop: Shop) -> None:
    worker = shop.start().wait_ready()
    shop.send(order(1), order(2, amount=199), b"\xff not json", order(1), b'{"weather": "fine"}', None)
    shop.wait_drained()
    held = shop.query("SELECT external_ref, gross FROM documents ORDER BY external_ref")
    assert [ref.split("/")[3] for ref, _ in held] == ["O1", "O2"]
    reasons = {}
    for letter in shop.dead_letters():
        stated = dict(letter.headers)
        assert stated["tillstream.mapping_version"] == b"square@1"
        reasons[letter.value] = (stated["tillstream.reason"] or b"").decode()
    assert reasons == {b"\xff not json": "invalid_json", b'{"weather": "fine"}': "unplaced_record"}
    readings = worker.readings()
    assert (readings.delivered, sum(readings.duplicates.values()), readings.skipped) == (2, 1, 1)


def test_file_is_imported_inspected_run_and_imported_again(shop: Shop, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "docs" / "tutorial" / "sample.csv"
    shop.settings["contract"] = "online_retail"
    known = {"broker": shop.topics.bootstrap, "topic": shop.topic, "dead_letter_topic": shop.dead_letter_topic}

    def run(*arguments: str) -> Any:
        result = tillstream(*arguments, "--json", folder=tmp_path, **known)
        assert (result.returncode, error_text(result)) == (0, "")
        return json.loads(result.stdout)

    for again in (False, True):
        assert run("import", str(sample), "--contract", "online_retail")["confirmed"] == 5
        if not again:
            shop.start()
        shop.wait_drained()
        (held,) = shop.query("SELECT count(*), sum(gross) FROM documents")
        assert tuple(held) == (4, (4568 + 3000 - 510 + 6406) * 100)
    assert shop.dead_letters() == []
    fields = {field["path"]: field for field in run("inspect", shop.topic)["fields"]}
    assert "rows[].StockCode" in fields
    assert "10001" not in json.dumps(fields["rows[].CustomerID"])
    changes = run("map", "diff", "online_retail", "online_retail", "--from-topic", shop.topic)
    assert (changes["records"], changes["same"]) == (10, 10)


def test_contract_that_is_wrong_stops_the_worker_with_file_and_line(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "till.yaml"
    path.write_text("contract: 1\nsource: till\nkinds:\n  - type: sail\n")
    shop.settings["contract"] = str(path)
    worker = shop.start()
    assert worker.process.wait(30) == 2
    assert worker.words().strip().startswith(f"tillstream: {path}:4: kinds.0.type: ")
