"""Which receipts add up, by the rules stated in `streams.checks`."""

from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from streams.batch import Rejection
from streams.checks import CheckedLine, CheckedReceipt, CheckFailed, check, check_receipt, gross_of_lines, rate_units
from streams.decode import decode
from tests.support.events import NOON, batch, value


def judge(**changes: Any) -> CheckedReceipt | Rejection:
    arrivals, rejections, _ = decode(batch(value(1, **changes)))
    assert not rejections
    sound, held = check(arrivals, NOON)
    return (sound + held)[0]


def reason(**changes: Any) -> tuple[Reason, str]:
    verdict = judge(**changes)
    assert isinstance(verdict, Rejection)
    return verdict.reason, verdict.detail


def sound(**changes: Any) -> CheckedReceipt:
    verdict = judge(**changes)
    assert isinstance(verdict, CheckedReceipt), verdict
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
def test_code_outside_iso_4217_is_an_unknown_currency(currency: str) -> None:
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


def test_receipt_that_is_not_right_is_held_with_its_event_and_keeps_nobody_back() -> None:
    arrivals, _, _ = decode(batch(value(1), value(2, lines=[]), value(3)))
    right, held = check(arrivals, NOON)
    assert [one.arrival.id for one in right] == ["pos:e-1", "pos:e-3"]
    (rejection,) = held
    assert (rejection.record.offset, rejection.stage, rejection.reason) == (1, "check", Reason.EMPTY_RECEIPT)
    assert rejection.detail == "lines: empty"
    assert rejection.event is arrivals[1].event


def test_repair_is_called_for_failed_receipts_only() -> None:
    arrivals, _, _ = decode(batch(value(1), value(2, lines=[]), value(3, currency="EUX")))
    asked: list[tuple[str, Reason]] = []

    def repair(arrival: Any, fault: CheckFailed) -> CheckedReceipt | None:
        asked.append((arrival.id, fault.reason))
        return check_receipt(arrivals[0]) if fault.reason is Reason.EMPTY_RECEIPT else None

    right, held = check(arrivals, NOON, repair)
    assert asked == [("pos:e-2", Reason.EMPTY_RECEIPT), ("pos:e-3", Reason.UNKNOWN_CURRENCY)]
    assert (len(right), [one.reason for one in held]) == (2, [Reason.UNKNOWN_CURRENCY])


def test_first_moment_of_2000_is_plausible() -> None:
    sound(occurred_at="2000-01-01T00:00:00Z")


def gross_of(lines: list[Any], currency: str) -> str:
    return gross_of_lines(lines, currency)


def test_fault_names_its_line() -> None:
    assert (
        reason(**receipt([line("1", "1"), line("1", "1", tax_rate="101")], "2.00"))[1]
        == "lines.1.tax_rate: out_of_range"
    )
    with pytest.raises(CheckFailed, match=r"lines\.1\.quantity: out_of_range"):
        gross_of([line("1", "1"), line("1e12", "1")], "EUR")


@pytest.mark.parametrize(("currency", "gross"), [("JPY", "8"), ("EUR", "7.60"), ("BHD", "7.600")])
def test_gross_of_lines_is_their_sum_in_the_currencys_places(currency: str, gross: str) -> None:
    lines = [line("2", "2.50"), line("1", "2.60")]
    assert gross_of(lines, currency) == gross
    with pytest.raises(CheckFailed, match="currency: not_in_iso_4217"):
        gross_of(lines, "EUX")


def test_details_of_a_receipt_that_is_not_right() -> None:
    assert reason(currency="EUX") == (Reason.UNKNOWN_CURRENCY, "currency: not_in_iso_4217")
    assert reason(occurred_at="1999-12-31T23:59:59Z")[1] == "occurred_at: out_of_range"
    assert reason(type="return", **receipt([line("-1", "3.00")], "-3.00"))[1] == "totals.gross: negative"
    assert reason(tenders=[{"kind": "cash", "amount": "3.01"}]) == (
        Reason.PAYMENT_MISMATCH, "tenders: sum_differs_from_gross",
    )  # fmt: skip
    assert reason(**receipt([line("1", "1", amount="1.50")], "1.50"))[1] == "lines.0.amount: differs_from_product"
    assert reason(**receipt([line("1e6", "1e6")], "1.00"))[1] == "lines.0: out_of_range"
    assert reason(**receipt([line("-1e6", "1e6")], "1.00"))[1] == "lines.0: out_of_range"
    assert reason(**receipt([line("1", "1e12")], "1.00"))[1] == "lines.0.unit_price: out_of_range"
    assert reason(totals={"gross": "3.00", "rounding": "0.001"})[1] == "totals.rounding: too_many_places"
    assert reason(totals={"gross": "3.00", "net": "0.001"})[1] == "totals.net: too_many_places"
    assert reason(**receipt([line("1", "1", tax="0.001")], "1.00"))[1] == "lines.0.tax: too_many_places"


