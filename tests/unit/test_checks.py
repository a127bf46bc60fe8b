"""Which receipts add up, by the rules stated in `streams.checks`."""

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletter import Reason
from streams.batch import Rejection
from streams.checks import Sound, check
from streams.decode import decode
from tests.support.events import NOON, batch, value


def judge(**changes: Any) -> Sound | Rejection:
    arrivals, rejections, _ = decode(batch(value(1, **changes)))
    assert not rejections
    sound, held = check(arrivals, NOON)
    return (sound + held)[0]


def reason(**changes: Any) -> tuple[Reason, str]:
    verdict = judge(**changes)
    assert isinstance(verdict, Rejection)
    return verdict.reason, verdict.detail


def sound(**changes: Any) -> Sound:
    verdict = judge(**changes)
    assert isinstance(verdict, Sound), verdict
    return verdict


def receipt(lines: list[dict[str, Any]], gross: str, **totals: str) -> dict[str, Any]:
    return {"lines": lines, "tenders": [], "totals": {"gross": gross, **totals}}


def line(quantity: str, unit_price: str, **more: Any) -> dict[str, Any]:
    return {"sku": "A", "quantity": quantity, "unit_price": unit_price, "tax_rate": "0", **more}


def computed(**changes: Any) -> list[tuple[int, int, int, int]]:
    return [(line.net, line.tax, line.gross, line.discount) for line in sound(**changes).lines]


def test_included_tax_is_taken_out_rounding_half_up() -> None:
    assert computed() == [(252, 48, 300, 0)]  # 3.00 / 1.19 = 2.5210


def test_added_tax_is_put_on_rounding_half_up() -> None:
    taxed = line("1", "10.10", tax_rate="7.5", tax_included=False)
    assert computed(**receipt([taxed], "10.86")) == [(1010, 76, 1086, 0)]  # 0.7575


def test_discounts_are_taken_off_the_line() -> None:
    discounted = line("2", "1.50", discounts=[{"amount": "0.20"}, {"amount": "0.30", "reason": "coupon"}])
    assert computed(**receipt([discounted], "2.50")) == [(250, 0, 250, 50)]


def test_half_a_cent_rounds_away_from_zero_in_both_directions() -> None:
    assert sound(**receipt([line("0.5", "0.01")], "0.01")).gross == 1
    assert sound(**receipt([line("-0.5", "0.01")], "-0.01")).gross == -1


@pytest.mark.parametrize(
    ("currency", "gross", "minor"), [("JPY", "3", 3), ("EUR", "3.00", 300), ("BHD", "3.000", 3000)]
)
def test_minor_units_are_the_currencys_own(currency: str, gross: str, minor: int) -> None:
    assert sound(currency=currency, **receipt([line("1", gross)], gross)).gross == minor


@pytest.mark.parametrize("currency", ["EUX", "XXX", "XAU"])
def test_currency_that_is_none_is_unknown(currency: str) -> None:
    assert reason(currency=currency)[0] is Reason.UNKNOWN_CURRENCY


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"totals": {"gross": "3.001"}}, "totals.gross: too_many_places"),
        ({"totals": {"gross": 3.0000000000000004}}, "totals.gross: too_many_places"),
        (receipt([line("1.1234567", "1")], "1.12"), "lines.0.quantity: more_than_6_places"),
        (receipt([line("1", "1e999999")], "1.12"), "lines.0.unit_price: out_of_range"),
        (receipt([line("-1e12", "1")], "1.12"), "lines.0.quantity: out_of_range"),
        (receipt([line("1", "1", amount="1e999999")], "1.00"), "lines.0.amount: out_of_range"),
        (
            receipt([line("1", "1", discounts=[{"amount": "1e-999999"}])], "1.00"),
            "lines.0.discounts.amount: too_many_places",
        ),
        ({"totals": {"gross": "-1e999999"}}, "totals.gross: out_of_range"),
        ({"totals": {"gross": "3.00", "tax": "1e999999"}}, "totals.tax: out_of_range"),
        ({"tenders": [{"kind": "cash", "amount": "1e30"}]}, "tenders.amount: out_of_range"),
        (receipt([line("1", "1", amount="1.001")], "1.00"), "lines.0.amount: too_many_places"),
        (receipt([line("999999999999", "999999999999")], "1.00"), "lines.0: out_of_range"),
        (receipt([line("1", "1", tax_rate="7.12345")], "1.00"), "lines.0.tax_rate: more_than_4_places"),
        (receipt([line("1", "1", tax_rate="-1")], "1.00"), "lines.0.tax_rate: out_of_range"),
        (receipt([line("1", "1", tax_rate="100.01")], "1.00"), "lines.0.tax_rate: out_of_range"),
        (receipt([line("1", "1", tax_rate="1e30")], "1.00"), "lines.0.tax_rate: out_of_range"),
        (receipt([line("1", "1e9999999999999999999")], "1.00"), "lines.0.unit_price: out_of_range"),
        ({"totals": {"gross": "1e9999999999999999999"}}, "totals.gross: out_of_range"),
    ],
)
def test_amount_that_money_does_not_have_is_invalid(changes: dict[str, Any], detail: str) -> None:
    assert reason(**changes) == (Reason.INVALID_AMOUNT, detail)


