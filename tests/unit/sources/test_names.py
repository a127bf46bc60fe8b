"""Pieces of paths and values of XML, by name."""

from pathlib import Path
from typing import Any

import pytest

from schemas.contract import Contract
from streams.decode import decode
from streams.sources.contracts import ContractError
from streams.sources.source import Source, UnusableContract, load_source
from tests.support.events import batch


def contract(**changes: Any) -> dict[str, Any]:
    return {
        "contract": 1,
        "source": "s",
        "format": "xml",
        "names": {"live": "not(@void)", "kept": "line[$live]"},
        "values": {"lines": "line[$live]", "total": "total($lines/amount)"},
        "kinds": [{"type": "sale"}],
        "fields": {
            "store": {"value": "S1"},
            "register": {"value": "R1"},
            "receipt": "@number",
            "occurred_at": {"value": "2026-03-10T12:00:00Z"},
            "currency": {"value": "EUR"},
            "totals.gross": "$total",
        },
        "lines": [
            {
                "each": "$lines",
                "values": {"quantity": "@quantity", "price": "divide(amount, $quantity)"},
                "fields": {
                    "sku": "@sku",
                    "quantity": "$quantity",
                    "unit_price": "$price",
                    "tax_rate": {"value": "0"},
                },
            }
        ],
    } | changes


RECORD = b"""<sale number="7"><line sku="A" quantity="2"><amount>3.00</amount></line>
<line sku="B" quantity="4" void="1"><amount>9.00</amount></line>
<line sku="C" quantity="1"><amount>0.30</amount></line></sale>"""


def test_names_and_values_are_replaced_by_their_definitions() -> None:
    source = Source(Contract.model_validate(contract()), lambda _: None)
    for _ in range(2):  # values from one record don't leak into the next
        arrivals, rejections, _ = decode(batch(RECORD, b'<sale number="8"/>'), source)
        assert not rejections
        events = [arrival.event for arrival in arrivals]
        assert [event.totals["gross"] for event in events] == ["3.3", "0"]
        assert [(line["sku"], line["quantity"], line["unit_price"]) for line in events[0].lines] == [
            ("A", "2", "1.5"),
            ("C", "1", "0.3"),
        ]
        assert events[1].lines == ()


def test_value_that_can_not_be_computed_is_a_dead_letter_that_names_it() -> None:
    source = Source(Contract.model_validate(contract()), lambda _: None)
    _, rejections, _ = decode(batch(RECORD.replace(b"3.00", b"three")), source)
    assert rejections[0].detail == "values.total: not_a_number"


def test_unknown_name_is_reported_when_the_contract_is_loaded() -> None:
    fields = contract()["fields"] | {"totals.gross": "$totals"}
    with pytest.raises(UnusableContract, match=r"fields.totals.gross.path: '\$totals' is not valid XPath"):
        Source(Contract.model_validate(contract(fields=fields)), lambda _: None)


def test_values_are_for_xml(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("contract: 1\nsource: s\nvalues: {a: b}\nkinds: [{type: sale}]\n")
    with pytest.raises(ContractError, match="values are for format xml"):
        load_source(path, lambda _: None)
