"""A difference is judged by what the documents say: never by a hash that stands in one of their columns."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.reconcile import certificate
from ops.reconcile.certificate_page import render_page
from ops.reconcile.content import describe_parts
from ops.reconcile.day_states import current_state, figures_digest, sign
from ops.reconcile.render import day_as_json
from ops.reconcile.store_day import DayDifference, DayReport
from schemas.document import ErpDocument
from sinks.base import DeliveryRecord, OrphanedParts
from sinks.digests import DOCUMENT, LINE, PAYMENT, PERSONAL
from sinks.sql.tables import document_lines, document_payments, documents
from streams.dead_letters.day_states import DayState
from tests.support.books import AFTER, World
from tests.support.events import NOON, value

PERSONAL_VALUES = {"cashier": "Zoe Zimmer", "customer": {"id": "C-4711"}}


def world(*values: bytes | None) -> World:
    made = World()
    made.send(*values)
    made.work()
    return made


def ref(number: int) -> str:
    return f"pos/S1/R1/{number}/sale"


def found(made: World, **scope: Any) -> list[DayDifference]:
    return [one for day in made.reconcile(**scope) for one in day.differences]


def only(made: World, **scope: Any) -> DayDifference:
    (one,) = found(made, **scope)
    return one


def copy_of(made: World, number: int, **changes: Any) -> ErpDocument:
    """A document under another reference, put in by hand, with these changes."""
    copied = replace(made.sink.documents[ref(number)], external_ref=f"{ref(number)}/copy", **changes)
    made.sink.documents[copied.external_ref] = copied
    return copied


DEAR = value(
    2,
    lines=[{"sku": "Z", "quantity": "1", "unit_price": "20.45", "tax_rate": "19"}],
    tenders=[{"kind": "card", "amount": "20.45"}],
    totals={"gross": "20.45"},
    occurred_at="2026-03-10T12:00:07Z",
)


def test_document_that_only_has_the_hash_of_another_is_no_copy_of_it() -> None:
    made = world(value(1), DEAR)
    copied = copy_of(made, 1, receipt="77", content=made.sink.documents[ref(2)].content)
    one = only(made)
    assert (one.kind, one.ref) == ("only_in_erp", copied.external_ref)
    assert one.detail == f"event pos:e-1; it has the content hash of {ref(2)}, but other content"
    assert "--revoke" not in one.repair


CHANGES: list[Callable[[ErpDocument], dict[str, Any]]] = [
    lambda d: {"lines": [replace(d.lines[0], sku="B")]},
    lambda d: {"lines": [replace(d.lines[0], quantity=Decimal(3))]},
    lambda d: {"lines": [*d.lines, d.lines[0]]},
    lambda d: {"lines": []},
    lambda d: {"payments": []},
    lambda d: {"payments": [replace(d.payments[0], kind="card")]},
    lambda d: {"gross": Decimal("7.00")},
    lambda d: {"rounding": Decimal("0.01")},
    lambda d: {"register_id": "R2"},
    lambda d: {"receipt": "9"},
    lambda d: {"cashier": "another"},
    lambda d: {"customer_id": "another"},
    lambda d: {"original_ref": "pos/S1/R1/0/sale"},
    lambda d: {"occurred_at": d.occurred_at + timedelta(seconds=1)},
    lambda d: {"kind": "credit_note"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_document_that_differs_from_one_that_was_sent_in_anything_is_no_copy(
    change: Callable[[ErpDocument], dict[str, Any]],
) -> None:
    made = world(value(1, **PERSONAL_VALUES))
    copy_of(made, 1, **change(made.sink.documents[ref(1)]))
    assert [one.kind for one in found(made)] == ["only_in_erp"]


def test_copy_is_a_copy_whatever_its_hash_and_its_event_are() -> None:
    made = world(value(1))
    copied = copy_of(made, 1, content="0" * 32, event_id="manual:1")
    assert [(one.kind, one.ref, one.detail) for one in found(made)] == [
        ("doubled", copied.external_ref, f"a copy of {ref(1)}")
    ]


def test_copy_on_another_day_is_a_copy() -> None:
    made = world(value(1))
    copied = made.sink.documents[ref(1)]
    copy_of(made, 1, business_date=copied.business_date - timedelta(days=1))
    assert [one.kind for one in found(made)] == ["doubled"]


def test_document_whose_hash_alone_was_changed_is_altered_and_not_something_else() -> None:
    made = world(value(1))
    made.sink.documents[ref(1)].content = "0" * 32
    one = only(made)
    assert (one.kind, one.detail) == ("altered", "content hash differs")


def test_dead_letter_came_through_only_if_the_document_says_what_its_record_says() -> None:
    made = World()
    made.send(value(1))
    made.line.stores = type(made.line.stores)({}, None)
    made.work()
    made.line.stores = World().line.stores
    assert [day.count("dead") for day in made.reconcile()] == [1]
    sent = world(value(1)).sink.documents[ref(1)]
    made.sink.write([replace(sent, lines=[replace(sent.lines[0], sku="B")])])
    (day,) = made.reconcile()
    assert (day.count("dead"), [one.kind for one in day.differences]) == (1, ["other_content"])
    made.sink.documents[ref(1)] = sent
    (day,) = made.reconcile()
    assert (day.count("dead"), day.state) == (0, "balanced")


def test_event_that_came_again_under_another_id_may_be_the_one_that_the_erp_took() -> None:
    made = world(value(1), value(1, event_id="e-other"), value(2))
    document = made.sink.documents[ref(1)]
    document.event_id = "pos:e-other"
    delivered = made.sink._delivered
    delivered["pos:e-other"], delivered["pos:e-1"] = (
        replace(delivered[name], event_id=other)
        for name, other in (("pos:e-1", "pos:e-other"), ("pos:e-other", "pos:e-1"))
    )
    (day,) = made.reconcile()
    assert (day.state, day.differences, day.accounts[0].accepted) == ("balanced", [], 1)
    told = day_as_json(day, current_state(day, [], AFTER, "ada"))
    between = {"tills": "topic pos.sales at kafka:9092", "erp": "sqlite:///erp.db", "compared": "the rows"}
    said = render_page(certificate.issue(told, AFTER, "ada", Ed25519PrivateKey.generate(), **between))
    assert "; 1 of the documents in the ERP comes from another event with the same content" in said
    document.event_id = "manual:1"
    assert only(made).detail == "event manual:1 instead of pos:e-1"


LINES = [{"sku": sku, "description": "Fruit", "quantity": "1", "unit_price": "1.00", "tax_rate": "7"} for sku in "ABC"]
BASKET = value(1, lines=LINES, type="return", original={"receipt": "8"}, **PERSONAL_VALUES)
SCALARS = {
    "event_id": ("pos:e-9", "event pos:e-9 instead of pos:e-1"),
    "source": ("web", "source web instead of pos"),
    "register_id": ("R2", "register R2 instead of R1"),
    "receipt": ("77", "receipt 77 instead of 1"),
    "original_ref": (None, "original none instead of pos/S1/R1/8/sale"),
    "kind": ("invoice", "kind invoice instead of credit_note"),
    "occurred_at": (NOON + timedelta(hours=1), "time 2026-03-10 13:00:00 instead of 2026-03-10 12:00:00"),
    "rounding": (Decimal("0.01"), "rounding 0.01 instead of 0.00"),
    "cashier": ("Bob", "cashier differs"),
    "customer_id": ("C-2", "customer differs"),
    "content": ("f" * 32, "content hash differs"),
}


@pytest.mark.parametrize("name", SCALARS)
def test_every_field_of_a_document_is_covered_and_named(name: str) -> None:
    made = world(BASKET)
    (document,) = made.sink.documents.values()
    changed, told = SCALARS[name]
    setattr(document, name, changed)
    one = only(made)
    assert (one.kind, one.detail) == ("altered", told)
    assert "Zimmer" not in repr(found(made))


PARTS = {
    "sku": ("X", "line 3: sku X instead of C"),
    "unit": ("kg", "line 3: unit kg instead of each"),
    "unit_price": (Decimal("1.01"), "line 3: unit price 1.01 instead of 1"),
    "discount": (Decimal("0.50"), "line 3: discount 0.5 instead of 0"),
    "quantity": (Decimal(-2), "line 3: quantity -2 instead of -1"),
    "description": ("Vegetable", "line 3: description differs"),
    "net": (Decimal(1), "line 3: net 1.00 instead of -0.93"),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_field_of_a_line_is_covered_and_named(name: str) -> None:
    made = world(BASKET)
    (document,) = made.sink.documents.values()
    changed, told = PARTS[name]
    document.lines[2] = replace(document.lines[2], **{name: changed})
    assert only(made).detail == told


def test_lines_that_were_swapped_are_named() -> None:
    made = world(BASKET)
    (document,) = made.sink.documents.values()
    document.lines.reverse()
    assert only(made).detail == "line 1: sku C instead of A, line 3: sku A instead of C"


def test_value_that_looks_personal_is_not_shown() -> None:
    made = world(value(1))
    made.sink.documents[ref(1)].receipt = "ada@example.com"
    assert only(made).detail == "receipt differs"


def test_long_list_of_changes_is_cut() -> None:
    made = world(BASKET)
    (document,) = made.sink.documents.values()
    document.lines = [replace(line, sku="X", unit="kg", description="") for line in document.lines]
    assert only(made).detail.endswith(", and 3 more")


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a|b", "c"), ("a", "b|c")), (("a", "-"), ("a|-", "")), (("1:a", ""), ("1", "a:")), (("", "a"), ("a", ""))],
)
def test_separators_in_texts_make_no_two_rows_the_same(one: tuple[str, str], other: tuple[str, str]) -> None:
    (sku, description), (held_sku, held_description) = one, other
    line = {"sku": sku or "-", "description": description, "quantity": "2", "unit_price": "1.50", "tax_rate": "19"}
    made = world(value(1, lines=[line]))
    document = made.sink.documents[ref(1)]
    document.lines = [replace(document.lines[0], sku=held_sku or "-", description=held_description)]
    assert [one.kind for one in found(made)] == ["altered"]


def test_every_column_that_comes_from_the_event_is_covered() -> None:
    """Left out are the codes of a mapping, which no event says, and when a document was written."""
    coded = {"mapping", "company", "warehouse", "cost_centre", "customer_code", "review", "item_code", "item_unit"}
    coded |= {"tax_code", "cost", "payment_mode", "account", "written_at"}
    for table, covered in ((documents, {*DOCUMENT, *PERSONAL}), (document_lines, LINE), (document_payments, PAYMENT)):
        assert {column.name for column in table.columns} - coded == set(covered)
    assert {field.name for field in fields(ErpDocument)} - coded - {"lines", "payments"} == {*DOCUMENT, *PERSONAL}


def test_document_whose_delivery_was_deleted_is_orphaned() -> None:
    made = world(value(1), value(2))
    del made.sink._delivered["pos:e-1"], made.sink.contents["pos:e-1"]
    one = only(made)
    assert (one.kind, one.ref) == ("orphaned", ref(1))
    assert one.detail == "the ERP has no record that it took pos:e-1"
    assert one.repair == "tillstream reconcile repair --store S1 --day 2026-03-10 --revoke"


def test_day_with_an_orphan_is_not_balanced_though_its_sums_agree_and_all_is_booked() -> None:
    made = world(value(1), value(2))
    del made.sink._delivered["pos:e-1"], made.sink.contents["pos:e-1"]
    (day,) = made.reconcile()
    assert (day.state, day.books, day.is_complete, day.is_wrong) == ("differs", "differ", True, True)
    made.sink._delivered["pos:e-8"] = DeliveryRecord("pos:e-8", ref(8), 0, "written", NOON)
    made.sink.contents["pos:e-8"] = "0" * 32
    nowhere, _ = made.reconcile()
    assert (nowhere.day, nowhere.state, nowhere.books) == ("", "differs", "differ")


def test_event_that_came_again_and_whose_first_record_is_lost_may_be_the_one_that_the_erp_took() -> None:
    made = world(value(1), value(1, event_id="e-again"), value(2))
    made.lost_records = 1
    (day,) = made.reconcile()
    assert (day.state, day.differences, day.accounts[0].accepted) == ("unproved", [], 1)
    made.sink.documents[ref(1)].receipt = "77"
    assert only(made).detail == "receipt 77 instead of 1"


def test_delivery_of_nothing_is_orphaned_unless_the_topic_has_lost_its_beginning() -> None:
    made = world(value(1))
    made.sink._delivered["pos:e-8"] = DeliveryRecord("pos:e-8", ref(8), 0, "written", NOON)
    made.sink.contents["pos:e-8"] = "0" * 32
    one = only(made)
    assert (one.kind, one.store, one.day, one.ref) == ("orphaned", "", "", ref(8))
    assert one.detail == "no document, but 1 remembered as delivered"
    assert found(made, whole=False) == []
    assert found(made, lost=NOON - timedelta(days=30)) == []
    assert found(made, deep=False) == []
    assert [one.kind for one in found(made, deep=False, doubtful={("", "")})] == ["orphaned"]
    del made.sink._delivered["pos:e-8"]
    assert [day.state for day in made.reconcile(doubtful={("", "")})] == ["balanced", "balanced"]


def test_description_that_a_mapping_filled_in_is_no_change() -> None:
    line = {"sku": "A", "quantity": "2", "unit_price": "1.50", "tax_rate": "19"}
    made = world(value(1, lines=[line]), value(2))
    document = made.sink.documents[ref(1)]
    document.lines = [replace(document.lines[0], description="Apple, red", item_code="A-1")]
    assert only(made).kind == "altered"
    document.mapping = "shop@1"
    assert [(day.state, day.differences) for day in made.reconcile()] == [("balanced", [])]
    document.lines = [replace(document.lines[0], unit="kg")]
    assert only(made).detail == "line 1: unit kg instead of each"


def test_personal_values_show_in_no_digest_that_is_published() -> None:
    format_number, personal = (world(value(1, **more)) for more in ({}, PERSONAL_VALUES))
    days = [made.reconcile()[0] for made in (format_number, personal)]
    shown = [day_as_json(day, current_state(day, [], AFTER, "ada")) for day in days]
    assert shown[0] == shown[1]
    assert figures_digest(days[0]) == figures_digest(days[1])
    assert days[0].accounts[0].held.personal != days[1].accounts[0].held.personal


def test_certificate_says_what_was_compared() -> None:
    (day,) = world(value(1)).reconcile()
    told = day_as_json(day, current_state(day, [], AFTER, "ada"))
    key = Ed25519PrivateKey.generate()
    between = {"tills": "topic pos.sales at kafka:9092", "erp": "sqlite:///erp.db"}
    made = certificate.issue(told, AFTER, "ada", key, **between, compared="the rows <of> its tables")
    assert (made["certificate"], made["digests"]["version"]) == ("tillstream store-day 3", 2)
    assert "the rows &lt;of&gt; its tables" in render_page(made)
    assert "codes that a mapping gave are not compared" in render_page(made)
    for text in (certificate.to_text(made), render_page(made)):
        assert certificate.find_fault(text, key.public_key()) is None
        assert certificate.find_fault(text.replace("its tables", "its files"), key.public_key()) is not None


def test_certificate_of_an_incomplete_day_has_both_answers_and_what_the_digests_are_of() -> None:
    (day,) = world(value(1), value(2, totals={"gross": "9.99"}, tenders=[])).reconcile()
    told = day_as_json(day, current_state(day, [], AFTER, "ada"))
    key = Ed25519PrivateKey.generate()
    between = {"tills": "topic pos.sales at kafka:9092", "erp": "sqlite:///erp.db", "compared": "the rows"}
    made = certificate.issue(told, AFTER, "ada", key, **between)
    found = made["found"]
    assert (found["state"], found["books"], found["complete"]) == ("incomplete", "agree", False)
    assert found["unbooked"]["amounts"] == {"EUR": {"receipts": 1, "gross": "9.99"}}
    assert (made["digests"], made["compared"]) == ({"version": 2, "of": certificate.DIGEST_COVERAGE}, "the rows")
    (account,) = found["accounts"]
    assert account["sent"]["digest"] == account["erp"]["digest"] is not None
    assert "NOT BOOKED: 9.99 EUR in 1 receipt." in render_page(made)
    assert "Digest of the documents (documents, lines and payments" in render_page(made)
    for text in (certificate.to_text(made), render_page(made)):
        assert certificate.find_fault(text, key.public_key()) is None
        assert not certificate.is_of_books_alone(text)


def test_state_that_was_noted_with_digests_of_less_stays_if_nothing_differs() -> None:
    made = world(value(1))
    (day,) = made.reconcile()
    signed = sign(day, NOON, "grace", "").model_copy(update={"figures": "0" * 32})
    now = current_state(day, [signed], AFTER, "ada")
    assert (now.state, now.by, now.at, now.reopened) == ("signed off", "grace", NOON, False)
    assert current_state(day, [signed, now], AFTER, "ada") is now
    made.sink.documents[ref(1)].receipt = "9"
    (day,) = made.reconcile()
    assert current_state(day, [signed], AFTER, "ada").reopened


def noted_before(day: DayReport, state: str) -> DayState:
    """What the program noted when digests were made of less and what is not booked was not noted."""
    said = {"store": day.store, "day": day.day, "state": state, "at": NOON, "by": "grace", "figures": "0" * 32}
    return DayState.model_validate(said)


def test_day_that_was_balanced_by_digests_of_less_is_balanced_only_if_all_is_booked() -> None:
    (whole,) = world(value(1)).reconcile()
    now = current_state(whole, [noted_before(whole, "balanced")], AFTER, "ada")
    assert (now.state, now.reopened, now.books) == ("balanced", False, "agree")
    assert current_state(whole, [now], AFTER, "ada") is now
    (open_,) = world(value(1), value(2, totals={"gross": "9.99"}, tenders=[])).reconcile()
    now = current_state(open_, [noted_before(open_, "balanced")], AFTER, "ada")
    assert (now.state, now.reopened) == ("incomplete", False)
    now = current_state(open_, [noted_before(open_, "signed off")], AFTER, "ada")
    assert (now.state, now.reopened) == ("incomplete", True)


def test_day_that_was_signed_off_by_digests_of_less_is_noted_with_both_answers() -> None:
    made = world(value(1), value(2))
    (day,) = made.reconcile()
    now = current_state(day, [noted_before(day, "signed off")], AFTER, "ada")
    assert (now.state, now.by, now.at, now.books) == ("signed off", "grace", NOON, "agree")
    assert now.unbooked is not None
    made.lost_records = 1
    (day,) = made.reconcile()
    assert current_state(day, [now], AFTER, "ada") is now


def test_personal_print_of_a_process_is_in_nothing_that_is_noted() -> None:
    (day,) = world(value(1, **PERSONAL_VALUES)).reconcile()
    noted = current_state(day, [], AFTER, "ada")
    for figures in (day.accounts[0].due, day.accounts[0].held):
        figures.personal = "f" * 16
    assert current_state(day, [], AFTER, "ada") == noted


@pytest.mark.parametrize(
    ("lines", "payments", "text"),
    [(1, 0, "1 line"), (2, 1, "2 lines and 1 payment"), (0, 3, "3 payments"), (0, 0, "")],
)
def test_parts_without_a_document_are_counted_in_words(lines: int, payments: int, text: str) -> None:
    assert describe_parts(OrphanedParts("pos/S1/R1/1/sale", lines, payments, 0)) == text