def test_trailing_zeros_are_no_further_places() -> None:
    assert sound(**receipt([line("1.0000000", "3.0000000000")], "3.000")).gross == 300


def test_time_before_2000_or_a_day_ahead_is_implausible() -> None:
    assert reason(occurred_at="1999-12-31T23:59:59Z")[0] is Reason.IMPLAUSIBLE_TIME
    late = (NOON + timedelta(days=1, seconds=1)).isoformat()
    assert reason(occurred_at=late)[0] is Reason.IMPLAUSIBLE_TIME
    assert reason(occurred_at="9999-12-31T23:59:59-14:00")[0] is Reason.IMPLAUSIBLE_TIME
    sound(occurred_at=(NOON + timedelta(days=1)).isoformat())


def test_receipt_without_lines_is_empty() -> None:
    assert reason(lines=[])[0] is Reason.EMPTY_RECEIPT


def test_printed_amount_counts_where_the_printed_price_was_rounded() -> None:
    # 0.333 may stand for 0.3325 to 0.3335, so 1000 of them cost 332.50 to 333.50, and a cent
    assert sound(**receipt([line("1000", "0.333", amount="333.51")], "333.51")).gross == 33351
    assert reason(**receipt([line("1000", "0.333", amount="333.52")], "333.52"))[0] is Reason.LINE_MISMATCH


def test_whole_price_is_taken_for_an_exact_one() -> None:
    # "5" is 5.00, not something between 4.5 and 5.5
    assert reason(**receipt([line("10", "5", amount="50.07")], "50.07"))[0] is Reason.LINE_MISMATCH


def test_value_without_quantity_is_a_line_mismatch() -> None:
    assert reason(**receipt([line("0", "0", amount="4.00")], "4.00"))[0] is Reason.LINE_MISMATCH


def test_gross_of_another_sum_is_a_totals_mismatch() -> None:
    assert reason(totals={"gross": "3.01"}, tenders=[]) == (Reason.TOTALS_MISMATCH, "totals.gross: differs_from_lines")


def test_added_tax_rounded_per_receipt_is_booked_as_tax_not_as_rounding() -> None:
    three = [line("1", "0.33", tax_rate="10", tax_included=False)] * 3  # 0.033 each: 0.09, per receipt 0.10
    verdict = sound(**receipt(three, "1.09"))
    assert (verdict.net, verdict.tax, verdict.rounding, verdict.gross) == (99, 10, 0, 109)
    assert [line.tax for line in verdict.lines] == [4, 3, 3]
    assert reason(**receipt(three, "1.13"))[0] is Reason.TOTALS_MISMATCH


def test_printed_tax_of_the_receipt_is_the_sum_of_its_lines_tax() -> None:
    three = [line("1", "0.99", tax_rate="19")] * 3  # 0.158 each: 0.48, per receipt 0.47
    verdict = sound(**receipt(three, "2.97", tax="0.47"))
    assert (verdict.net, verdict.tax, verdict.rounding, verdict.gross) == (250, 47, 0, 297)
    assert all(line.net + line.tax == line.gross for line in verdict.lines)


def test_cent_of_tax_goes_to_the_line_whose_tax_was_rounded_furthest() -> None:
    lines = [line("1", price, tax_rate="10", tax_included=False) for price in ("0.31", "0.34", "0.30")]
    verdict = sound(**receipt(lines, "1.05", tax="0.10"))
    assert [one.tax for one in verdict.lines] == [3, 4, 3]


def test_tax_of_a_receipt_never_goes_to_lines_without_tax() -> None:
    lines = [line("1", "9.00"), line("1", "1.00", tax_rate="10", tax_included=False)]
    assert [one.tax for one in sound(**receipt(lines, "10.11", tax="0.11")).lines] == [0, 11]
    assert reason(**receipt(lines, "10.12", tax="0.12"))[0] is Reason.TOTALS_MISMATCH


def test_printed_tax_and_gross_that_disagree_are_a_totals_mismatch() -> None:
    lines = [line("1", "1.00", tax_rate="10", tax_included=False)] * 2
    assert reason(**receipt(lines, "2.20", tax="0.21")) == (
        Reason.TOTALS_MISMATCH,
        "totals.tax: differs_from_lines",
    )


def test_cash_rounding_is_apart_from_rounded_tax() -> None:
    three = [line("1", "0.33", tax_rate="10", tax_included=False)] * 3
    verdict = sound(**receipt(three, "1.10", tax="0.10", rounding="0.01"))
    assert (verdict.tax, verdict.rounding, verdict.gross) == (10, 1, 110)


