"""Every built-in contract: its examples come out as they say."""

from pathlib import Path

import pytest

from schemas.contract import Contract, ContractExample
from streams.sources.contracts import built_in_contracts
from streams.sources.examples import run_example
from streams.sources.source import Source
from tests.support.sources import examples, folder, source


@pytest.mark.parametrize(
    ("name", "example"), [pytest.param(*pair, id=f"{pair[0]}: {pair[1].name}") for pair in examples()]
)
def test_example_comes_out_as_it_says(name: str, example: ContractExample) -> None:
    assert run_example(source(name), folder(name), example) is None


@pytest.mark.parametrize("name", built_in_contracts())
def test_built_in_contract_has_examples(name: str) -> None:
    assert [example for contract, example in examples() if contract == name]


@pytest.fixture
def plain() -> Source:
    """A contract for bare one-line sales, which skips other records."""
    return Source(
        Contract.model_validate(
            {
                "contract": 1,
                "source": "plain",
                "kinds": [{"when": "price", "type": "sale"}, {"when": "note", "skip": "a_note"}],
                "fields": {
                    "store": {"header": "shop"},
                    "register": {"key": True},
                    "receipt": "id",
                    "occurred_at": {"value": "2026-03-10T12:00:00Z"},
                    "currency": {"value": "EUR"},
                    "totals.gross": "price",
                },
                "lines": [
                    {
                        "each": "[@]",
                        "fields": {
                            "sku": {"value": "A"},
                            "quantity": {"value": "1"},
                            "unit_price": "price",
                            "tax_rate": {"value": "0"},
                        },
                    }
                ],
            }
        ),
        lambda _: None,
    )


EVENT = {
    "source": "plain",
    "type": "sale",
    "store": "S1",
    "register": "R1",
    "receipt": "7",
    "occurred_at": "2026-03-10T12:00:00Z",
    "currency": "EUR",
    "lines": [{"sku": "A", "quantity": "1", "unit_price": "3.00", "tax_rate": "0"}],
    "totals": {"gross": "3.00"},
}
RECORD = {"value": {"id": "7", "price": "3.00"}, "key": "R1", "headers": {"shop": "S1"}}


def run(plain: Source, tmp_path: Path, **example: object) -> str | None:
    return run_example(plain, tmp_path, ContractExample.model_validate({"name": "it"} | example))


def test_fully_equal_event_is_not_a_difference(plain: Source, tmp_path: Path) -> None:
    assert run(plain, tmp_path, **RECORD, events=[EVENT]) is None


def test_only_fields_that_the_example_states_must_match(plain: Source, tmp_path: Path) -> None:
    stated = {name: value for name, value in EVENT.items() if name != "currency"}
    assert run(plain, tmp_path, **RECORD, events=[stated]) is None
    difference = run(plain, tmp_path, **RECORD, events=[stated | {"currency": "USD"}])
    assert difference is not None
    assert '+      "currency": "EUR"' in difference


def test_record_is_read_from_a_file_next_to_the_contract(plain: Source, tmp_path: Path) -> None:
    (tmp_path / "sale.json").write_text('{"id": "7", "price": "3.00"}')
    assert run(plain, tmp_path, file="sale.json", key="R1", headers={"shop": "S1"}, events=[EVENT]) is None


def test_missing_file_is_reported(plain: Source, tmp_path: Path) -> None:
    assert run(plain, tmp_path, file="sale.json", skipped=True) == "sale.json: No such file or directory"


def test_skipped_record_is_as_expected(plain: Source, tmp_path: Path) -> None:
    assert run(plain, tmp_path, value={"note": "hello"}, skipped=True) is None
    assert "a_note" in (run(plain, tmp_path, value={"note": "hello"}, events=[EVENT]) or "")


def test_reason_of_a_dead_letter_is_compared(plain: Source, tmp_path: Path) -> None:
    assert run(plain, tmp_path, value="{", rejected="invalid_json") is None
    assert "invalid_json" in (run(plain, tmp_path, value="{", rejected="totals_mismatch") or "")


def test_event_that_does_not_add_up_is_a_dead_letter(plain: Source, tmp_path: Path) -> None:
    faulty = RECORD | {"value": {"id": "7", "price": "3.001"}}
    assert run(plain, tmp_path, **faulty, rejected="invalid_amount") is None