def test_return_of_nothing_has_no_wrong_sign() -> None:
    assert sound(type="return", **receipt([line("1", "3.00"), line("-1", "3.00")], "0.00")).gross == 0


def test_amounts_at_the_limits_are_exact() -> None:
    assert sound(**receipt([line("1.123456", "1")], "1.12")).lines[0].quantity == Decimal("1.123456")
    assert sound(**receipt([line("999999.999999", "1000000")], "999999999999.00")).gross == 99999999999900
    assert sound(**receipt([line("1", "1.00", tax_rate="100")], "1.00")).tax == 50
    assert sound(**receipt([line("1", "1.00", tax_rate="0.0001")], "1.00")).tax == 0
    assert sound(**receipt([line("1e5", "10.00", tax_rate="7.1234", tax_included=False)], "1071234.00")).tax == 7123400


@pytest.mark.parametrize("cents", [-2, 2])
def test_printed_amount_may_differ_by_a_cent_and_half_the_last_place_of_its_price(cents: int) -> None:
    """3 × 0.33, of which each may be half a cent more or less: two cents and a half."""
    for sign in (1, -1):
        lines = [line(str(3 * sign), "0.33", amount=f"{Decimal(99 * sign + cents) / 100}")]
        gross = f"{Decimal(99 * sign + cents) / 100}"
        assert sound(**receipt(lines, gross)).gross == 99 * sign + cents
        further = f"{Decimal(99 * sign + cents // 2 * 3) / 100}"
        assert reason(**receipt([line(str(3 * sign), "0.33", amount=further)], further))[0] is Reason.LINE_MISMATCH


def test_tolerance_of_a_price_in_whole_hundreds_is_that_of_its_currency() -> None:
    assert sound(currency="JPY", **receipt([line("2", "1e2", amount="202")], "202")).gross == 202
    assert reason(currency="JPY", **receipt([line("2", "1e2", amount="203")], "203"))[0] is Reason.LINE_MISMATCH


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("tax", "included", "expected"),
    [
        ("0.12", False, (100, 12, 112)), ("0.00", False, (100, 0, 100)), ("0.10", False, (100, 10, 110)),
        ("0.11", True, (89, 11, 100)), ("0.00", True, (100, 0, 100)), ("0.09", True, (91, 9, 100)),
    ],
)  # fmt: skip
def test_printed_tax_of_a_line_is_within_the_price_or_on_top(
    sign: int, tax: str, included: bool, expected: tuple[int, int, int]
) -> None:
    printed = f"{sign * Decimal(tax)}"
    one = line(str(sign), "1.00", tax_rate="10", tax=printed, tax_included=included)
    net, tax_, gross = (sign * part for part in expected)
    assert computed(**receipt([one], f"{Decimal(gross) / 100}")) == [(net, tax_, gross, 0)]


def test_tax_on_top_that_the_rate_rounds_to_nothing_is_still_on_top() -> None:
    one = line("1", "0.04", tax_rate="10", tax="0.01", tax_included=False)
    assert computed(**receipt([one], "0.05")) == [(4, 1, 5, 0)]


@pytest.mark.parametrize(("tax", "included"), [("0.13", False), ("0.12", True), ("-0.13", False), ("-0.01", True)])
def test_printed_tax_is_two_cents_above_the_rates_at_most_and_of_its_sign(tax: str, included: bool) -> None:
    one = line("1", "1.00", tax_rate="10", tax=tax, tax_included=included)
    assert reason(**receipt([one], "1.00"))[1] == "lines.0.tax: more_than_the_rate_gives"


def test_cent_of_printed_tax_on_a_cent_given_back_is_of_the_wrong_sign() -> None:
    one = line("-1", "0.10", tax_rate="10", tax="0.01", tax_included=False)
    assert reason(**receipt([one], "-0.09"))[1] == "lines.0.tax: more_than_the_rate_gives"


