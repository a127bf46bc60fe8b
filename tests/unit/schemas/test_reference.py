"""References and identities: different parts, different texts; and the way back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.reference import (
    derived_identity,
    join_identity,
    join_names,
    join_reference,
    split_identity,
    split_receipt,
    split_reference,
    unescaped_reference,
)
from schemas.sale import SaleEvent
from streams.mapping.documents import original_ref
from tests.support.events import event

#: Texts in which separators, escapes and halves of them are likely.
tricky = st.lists(st.sampled_from(["/", "%", ":", "2F", "25", "3A", "2", "5", "F", "sale", "0", "a"]), max_size=6)
part = st.one_of(tricky.map("".join), st.text(max_size=8)).filter(bool)
parts = st.lists(part, min_size=1, max_size=6)
ids = st.one_of(part, st.lists(part, min_size=3, max_size=3).map(lambda three: "/".join([*three, "sale", "0"])))


def sale(**changes: object) -> SaleEvent:
    return SaleEvent.model_validate(event(**changes))


@given(parts)
@example(["a", "%2F", "%25", "%252F", "/", "%/", "%2/5"])
def test_split_gives_back_what_was_joined(one: list[str]) -> None:
    assert split_reference(join_reference(*one)) == one


@given(parts, parts)
@example(["1", "2/3"], ["1/2", "3"])
@example(["1", "2/3"], ["1", "2%2F3"])
@example(["1", "2%2F3"], ["1", "2%252F3"])
def test_different_parts_have_different_references(one: list[str], other: list[str]) -> None:
    assert (join_reference(*one) == join_reference(*other)) == (one == other)


@given(st.lists(st.tuples(part, part, part), min_size=2, max_size=2))
def test_different_names_of_one_number_are_different(two: list[tuple[str, str, str]]) -> None:
    one, other = two
    assert (join_names(one) == join_names(other)) == (one == other)


@given(part, ids, part, ids)
@example("a:b", "c", "a", "b:c")
@example("a%3Ab", "c", "a:b", "c")
def test_different_events_have_different_identities(source: str, one: str, other_source: str, other: str) -> None:
    same = (source, one) == (other_source, other)
    assert (join_identity(source, one) == join_identity(other_source, other)) == same


@given(part, ids)
def test_identity_splits_into_source_and_id(source: str, event_id: str) -> None:
    assert split_identity(join_identity(source, event_id)) == (source, event_id)


@given(part, part, part, part, st.integers(0, 2**31 - 1), ids)
@example("pos", "S1", "R1", "1", 0, "S1/R1/1/sale/0")
@example("pos", "/S1", "R1", "1", 0, "/S1/R1/1/sale/0")
def test_event_without_an_id_is_never_one_with_an_id(
    source: str, store: str, register: str, receipt: str, revision: int, event_id: str
) -> None:
    derived = derived_identity(source, store, register, receipt, "sale", revision)
    assert derived != join_identity(source, event_id)
    assert derived != join_identity(source, derived.partition(":")[2])


def test_parts_without_separators_are_written_as_they_are() -> None:
    plain = sale(event_id="0199-7f3a", receipt="50% off, No. 7#a")
    assert plain.receipt_ref == "pos/S1/R1/50% off, No. 7#a/sale"
    assert plain.identity == "pos:0199-7f3a"
    assert sale(event_id="gid://shopify/Order/1/2").identity == "pos:gid://shopify/Order/1/2"
    assert sale(event_id=None, revision=2).identity == "pos:S1/R1/1/sale/2"


def test_register_and_number_with_slashes_are_told_apart() -> None:
    assert sale(register="1", receipt="2/3").receipt_ref == "pos/S1/1/2%2F3/sale"
    assert sale(register="1/2", receipt="3").receipt_ref == "pos/S1/1%2F2/3/sale"
    assert sale(event_id=None, register="1", receipt="2/3").identity == "pos:S1/1/2%2F3/sale/0"


def test_refund_refers_to_the_reference_of_its_sale() -> None:
    refund = sale(type="return", original={"receipt": "2026/00123"})
    assert original_ref(refund) == sale(receipt="2026/00123").receipt_ref


@pytest.mark.parametrize("text", ["17", "2026/00123", "a/b/c/d/e", "a/b/c/d/e/sale", "a//c/d/sale"])
def test_text_that_is_no_reference_of_a_receipt_is_none(text: str) -> None:
    assert split_receipt(text) is None


def test_reference_of_a_receipt_is_split_into_its_parts() -> None:
    assert split_receipt("pos/S1/1/2%2F3/sale") == ["pos", "S1", "1", "2/3", "sale"]


def test_only_references_with_escapes_were_written_otherwise_before() -> None:
    assert unescaped_reference("pos/S1/1/2%2F3/sale") == "pos/S1/1/2/3/sale"
    assert unescaped_reference("pos/S1/1/2 %/sale") is None
