"""Exact numbers and storable text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.base import DocumentsRefused
from sinks.storable import from_scaled, to_scaled, to_utf8


@given(scaled=st.integers(-(10**18) + 1, 10**18 - 1))
def test_scaled_numbers_come_back(scaled: int) -> None:
    assert to_scaled(from_scaled(scaled, 6), 6) == scaled


@pytest.mark.parametrize("number", ["0.00001", "1E-50", "1E+12", "-1E+12", "1E+999999", "NaN", "sNaN", "-Infinity"])
def test_a_number_that_does_not_fit_is_refused(number: str) -> None:
    with pytest.raises(DocumentsRefused, match="invalid_number"):
        to_scaled(Decimal(number), 4)


def test_a_number_with_more_digits_than_any_context_is_refused_not_rounded() -> None:
    with pytest.raises(DocumentsRefused):
        to_scaled(Decimal("1." + "0" * 60 + "1"), 4)


@pytest.mark.parametrize(("text", "detail"), [("Ada\0", "nul_character"), ("Ada\udc80", "lone_surrogate")])
def test_text_that_can_not_be_stored_is_refused_without_being_quoted(text: str, detail: str) -> None:
    with pytest.raises(DocumentsRefused) as caught:
        to_utf8(text)
    assert caught.value.detail == detail
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