@pytest.mark.parametrize(
    ("currency", "gross", "rounding"),
    [
        ("EUR", "20.00", "1.00"), ("EUR", "20.00", "-1.00"), ("EUR", "0.99", "0.99"), ("EUR", "5.00", "-0.99"),
        ("EUR", "-20.00", "1.00"), ("JPY", "20", "1"), ("BHD", "0.999", "0.999"),
    ],
)  # fmt: skip
def test_cash_rounding_is_under_one_unit_or_at_most_a_twentieth(currency: str, gross: str, rounding: str) -> None:
    amount = f"{Decimal(gross) - Decimal(rounding)}"
    found = sound(currency=currency, **receipt([line("1", amount)], gross, rounding=rounding))
    assert (found.rounding, found.gross) == tuple(int(Decimal(one).scaleb(found.digits)) for one in (rounding, gross))


@pytest.mark.parametrize(("gross", "rounding"), [("19.99", "1.00"), ("-19.99", "1.00"), ("19.99", "-1.00")])
def test_cash_rounding_of_a_unit_and_more_than_a_twentieth_is_too_large(gross: str, rounding: str) -> None:
    amount = f"{Decimal(gross) - Decimal(rounding)}"
    assert reason(**receipt([line("1", amount)], gross, rounding=rounding))[1] == "totals.rounding: too_large"


def test_net_of_several_lines_is_within_a_cent_for_each_and_tax_is_exact() -> None:
    lines = [line("1", "1.19", tax_rate="19")] * 2
    for net in ("1.98", "2.02"):
        sound(**receipt(lines, "2.38", net=net, tax="0.38"))
    for net in ("1.97", "2.03"):
        assert reason(**receipt(lines, "2.38", net=net, tax="0.38"))[1] == "totals.net: differs_from_lines"
    untaxed = [line("1", "1.00")] * 2
    for tax in ("0.01", "-0.01"):
        assert reason(**receipt(untaxed, "2.00", tax=tax))[1] == "totals.tax: differs_from_lines"


def test_tax_that_no_lines_can_take_changes_none() -> None:
    three = [line("1", "0.33", tax_rate="10", tax_included=False)] * 3
    assert reason(**receipt(three, "1.09", tax="0.13"))[1] == "totals.gross: differs_from_lines"
    free = [line("1", "1.00", tax_rate="10", discounts=[{"amount": "1.00"}]), line("1", "1.00", tax_rate="0")]
    assert reason(**receipt(free, "1.00", tax="0.01"))[1] == "totals.tax: differs_from_lines"


def with_slack(slack: str, **changes: Any) -> CheckedReceipt | str:
    (arrival,) = decode(batch(value(1, **changes)))[0]
    try:
        return check_receipt(arrival, Decimal(slack))
    except CheckFailed as fault:
        return fault.detail


@pytest.mark.parametrize(("currency", "places"), [("EUR", 2), ("BHD", 3)])
def test_totals_may_differ_by_the_slack_and_no_more(currency: str, places: int) -> None:
    unit = Decimal(1).scaleb(-places)
    for sign in (1, -1):
        gross, beyond = 3 + sign * Decimal("0.05"), 3 + sign * (Decimal("0.05") + unit)
        within = with_slack("0.05", currency=currency, **receipt([line("1", "3.00")], str(gross)))
        assert isinstance(within, CheckedReceipt)
        assert within.rounding == sign * Decimal("0.05").scaleb(places)
        assert with_slack("0.05", currency=currency, **receipt([line("1", "3.00")], str(beyond))) == (
            "totals.gross: differs_from_lines"
        )


@pytest.mark.parametrize("name", ["net", "tax"])
def test_net_and_tax_may_differ_by_a_cent_per_line_and_the_slack(name: str) -> None:
    base = {"net": 252, "tax": 48}[name]
    for cents in (6, -6):
        totals = {"gross": "3.00", "net": "2.52", "tax": "0.48", name: str(Decimal(base + cents) / 100)}
        assert isinstance(with_slack("0.05", totals=totals), CheckedReceipt)
        totals[name] = str(Decimal(base + cents + cents // 6) / 100)
        assert with_slack("0.05", totals=totals) == f"totals.{name}: differs_from_lines"


def above(one: CheckedLine) -> Fraction:
    """By how much a line's tax is above what its rate gives."""
    rate = Fraction(one.sale_line["tax_rate"])
    share = rate / 100 if not one.sale_line.get("tax_included", True) else rate / (100 + rate)
    return one.tax - (one.net if not one.sale_line.get("tax_included", True) else one.gross) * share


taxed_lines = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["0", "7", "10", "19"]), st.booleans()), min_size=1, max_size=6
)