def test_printed_tax_of_a_line_counts() -> None:
    added = line("1", "0.20", tax_rate="13.5", tax="0.02", tax_included=False)  # 0.027
    included = line("1", "3.00", tax_rate="19", tax="0.47")  # 0.479
    assert computed(**receipt([added, included], "3.22")) == [(20, 2, 22, 0), (253, 47, 300, 0)]


def test_line_of_which_a_part_is_exempt_has_less_tax_than_its_rate_gives() -> None:
    part = line("1", "120.00", tax_rate="8.875", tax="0.89", tax_included=False)
    assert computed(**receipt([part], "120.89")) == [(12000, 89, 12089, 0)]


@pytest.mark.parametrize(("rate", "tax"), [("10", "0.13"), ("10", "-0.01"), ("0", "0.01")])
def test_line_with_more_tax_than_its_rate_gives_is_a_line_mismatch(rate: str, tax: str) -> None:
    wrong = line("1", "1.00", tax_rate=rate, tax=tax, tax_included=False)
    assert reason(**receipt([wrong], "1.13")) == (Reason.LINE_MISMATCH, "lines.0.tax: more_than_the_rate_gives")


def test_cash_rounding_must_be_stated_and_is_under_one_unit() -> None:
    assert sound(**receipt([line("1", "3.02")], "3.00", rounding="-0.02")).rounding == -2
    assert reason(**receipt([line("1", "3.02")], "3.00"))[0] is Reason.TOTALS_MISMATCH
    assert reason(**receipt([line("1", "3.02")], "4.02", rounding="1.00"))[0] is Reason.TOTALS_MISMATCH


def test_cash_rounding_of_small_units_is_up_to_five_percent() -> None:
    assert sound(currency="HUF", **receipt([line("1", "102.00")], "100.00", rounding="-2.00")).rounding == -200
    assert (
        reason(currency="HUF", **receipt([line("1", "22.00")], "20.00", rounding="-2.00"))[0] is Reason.TOTALS_MISMATCH
    )


@pytest.mark.parametrize("type_", ["return", "void"])
def test_return_stated_negative_has_the_wrong_sign(type_: str) -> None:
    assert reason(type=type_, **receipt([line("-1", "3.00")], "-3.00"))[0] is Reason.WRONG_SIGN
    sound(type="sale", **receipt([line("-1", "3.00")], "-3.00"))


def test_digits_beyond_any_context_are_not_rounded_away() -> None:
    assert reason(totals={"gross": "3." + "0" * 60 + "1"})[0] is Reason.INVALID_AMOUNT


@pytest.mark.parametrize("name", ["net", "tax"])
def test_net_and_tax_are_within_a_cent_per_line(name: str) -> None:
    printed = {"net": "2.53", "tax": "0.49"}
    sound(totals={"gross": "3.00", name: printed[name]})
    printed = {"net": "2.54", "tax": "0.50"}
    assert reason(totals={"gross": "3.00", name: printed[name]})[0] is Reason.TOTALS_MISMATCH


def test_tenders_of_another_sum_are_a_payment_mismatch() -> None:
    assert reason(tenders=[{"kind": "cash", "amount": "2.99"}])[0] is Reason.PAYMENT_MISMATCH


def test_change_is_a_negative_tender() -> None:
    sound(tenders=[{"kind": "cash", "amount": "5.00"}, {"kind": "cash", "amount": "-2.00"}])


def test_receipt_that_is_not_paid_has_no_tenders() -> None:
    assert sound(tenders=[]).tenders == []


money = st.decimals(Decimal("0.01"), Decimal("9999.99"), places=2)
quantities = st.decimals(Decimal("-5"), Decimal("99"), places=3)
rates = st.sampled_from(["0", "7", "19", "8.875", "5.5"])


@given(st.lists(st.tuples(quantities, money, rates, st.booleans()), min_size=1, max_size=6))
def test_amounts_equal_an_independent_computation(lines: list[tuple[Decimal, Decimal, str, bool]]) -> None:
    cent = Decimal("0.01")
    net = tax = Decimal(0)
    for quantity, price, rate, included in lines:
        amount = (quantity * price).quantize(cent, ROUND_HALF_UP)
        share = Decimal(rate) / 100
        own_net = (amount / (1 + share)).quantize(cent, ROUND_HALF_UP) if included else amount
        own_tax = amount - own_net if included else (amount * share).quantize(cent, ROUND_HALF_UP)
        net, tax = net + own_net, tax + own_tax
    plain = [
        {"sku": "A", "quantity": str(q), "unit_price": str(p), "tax_rate": r, "tax_included": i} for q, p, r, i in lines
    ]
    verdict = sound(**receipt(plain, str(net + tax)))
    assert (verdict.net, verdict.tax, verdict.gross) == (int(net * 100), int(tax * 100), int((net + tax) * 100))
    assert verdict.rounding == 0
