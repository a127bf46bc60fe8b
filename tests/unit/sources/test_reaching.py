"""Data that rules can use outside their own part: facts, the record, lists, headers; and revisions from times."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.contract import Contract
from streams.sources.source import RefusedRecord, Source, UnusableContract
from tests.support.events import FakeRecord


def made(value: Any, *, headers: dict[str, str] | None = None, **rules: Any) -> Any:
    """The event that a contract of one kind makes of `value`."""
    contract = {"contract": 1, "source": "it", "kinds": [{"type": "sale"}]} | rules
    record = FakeRecord(0, json.dumps(value).encode())
    record.headers = [(name, text.encode()) for name, text in (headers or {}).items()]
    [event] = Source(Contract.model_validate(contract), lambda _: None).events(record)
    return event


def test_fact_is_found_by_its_name() -> None:
    event = made({"a": "1", "b": "2"}, facts={"sum": "add(a, b)"}, fields={"totals.gross": "sum"})
    assert event["totals"] == {"gross": "3"}


def test_fact_uses_the_facts_before_it() -> None:
    facts = {"sum": "add(a, b)", "double": "multiply(sum, '2')"}
    assert made({"a": "1", "b": "2"}, facts=facts, fields={"totals.gross": "double"})["totals"] == {"gross": "6"}


def test_fact_of_a_kind_replaces_the_contracts_fact() -> None:
    kinds = [{"type": "sale", "facts": {"number": "b"}}]
    event = made({"a": "1", "b": "2"}, kinds=kinds, facts={"number": "a"}, fields={"receipt": "number"})
    assert event["receipt"] == "2"


def test_fact_that_can_not_be_worked_out_is_named() -> None:
    refused = made({"a": "x"}, facts={"sum": "add(a, '1')"}, fields={"receipt": "sum"})
    assert isinstance(refused, RefusedRecord)
    assert refused.detail == "facts.sum: not_a_number"


def test_facts_need_an_object() -> None:
    refused = made(7, facts={"sum": "'1'"}, fields={"receipt": "sum"})
    assert isinstance(refused, RefusedRecord)
    assert refused.detail == "facts.sum: not_an_object"


def test_invalid_path_of_a_fact_is_reported_at_load() -> None:
    with pytest.raises(UnusableContract, match=r"facts\.sum: 'add\(' is not valid JMESPath"):
        made({}, facts={"sum": "add("})


def test_facts_are_not_for_xml() -> None:
    with pytest.raises(ValidationError, match="facts are for JSON"):
        Contract.model_validate(
            {"contract": 1, "source": "it", "format": "xml", "kinds": [{"type": "sale"}], "facts": {"a": "b"}}
        )


def test_line_reaches_the_record() -> None:
    lines = [{"each": "items", "fields": {"sku": "sku", "tax_included": {"path": "gross_prices", "of": "record"}}}]
    event = made({"gross_prices": False, "items": [{"sku": "A"}, {"sku": "B"}]}, lines=lines)
    assert event["lines"] == [{"sku": "A", "tax_included": False}, {"sku": "B", "tax_included": False}]


TAXES = [{"id": 1, "percent": "19"}, {"id": 2, "percent": "7"}, {"id": 2, "percent": "8"}, {"percent": "9"}]


def looked_up(tax: Any, **more: Any) -> Any:
    rule = {"path": "tax", "as": {"lookup": {"in": "taxes", "by": "id", "take": "percent"}}} | more
    lines = [{"each": "items", "fields": {"tax_rate": rule}}]
    return made({"taxes": TAXES, "items": [{"tax": tax}]}, lines=lines)["lines"][0]


def test_row_is_looked_up_by_its_key() -> None:
    assert looked_up(1) == {"tax_rate": "19"}


def test_first_of_several_rows_counts() -> None:
    assert looked_up("2") == {"tax_rate": "7"}


def test_missing_row_is_absent() -> None:
    assert looked_up(3) == {}
    assert looked_up(3, default="0") == {"tax_rate": "0"}


def test_taxes_of_a_line_make_its_rate() -> None:
    lines = [
        {
            "each": "items",
            "fields": {"quantity": {"value": "1"}, "unit_price": "price", "tax_included": {"value": False}},
            "taxes": [{"each": "taxes", "fields": {"rate": "percent", "amount": "money"}}],
        }
    ]
    taxes = [{"percent": "6", "money": "0.60"}, {"percent": "1.5", "money": "0.15"}]
    event = made({"items": [{"price": "10.00", "taxes": taxes}]}, lines=lines, fields={"currency": {"value": "USD"}})
    assert event["lines"][0]["tax_rate"] == "7.5"


def test_headers_are_joined() -> None:
    rule = {"event_id": {"header": ["Event-Id", "Topic"]}}
    assert made({}, headers={"event-id": "7", "topic": "paid"}, fields=rule)["event_id"] == "7/paid"


def test_joined_headers_are_absent_where_one_is() -> None:
    assert "event_id" not in made({}, headers={"Event-Id": "7"}, fields={"event_id": {"header": ["Event-Id", "Topic"]}})


def with_revision(changed: Any) -> Any:
    return made({"changed": changed}, fields={"revision": {"path": "changed", "as": "revision"}})


def revision(changed: Any) -> int:
    return int(with_revision(changed)["revision"])


def test_revision_is_the_seconds_since_2000() -> None:
    assert revision("2000-01-01T01:00:07+01:00") == 7


def test_revision_grows_with_the_moment_whatever_its_zone() -> None:
    assert revision("2026-03-10T12:00:00-05:00") > revision("2026-03-10T17:00:00+01:00")


def test_revision_fits_until_2068() -> None:
    assert revision(datetime(2068, 1, 1, tzinfo=UTC).isoformat()) < 2**31


@pytest.mark.parametrize("changed", ["yesterday", "2026-03-10T12:00:00", 7])
def test_revision_wants_a_time_with_its_offset(changed: Any) -> None:
    refused = with_revision(changed)
    assert isinstance(refused, RefusedRecord)
    assert refused.detail == "revision: not_a_time"