@given(taxed_lines, st.booleans(), st.data())
def test_difference_of_printed_tax_goes_to_the_lines_rounded_furthest_the_other_way(
    lines: list[tuple[int, str, bool]], says_net: bool, data: st.DataObject
) -> None:
    plain = [line("1", f"{Decimal(c) / 100}", tax_rate=rate, tax_included=included) for c, rate, included in lines]
    plainly = [sound(**receipt([one], gross_of([one], "EUR"))).lines[0] for one in plain]
    able = [one.sale_line.get("tax_included") for one in plainly if one.tax_rate and one.gross]
    on_top = data.draw(st.integers(-able.count(False), able.count(False)))
    within = data.draw(st.integers(-able.count(True), able.count(True)))
    gross = sum(one.gross for one in plainly) + on_top
    tax = sum(one.tax for one in plainly) + on_top + within
    totals = {"net": f"{Decimal(gross - tax) / 100}"} if says_net else {"tax": f"{Decimal(tax) / 100}"}
    verdict = judge(**receipt(plain, f"{Decimal(gross) / 100}", **totals))
    assert isinstance(verdict, CheckedReceipt), verdict
    assert (verdict.gross, verdict.tax, verdict.net, verdict.rounding) == (gross, tax, gross - tax, 0)
    assert all(one.net + one.tax == one.gross for one in verdict.lines)
    for difference, included in ((on_top, False), (within, True)):
        pairs = [
            (before, after)
            for before, after in zip(plainly, verdict.lines, strict=True)
            if before.sale_line.get("tax_included") is included
        ]
        changed = [before for before, after in pairs if after.tax != before.tax]
        step = 1 if difference > 0 else -1
        assert [after.tax - before.tax for before, after in pairs if after.tax != before.tax] == [step] * abs(
            difference
        )
        assert all((after.gross if included else after.net) == (before.gross if included else before.net)
                   for before, after in pairs)  # fmt: skip
        order = sorted(step * above(before) for before, _ in pairs if before.tax_rate and before.gross)
        assert sorted(step * above(one) for one in changed) == order[: abs(difference)]


def test_field_that_a_receipt_does_not_have_cannot_be_set_by_mistake() -> None:
    found = sound()
    parts: list[Any] = [found, found.lines[0]]
    for one in parts:
        with pytest.raises(AttributeError):
            one.discounts = 1


@pytest.mark.parametrize(
    ("prices", "included", "gross", "tax", "taxes"),
    [
        (("0.91", "1.30"), True, "2.21", "0.25", [16, 9]),  # 14.53 is rounded up by 0.47, 8.50 by 0.50
        (("0.91", "1.30"), True, "2.21", "0.23", [15, 8]),
        (("0.50", "1.36"), False, "2.07", "0.21", [10, 11]),  # 9.50 is rounded up by 0.50, 9.52 by 0.48
        (("0.50", "1.36"), False, "2.05", "0.19", [9, 10]),
    ],
)
def test_cent_of_tax_goes_by_what_each_lines_own_rate_gives(
    prices: tuple[str, str], included: bool, gross: str, tax: str, taxes: list[int]
) -> None:
    rates = ("19", "7")
    lines = [line("1", price, tax_rate=r, tax_included=included) for price, r in zip(prices, rates, strict=True)]
    assert [one.tax for one in sound(**receipt(lines, gross, tax=tax)).lines] == taxes


def test_receipts_share_lines_that_say_the_same() -> None:
    assert sound().lines[0] is sound(receipt="2").lines[0]
    assert sound().lines[0] is not sound(currency="USD", lines=[line("2", "1.50", tax_rate="19")]).lines[0]


def test_cache_of_rates_is_bounded() -> None:
    for number in range(300):
        rate_units(f"{number / 10:.4f}")
    assert rate_units.cache_info().currsize < 300
