"""The text that COPY reads. That PostgreSQL reads it as meant is in tests/contract."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from schemas.document import DocumentPayment, ErpDocument
from sinks.postgres import copy_text
from tests.support.documents import document, documents, line

ToText = Callable[[Sequence[ErpDocument], datetime], bytes]
NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("columns", "to_text", "moment"),
    [
        (copy_text.DOCUMENT_COLUMNS, copy_text.documents_text, "written_at"),
        (copy_text.DELIVERY_COLUMNS, copy_text.deliveries_text, "delivered_at"),
    ],
    ids=["documents", "deliveries"],
)
def test_columns_stand_in_the_order_they_are_named(columns: str, to_text: ToText, moment: str) -> None:
    d = document()
    (row,) = to_text([d], NOW).decode().splitlines()
    values = dict(zip(columns.split(", "), row.split("\t"), strict=True))
    assert values.pop(moment) == "2026-03-10T12:30:00+00:00"
    assert values == {name: "\\N" if (v := getattr(d, name)) is None else v_text(v) for name in values}


CODED = replace(line(), item_code="4711", item_unit=None, tax_code="V\\19", cost=Decimal("0.5"))
MAPPED = replace(
    document(lines=[CODED, line(2)], payments=[DocumentPayment("card", Decimal("6.00"), "Card", None)]),
    mapping="retail@1",
    warehouse="W\t1",
    review="\\N",
)


def test_rows_of_mapped_documents_end_in_their_codes() -> None:
    (row,) = copy_text.documents_text([MAPPED], NOW).decode().splitlines()
    assert row.endswith("\tretail@1\t\\N\tW\\t1\t\\N\t\\N\t\\\\N")
    assert [r.split("\t")[-4:] for r in copy_text.lines_text([MAPPED]).decode().splitlines()] == [
        ["4711", "\\N", "V\\\\19", "0.5"],
        ["\\N"] * 4,
    ]
    assert copy_text.payments_text([MAPPED]).decode().endswith("\tCard\t\\N\n")


def test_a_batch_without_codes_has_no_columns_for_them() -> None:
    assert copy_text.columns_of(documents(2)) == copy_text.PLAIN
    assert copy_text.columns_of([*documents(2), MAPPED]) == copy_text.MAPPED


@pytest.mark.parametrize("batch", [documents(2), [document(9), MAPPED]], ids=["plain", "mixed"])
def test_every_row_has_a_value_for_every_column(batch: list[ErpDocument]) -> None:
    columns = copy_text.columns_of(batch)
    texts = [copy_text.documents_text(batch, NOW), copy_text.lines_text(batch), copy_text.payments_text(batch)]
    for named, text in zip(columns, texts, strict=True):
        assert {row.count("\t") for row in text.decode().splitlines()} == {named.count(",")}


def v_text(value: object) -> str:
    """As PostgreSQL reads it."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a\tb", "a\\tb"), ("a\nb", "a\\nb"), ("a\rb", "a\\rb"), ("\\N", "\\\\N"), ("\\", "\\\\"), ("\x0b", "\x0b")],
)
def test_what_copy_would_take_for_its_own_is_escaped(text: str, escaped: str) -> None:
    batch = documents(3)
    paid = [DocumentPayment(text, Decimal(1))]
    batch[1] = replace(batch[1], cashier=text, lines=[line(1, description=text)], payments=paid)
    assert f"\t{escaped}\t" in copy_text.documents_text(batch, NOW).decode()
    assert f"\t{escaped}\t" in copy_text.lines_text(batch).decode()
    assert f"\t{escaped}\t" in copy_text.payments_text(batch).decode()


def test_a_tab_and_a_missing_null_do_not_balance_out() -> None:
    tricky = document(cashier="\\N", customer_id=None)
    assert "\t\\\\N\t\\N\t" in copy_text.documents_text([tricky], NOW).decode()


def test_rows_that_need_no_escaping_are_the_same_beside_one_that_does() -> None:
    plain, awkward = document(1), document(2, cashier="a\tb")
    assert copy_text.documents_text([plain, awkward], NOW).startswith(copy_text.documents_text([plain], NOW))


def test_no_parts_make_no_text() -> None:
    bare = document(lines=[], payments=[])
    assert (copy_text.lines_text([bare]), copy_text.payments_text([bare])) == (b"", b"")
