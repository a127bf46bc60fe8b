"""POSLog as tills of several makers write it: every receipt is exact to the cent, and other records are skipped."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import ContractExample
from schemas.document import ErpDocument
from schemas.store import Store, Stores
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.sources.contracts import find_contract
from streams.sources.source import RefusedRecord, SkippedPart, Source, load_source
from tests.support.events import FakeRecord

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "samples" / "poslog" / "small.xml"
NAMESPACE = 'xmlns="http://www.nrf-arts.org/IXRetail/namespace/"'
NOW = datetime(2026, 6, 1, tzinfo=UTC)
STORES = Stores({}, Store(timezone="Europe/Stockholm"))


@cache
def source() -> Source:
    return load_source(find_contract("poslog"), lambda _: ZoneInfo("Europe/Stockholm"))


class Outcome:
    """Return the outcome of a record."""

    def __init__(self, value: bytes | str) -> None:
        raw = value if isinstance(value, bytes) else value.encode()
        arrivals, rejected, noted = decode(Batch("pos.sales", 0, [FakeRecord(0, raw)]), source())
        sound, unsound = check(arrivals, NOW)
        documents, _ = to_documents(sound, STORES)
        self.documents: list[ErpDocument] = documents
        self.rejected = [f"{rejection.reason.value}: {rejection.detail}" for rejection in [*rejected, *unsound]]
        self.skipped = [note.why for note in noted]

    @property
    def document(self) -> ErpDocument:
        """The only one."""
        assert not self.rejected
        assert len(self.documents) == 1
        return self.documents[0]


def money(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def log(*transactions: str, namespace: str = NAMESPACE) -> str:
    return f"<POSLog {namespace}>{''.join(transactions)}</POSLog>"


def transaction(
    content: str, sequence: int = 7, head: str = "<RetailStoreID>9</RetailStoreID>", attributes: str = ""
) -> str:
    return (
        f"<Transaction {attributes}>{head}<WorkstationID>3</WorkstationID><SequenceNumber>{sequence}</SequenceNumber>"
        "<BusinessDayDate>2026-03-10</BusinessDayDate><EndDateTime>2026-03-10T12:31:05</EndDateTime>"
        f"<OperatorID>44</OperatorID><CurrencyCode>EUR</CurrencyCode>{content}</Transaction>"
    )


def retail(*items: str, total: str, tax: str | None = None, attributes: str = "") -> str:
    lines = "".join(
        f"<LineItem {flags}><SequenceNumber>{number}</SequenceNumber>{item}</LineItem>"
        for number, (item, _, flags) in enumerate(item.partition("¦") for item in items)
    )
    taxes = f'<Total TotalType="TransactionTaxAmount">{tax}</Total>' if tax is not None else ""
    return (
        f"<RetailTransaction {attributes}>{lines}"
        f'<Total TotalType="TransactionGrandAmount">{total}</Total>{taxes}</RetailTransaction>'
    )


def item(amount: str, price: str, quantity: str = "1", more: str = "", kind: str = "Sale", sku: str = "100") -> str:
    return (
        f"<{kind}><ItemID>{sku}</ItemID><Description>Thing</Description>"
        f"<RegularSalesUnitPrice>{price}</RegularSalesUnitPrice><ExtendedAmount>{amount}</ExtendedAmount>"
        f"<Quantity>{quantity}</Quantity>{more}</{kind}>"
    )


def tender(amount: str, kind: str = "Cash", more: str = "", code: str = "Sale") -> str:
    return f'<Tender TenderType="{kind}" TypeCode="{code}"><Amount>{amount}</Amount>{more}</Tender>'


def tax(percent: str, amount: str, taxable: str, included: str = "false") -> str:
    return (
        f'<Tax TaxType="VAT"><TaxableAmount TaxIncludedInTaxableAmountFlag="{included}">{taxable}</TaxableAmount>'
        f"<Amount>{amount}</Amount><Percent>{percent}</Percent></Tax>"
    )


def change(amount: str) -> str:
    return f"<TenderChange><Amount>{amount}</Amount></TenderChange>"


def sold(*items: str, total: str, **how: Any) -> ErpDocument:
    """The document of one sale paid by card."""
    return Outcome(log(transaction(retail(*items, tender(total, "CreditDebit"), total=total, **how)))).document


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs ../shared/data/samples/poslog")
def test_real_file_goes_through_to_the_cent() -> None:
    outcome = Outcome(SAMPLE.read_bytes())
    assert outcome.skipped == ["control_transaction"]
    document = outcome.document
    assert (document.gross, document.tax) == (Decimal("1.07"), 0)
    assert [line.gross for line in document.lines] == money("1.26", "-0.19")
    assert document.lines[0].quantity == Decimal("0.42")
    assert document.receipt == "2017-09-30-161"


def test_several_transactions_of_one_document_are_one_event_each() -> None:
    outcome = Outcome(
        log(
            transaction("<ControlTransaction><OperatorSignOn/></ControlTransaction>", 1),
            transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00"), 2),
            transaction(retail(item("2.00", "2.00"), tender("2.00"), total="2.00"), 3),
        )
    )
    assert outcome.skipped == ["control_transaction"]
    assert [(document.receipt, document.gross) for document in outcome.documents] == [
        ("2026-03-10-2", Decimal("1.00")),
        ("2026-03-10-3", Decimal("2.00")),
    ]


def test_bare_transaction_is_a_document() -> None:
    assert Outcome(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00"))).document.gross == 1


@pytest.mark.parametrize(
    "namespace",
    [
        "",
        'xmlns="http://www.nrf-arts.org/IXRetail/namespace/" MajorVersion="6" MinorVersion="0" FixVersion="0"',
        'xmlns="urn:something"',
    ],
)
def test_namespaces_do_not_matter(namespace: str) -> None:
    text = log(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00")), namespace=namespace)
    assert Outcome(text).document.gross == 1


def test_prefixes_do_not_matter() -> None:
    text = log(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00")), namespace="")
    prefixed = text.replace("</", "\0").replace("<", "<p:").replace("\0", "</p:")
    assert Outcome(prefixed.replace("<p:POSLog ", '<p:POSLog xmlns:p="urn:p" ')).document.gross == 1


def test_store_of_version_6_is_its_business_unit() -> None:
    head = '<BusinessUnit><UnitID TypeCode="RetailStore">0140</UnitID></BusinessUnit>'
    text = log(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00"), head=head))
    assert Outcome(text).document.store == "0140"


def test_receipts_of_two_days_with_one_sequence_number_are_two() -> None:
    one = log(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00")))
    assert Outcome(one).document.external_ref == "poslog/9/3/2026-03-10-7/sale"
    other = one.replace("<BusinessDayDate>2026-03-10", "<BusinessDayDate>2026-03-11")
    assert Outcome(other).document.external_ref == "poslog/9/3/2026-03-11-7/sale"


def test_local_time_is_the_stores() -> None:
    assert sold(item("1.00", "1.00"), total="1.00").occurred_at == datetime(2026, 3, 10, 11, 31, 5, tzinfo=UTC)


def test_time_with_an_offset_is_kept() -> None:
    text = log(transaction(retail(item("1.00", "1.00"), tender("1.00"), total="1.00")))
    outcome = Outcome(text.replace("T12:31:05<", "T12:31:05-05:00<"))
    assert outcome.document.occurred_at == datetime(2026, 3, 10, 17, 31, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attributes", "content", "why"),
    [
        ('TrainingModeFlag="true"', retail(item("1.00", "1.00"), total="1.00"), "training"),
        ('CancelFlag="true"', retail(item("1.00", "1.00"), total="1.00"), "cancelled"),
        ("", retail(item("1.00", "1.00"), total="1.00", attributes='TransactionStatus="Voided"'), "cancelled"),
        ("", retail(item("1.00", "1.00"), total="1.00", attributes='TransactionStatus="Suspended"'), "suspended"),
        ("", "<TenderControlTransaction/>", "tender_control_transaction"),
        ("", "<InventoryControlTransaction/>", "inventory_transaction"),
        ("", "<RetailTransaction/>", "no_items"),
        ('VoidFlag="true"', retail(item("1.00", "1.00"), total="1.00"), "cancelled"),
        (
            "",
            retail(item("1.00", "1.00"), total="1.00", attributes='TransactionStatus="SuspendedRetrieved"'),
            "suspended",
        ),
        ("", retail(item("1.00", "1.00"), total="1.00", attributes='TrainingModeFlag="true"'), "training"),
        ("", "<SuspendedTransaction/>", "suspended"),
        ("", "<TransactionVoid/>", "cancelled"),
        ("", "<NoSale/>", "no_sale"),
        ('TransactionType="NoSale"', "<RetailTransaction/>", "no_sale"),
    ],
)
def test_non_sales_are_skipped_with_a_reason(attributes: str, content: str, why: str) -> None:
    outcome = Outcome(log(transaction(content, attributes=attributes)))
    assert (outcome.skipped, outcome.documents, outcome.rejected) == ([why], [], [])


def test_unknown_kind_of_transaction_is_a_dead_letter_not_a_loss() -> None:
    assert Outcome(log(transaction("<ForeCourtTransaction/>"))).rejected == ["unplaced_record: kinds: none_fits"]


def test_voided_line_is_left_out() -> None:
    document = sold(item("1.00", "1.00"), item("5.00", "5.00") + '¦VoidFlag="true"', total="1.00")
    assert [line.gross for line in document.lines] == money("1.00")


def test_voided_tender_is_left_out() -> None:
    text = retail(item("1.00", "1.00"), tender("1.00") + '¦VoidFlag="1"', tender("1.00", "CreditDebit"), total="1.00")
    assert [payment.kind for payment in Outcome(log(transaction(text))).document.payments] == ["CreditDebit"]


@pytest.mark.parametrize("where", ["in the tender", "in a tender of its own", "in a line of its own"])
def test_change_is_a_negative_payment(where: str) -> None:
    items = {
        "in the tender": [tender("20.00", more=change("12.50"))],
        "in a tender of its own": [tender("20.00"), tender("0", more=change("12.50"))],
        "in a line of its own": [tender("20.00"), change("12.50")],
    }[where]
    document = Outcome(log(transaction(retail(item("7.50", "7.50"), *items, total="7.50")))).document
    assert [payment.amount for payment in document.payments if payment.amount] == money("20.00", "-12.50")
    assert {payment.kind for payment in document.payments} == {"Cash"}


def test_two_tenders_are_two_payments() -> None:
    text = retail(item("7.50", "7.50"), tender("5.00", "Voucher"), tender("2.50"), total="7.50")
    payments = Outcome(log(transaction(text))).document.payments
    assert [(payment.kind, payment.amount) for payment in payments] == [
        ("Voucher", Decimal("5.00")),
        ("Cash", Decimal("2.50")),
    ]


def paid(*items: str, total: str, lines: tuple[str, ...] = (), **how: Any) -> ErpDocument:
    """The document of one sale with these tenders and such."""
    return Outcome(log(transaction(retail(*lines, *items, total=total, **how)))).document


def amounts_of(document: ErpDocument) -> list[Decimal]:
    return [payment.amount for payment in document.payments if payment.amount]


@pytest.mark.parametrize("where", ["in it", "in a line of its own", "nowhere"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_change_that_is_a_negative_tender_counts_once(where: str, sign: str) -> None:
    stated = change(f"{sign}2.62")
    back = {"in it": [tender("-2.62", more=stated)], "in a line of its own": [tender("-2.62"), stated]}
    document = paid(
        tender("20.00"), *back.get(where, [tender("-2.62")]), total="17.38", lines=(item("17.38", "17.38"),)
    )
    assert amounts_of(document) == money("20.00", "-2.62")


def test_change_that_is_taken_off_its_tender_already_does_not_count() -> None:
    document = paid(tender("17.38", more=change("2.62")), total="17.38", lines=(item("17.38", "17.38"),))
    assert amounts_of(document) == money("17.38")


@pytest.mark.parametrize("how", ["negative tender", "both", "cashback alone"])
def test_cash_that_a_card_paid_out_counts_once(how: str) -> None:
    card = tender("89.34", "CreditDebit", "<Cashback>20.00</Cashback>" if how != "negative tender" else "")
    out = [] if how == "cashback alone" else [tender("-20.00", more=change("-20.00"))]
    document = paid(card, *out, total="69.34", lines=(item("69.34", "69.34"),))
    assert [(payment.kind, payment.amount) for payment in document.payments] == [
        ("CreditDebit", Decimal("89.34")),
        ("Cash", Decimal("-20.00")),
    ]


def test_tenders_that_come_to_another_sum_are_a_dead_letter() -> None:
    text = retail(item("7.50", "7.50"), tender("20.00"), tender("-12.00", more=change("-12.00")), total="7.50")
    assert Outcome(log(transaction(text))).rejected == ["payment_mismatch: tenders: sum_differs_from_gross"]


def test_refund_with_a_tender_the_other_way_is_exact() -> None:
    back = item("8.00", "4.00", "2", kind="Return")
    text = retail(back, tender("10.00", code="Refund"), tender("2.00"), total="-8.00")
    assert amounts_of(Outcome(log(transaction(text))).document) == money("-10.00", "2.00")


VOID = '¦VoidFlag="true"'


@pytest.mark.parametrize(
    "lines",
    [
        (item("5.00", "5.00") + VOID,),
        (item("5.00", "5.00"), item("-5.00", "5.00", "-1") + VOID),
        (item("5.00", "5.00") + VOID, item("-5.00", "5.00", "-1") + VOID),
        (item("5.00", "5.00"), item("5.00", "5.00", "-1") + VOID),
    ],
    ids=["the original is marked", "what takes it back is marked", "both are marked", "its quantity alone is negative"],
)
def test_void_line_counts_for_nothing_whichever_is_marked(lines: tuple[str, ...]) -> None:
    document = sold(item("1.00", "1.00", sku="1"), *lines, total="1.00")
    assert [(line.sku, line.gross) for line in document.lines] == [("1", Decimal("1.00"))]


def test_void_line_takes_back_one_of_several() -> None:
    twice = (item("5.00", "5.00"), item("5.00", "5.00"), item("-5.00", "5.00", "-1") + VOID)
    assert [line.gross for line in sold(*twice, total="5.00").lines] == money("5.00")


def test_void_line_takes_back_the_marked_one_first() -> None:
    lines = (item("5.00", "5.00"), item("5.00", "5.00") + VOID, item("-5.00", "5.00", "-1") + VOID)
    assert [line.gross for line in sold(*lines, total="5.00").lines] == money("5.00")


def test_void_line_that_takes_back_a_part_stays() -> None:
    document = sold(item("6.00", "2.00", "3"), item("-2.00", "2.00", "-1") + VOID, total="4.00")
    assert [(line.quantity, line.gross) for line in document.lines] == [(3, Decimal("6.00")), (-1, Decimal("-2.00"))]


def test_void_line_with_tax_and_another_s_discount() -> None:
    lines = (
        item("8.00", "5.00", "2", modifier("2.00"), sku="1"),
        item("4.40", "2.99", "1.47"),
        item("-4.40", "2.99", "-1.47") + VOID,
    )
    document = sold(*lines, tax("10", "0.80", "8.00"), total="8.80", tax="0.80")
    assert [(line.sku, line.gross) for line in document.lines] == [("1", Decimal("8.80"))]


@pytest.mark.parametrize(
    "tenders",
    [
        (tender("9.00") + VOID, tender("1.00", "CreditDebit")),
        (tender("9.00"), tender("-9.00") + VOID, tender("1.00", "CreditDebit")),
        (tender("9.00") + VOID, tender("-9.00") + VOID, tender("1.00", "CreditDebit")),
    ],
)
def test_void_tender_counts_for_nothing_whichever_is_marked(tenders: tuple[str, ...]) -> None:
    document = paid(*tenders, total="1.00", lines=(item("1.00", "1.00"),))
    assert [payment.kind for payment in document.payments] == ["CreditDebit"]


def test_receipt_with_only_void_lines_is_not_a_sale() -> None:
    text = retail(item("5.00", "5.00"), item("-5.00", "5.00", "-1") + VOID, total="0.00")
    assert Outcome(log(transaction(text))).skipped == ["no_items"]


@pytest.mark.parametrize("amount", ["-2.00", "2.00"])
def test_negative_item_is_taken_back(amount: str) -> None:
    bottle = item(amount, "2.00", sku="BOTTLE").replace("<Sale>", '<Sale ItemType="x:NegativeItem">')
    document = sold(bottle, item("6.29", "6.29"), total="4.29")
    assert [(line.quantity, line.unit_price, line.gross) for line in document.lines] == [
        (Decimal(-1), Decimal(2), Decimal("-2.00")),
        (Decimal(1), Decimal("6.29"), Decimal("6.29")),
    ]


def test_void_negative_item_counts_for_nothing() -> None:
    bottle = item("-2.00", "2.00", sku="BOTTLE").replace("<Sale>", '<Sale ItemType="x:NegativeItem">')
    document = sold(item("6.29", "6.29"), bottle, bottle.replace("-2.00", "2.00") + VOID, total="6.29")
    assert [line.gross for line in document.lines] == money("6.29")


@pytest.mark.parametrize("name", ["StoredValueFund", "GiftCertificate", "Deposit", "PaymentOnAccount", "Donation"])
def test_items_that_are_not_goods_are_lines_without_tax(name: str) -> None:
    other = f"<{name}><Amount>25.00</Amount></{name}>"
    document = sold(item("10.00", "10.00"), other, tax("10", "1.00", "10.00"), total="36.00", tax="1.00")
    assert [(line.sku, line.gross, line.tax) for line in document.lines] == [
        ("100", Decimal("11.00"), Decimal("1.00")),
        (name, Decimal("25.00"), Decimal(0)),
    ]


def test_gift_card_that_is_an_item_has_no_tax_of_the_whole() -> None:
    card = item("25.00", "25.00", sku="CARD").replace("<Sale>", '<Sale ItemType="GiftCertificate">')
    document = sold(item("10.00", "10.00"), card, tax("10", "1.00", "10.00"), total="36.00", tax="1.00")
    assert [line.tax for line in document.lines] == money("1.00", "0")


def rounded(amount: str, total: str, *items: str) -> ErpDocument:
    text = retail(*items, total=total).replace(
        "</RetailTransaction>", f'<Total TotalType="RoundingAmount">{amount}</Total></RetailTransaction>'
    )
    return Outcome(log(transaction(text))).document


def test_cash_rounding_in_the_grand_total_is_rounding() -> None:
    document = rounded("-0.02", "19.95", item("19.97", "19.97"), tender("19.95"))
    assert (document.net, document.rounding, document.gross) == tuple(money("19.97", "-0.02", "19.95"))


def test_cash_rounding_after_the_grand_total_is_rounding() -> None:
    document = rounded("-0.02", "19.97", item("19.97", "19.97"), tender("20.00"), tender("-0.05"))
    assert (document.net, document.rounding, document.gross) == tuple(money("19.97", "-0.02", "19.95"))


def test_cash_rounding_of_a_return_is_rounding_the_other_way() -> None:
    back = item("19.97", "19.97", kind="Return")
    document = rounded("0.02", "-19.95", back, tender("19.95", code="Refund"))
    assert (document.net, document.rounding, document.gross) == tuple(money("-19.97", "0.02", "-19.95"))


def test_tax_of_the_whole_is_booked_as_printed_and_not_as_rounding() -> None:
    lines = [item(price, price) for price in ("3.99", "2.19", "7.79")]
    document = sold(*lines, tax("10.1", "1.42", "13.97"), total="15.39", tax="1.42")  # by lines 0.40 + 0.22 + 0.79
    assert (document.net, document.tax, document.rounding) == tuple(money("13.97", "1.42", "0"))
    assert sum(line.tax for line in document.lines) == document.tax


@given(st.lists(st.integers(1, 9_999), min_size=1, max_size=12), st.sampled_from(["10.1", "8.875", "7"]))
def test_tax_of_any_receipt_is_the_printed_one(prices: list[int], percent: str) -> None:
    net = Decimal(sum(prices)) / 100
    printed = (net * Decimal(percent) / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)
    lines = [item(str(Decimal(price) / 100), str(Decimal(price) / 100)) for price in prices]
    document = sold(*lines, tax(percent, str(printed), str(net)), total=str(net + printed), tax=str(printed))
    assert (document.tax, document.rounding, document.gross) == (printed, 0, net + printed)


def test_printed_taxes_of_two_rates_are_each_booked_as_printed() -> None:
    one = "<x:Itemizers xmlns:x='urn:x' Tax1='true'/>"
    two = "<x:Itemizers xmlns:x='urn:x' Tax2='true'/>"
    low = tax("7", "0.07", "1.00").replace("<Tax ", "<Tax TaxID='1' ")
    high = tax("19", "0.19", "1.00").replace("<Tax ", "<Tax TaxID='2' ")
    lines = [item("0.50", "0.50", more=more) for more in (one, one, two, two)]  # 0.035 and 0.095 each
    document = sold(low, high, *lines, total="2.26", tax="0.26")
    assert [(taxes.tax_rate, taxes.tax) for taxes in document.taxes] == [
        (Decimal(7), Decimal("0.07")),
        (Decimal(19), Decimal("0.19")),
    ]


@pytest.mark.parametrize("where", ["line", "whole"])
def test_tax_that_is_printed_as_nothing_is_an_exemption(where: str) -> None:
    none = tax("8", "0.00", "50.00")
    items = [item("50.00", "50.00", more=none)] if where == "line" else [item("50.00", "50.00"), none]
    document = sold(*items, total="50.00", tax="0.00")
    assert (document.lines[0].tax_rate, document.tax, document.gross) == (0, 0, Decimal("50.00"))


def test_exchange_that_pays_out_has_its_taxes_and_tenders() -> None:
    lines = (
        item("11.90", "11.90", more=tax("19", "1.90", "10.00")),
        item("23.80", "23.80", more=tax("19", "3.80", "20.00"), kind="Return"),
    )
    document = paid(tender("11.90", code="Refund"), total="-11.90", tax="-1.90", lines=lines)
    assert (document.kind, document.net, document.tax, document.gross) == (
        "invoice",
        *money("-10.00", "-1.90", "-11.90"),
    )
    assert amounts_of(document) == money("-11.90")


@pytest.mark.parametrize("flag", ['VoidFlag="true"', 'VoidFlag="1"', 'CancelFlag="true"'])
def test_mark_may_be_in_the_line(flag: str) -> None:
    void = item("5.00", "5.00").replace("<Sale>", f"<Sale {flag}>")
    assert [line.gross for line in sold(item("1.00", "1.00"), void, total="1.00").lines] == money("1.00")


def test_printed_tax_of_a_line_is_booked_as_printed() -> None:
    both = tax("6.25", "0.02", "0.26") + tax("2.5", "0.01", "0.26")  # 8.75 % of 0.26 is 0.02
    document = sold(item("0.26", "0.26", more=both), total="0.29", tax="0.03")
    assert (document.lines[0].tax_rate, document.tax, document.rounding) == (Decimal("8.75"), Decimal("0.03"), 0)


def test_rate_of_a_printed_tax_without_a_percentage_is_a_round_one() -> None:
    bare = tax("", "1.00", "9.95").replace("<Percent></Percent>", "")
    document = sold(item("9.95", "9.95"), bare, total="10.95", tax="1.00")
    assert (document.lines[0].tax_rate, document.tax) == (Decimal(10), Decimal("1.00"))


def test_tax_without_a_percentage_that_fits_many_is_a_dead_letter() -> None:
    bare = tax("", "0.02", "0.10").replace("<Percent></Percent>", "")
    text = retail(item("0.10", "0.10"), bare, tender("0.12"), total="0.12", tax="0.02")
    assert Outcome(log(transaction(text))).rejected == ["uncertain_tax_rate: taxes.0.rate: not_stated"]


def test_discount_on_the_whole_has_the_rate_of_all_lines() -> None:
    deduction = "<Discount><Amount>1.19</Amount></Discount>"
    line = item("11.90", "11.90", more=tax("19", "1.90", "10.00"))
    document = sold(line, deduction, total="10.71", tax="1.71")
    assert (document.net, document.tax, document.gross) == tuple(money("9.00", "1.71", "10.71"))


def test_rewards_of_lines_and_of_the_whole_count_once() -> None:
    def reward(level: str, amount: str, flags: str) -> str:
        return (
            f"<LoyaltyReward {flags}><PromotionID>7</PromotionID><RewardLevel>{level}</RewardLevel>"
            f"<RewardCategory>Monetary</RewardCategory><ExtendedRewardAmount>{amount}</ExtendedRewardAmount></LoyaltyReward>"
        )

    rewards = (
        reward("Item", "-1.00", 'detailedData="true" summarizedActivity="true"'),
        reward("Transaction", "-0.60", 'detailedData="true"'),
        reward("Transaction", "-0.30", 'detailedData="true"'),
        reward("Transaction", "-0.90", 'summarizedActivity="true"'),
    )
    document = sold(item("7.00", "7.00"), item("3.00", "3.00"), *rewards, total="8.10")
    assert [line.gross for line in document.lines] == money("7.00", "3.00", "-1.00", "-0.60", "-0.30")


def test_tax_of_a_line_in_its_price() -> None:
    document = sold(item("11.90", "11.90", more=tax("19", "1.90", "10.00")), total="11.90", tax="1.90")
    assert (document.net, document.tax, document.gross) == tuple(money("10.00", "1.90", "11.90"))


def test_tax_of_a_line_on_top() -> None:
    document = sold(item("10.00", "10.00", more=tax("19", "1.90", "10.00")), total="11.90", tax="1.90")
    assert (document.net, document.tax, document.gross) == tuple(money("10.00", "1.90", "11.90"))


def test_tax_without_a_total_is_that_of_the_lines() -> None:
    document = sold(item("10.00", "10.00", more=tax("19", "1.90", "10.00")), total="11.90")
    assert (document.net, document.tax) == tuple(money("10.00", "1.90"))


def test_taxes_of_two_authorities_add_up() -> None:
    both = tax("4", "0.40", "10.00") + tax("4.25", "0.43", "10.00")
    document = sold(item("10.00", "10.00", more=both), total="10.83", tax="0.83")
    assert (document.lines[0].tax_rate, document.tax) == (Decimal("8.25"), Decimal("0.83"))


def test_tax_of_the_whole_receipt_is_on_all_its_lines() -> None:
    document = sold(
        item("6.00", "3.00", "2"), item("4.00", "4.00"), tax("10", "1.00", "10.00"), total="11.00", tax="1.00"
    )
    assert [line.tax for line in document.lines] == money("0.60", "0.40")


def test_tax_of_the_whole_receipt_is_on_the_lines_that_are_marked_for_it() -> None:
    taxed = "<x:Itemizers xmlns:x='urn:x' Tax1='true'>9</x:Itemizers>"
    free = "<x:Itemizers xmlns:x='urn:x'>1</x:Itemizers>"
    levy = tax("10", "0.60", "6.00").replace("<Tax ", "<Tax xmlns:x='urn:x' x:TaxID='1' ")
    document = sold(levy, item("6.00", "6.00", more=taxed), item("4.00", "4.00", more=free), total="10.60", tax="0.60")
    assert [line.tax for line in document.lines] == money("0.60", "0")


def test_item_that_is_not_taxable_has_no_tax() -> None:
    free = item("4.00", "4.00").replace("<Sale>", '<Sale TaxableFlag="false">')
    document = sold(item("6.00", "6.00"), free, tax("10", "0.60", "6.00"), total="10.60", tax="0.60")
    assert [line.tax for line in document.lines] == money("0.60", "0")


def modifier(amount: str, action: str = "Subtract", more: str = "") -> str:
    return (
        '<RetailPriceModifier MethodCode="Promotion"><SequenceNumber>1</SequenceNumber>'
        f'<Amount Action="{action}">{amount}</Amount><ReasonCode>P1</ReasonCode>{more}</RetailPriceModifier>'
    )


def test_discount_that_the_extended_amount_has_taken_off() -> None:
    document = sold(item("8.00", "5.00", "2", modifier("2.00")), total="8.00")
    line = document.lines[0]
    assert (line.unit_price, line.discount, line.gross) == tuple(money("5.00", "2.00", "8.00"))


def test_discount_that_still_comes_off_the_extended_amount() -> None:
    document = sold(item("10.00", "5.00", "2", modifier("1.50") + modifier("0.50")), total="8.00")
    line = document.lines[0]
    assert (line.unit_price, line.discount, line.gross) == tuple(money("5.00", "2.00", "8.00"))


def test_discount_that_is_given_as_the_lines_discount_amount() -> None:
    more = "<ExtendedDiscountAmount>27.05</ExtendedDiscountAmount>" + modifier("27.05")
    line = sold(item("159.00", "159.00", more=more), total="131.95").lines[0]
    assert (line.discount, line.gross) == tuple(money("27.05", "131.95"))


def test_price_that_is_replaced_is_the_price() -> None:
    more = "<ActualSalesUnitPrice>0.5</ActualSalesUnitPrice>" + modifier("0.5", "Replace")
    line = sold(item("1", "0.6", "2", more), total="1").lines[0]
    assert (line.unit_price, line.discount, line.gross) == tuple(money("0.5", "0", "1.00"))


def test_price_of_a_bundle_is_per_piece() -> None:
    line = sold(item("3.00", "6.00"), total="3.00").lines[0]
    assert (line.unit_price, line.gross) == tuple(money("3.00", "3.00"))


def test_discount_on_the_whole_receipt_is_a_line() -> None:
    deduction = "<Discount><Amount>1.50</Amount><ReasonCode>STAFF</ReasonCode></Discount>"
    document = sold(item("10.00", "10.00"), item("5.00", "5.00"), deduction, total="13.50")
    assert [(line.sku, line.gross) for line in document.lines][-1] == ("STAFF", Decimal("-1.50"))


def test_discount_on_the_whole_receipt_lessens_the_tax_on_top() -> None:
    deduction = "<Discount><Amount>1.00</Amount></Discount>"
    document = sold(item("11.00", "11.00"), deduction, tax("20", "2.00", "10.00"), total="12.00", tax="2.00")
    assert (document.net, document.tax) == tuple(money("10.00", "2.00"))


def test_discount_on_the_whole_receipt_that_is_spread_over_the_lines_counts_once() -> None:
    deduction = "<Discount><Amount>1.00</Amount></Discount>"
    document = sold(item("10.00", "10.00", more=modifier("1.00")), deduction, total="9.00")
    assert [line.gross for line in document.lines] == money("9.00")


def test_weight_is_the_quantity() -> None:
    weighed = item("1.26", "2.99", "0.42").replace("<Quantity>", '<Quantity UnitOfMeasureCode="KGM">')
    line = sold(weighed, total="1.26").lines[0]
    assert (line.quantity, line.unit, line.unit_price) == (Decimal("0.42"), "KGM", Decimal("2.99"))


def test_weight_of_a_piece_is_the_quantity() -> None:
    weighed = item("1.26", "2.99").replace("<Quantity>", '<Quantity Units="0.42" UnitOfMeasureCode="KGM">')
    line = sold(weighed, total="1.26").lines[0]
    assert (line.quantity, line.unit, line.unit_price) == (Decimal("0.42"), "KGM", Decimal("2.99"))


def test_units_of_pieces_are_the_pieces() -> None:
    pieces = item("6.00", "3.00", "2").replace("<Quantity>", '<Quantity Units="2" UnitOfMeasureCode="EA">')
    assert sold(pieces, total="6.00").lines[0].quantity == 2


def test_return_within_a_sale_is_a_negative_line() -> None:
    document = sold(item("10.00", "10.00"), item("4.00", "4.00", kind="Return"), total="6.00")
    assert document.kind == "invoice"
    assert [(line.quantity, line.gross) for line in document.lines] == [
        (Decimal(1), Decimal("10.00")),
        (Decimal(-1), Decimal("-4.00")),
    ]


LINK = (
    "<TransactionLink ReasonCode='{}'><RetailStoreID>8</RetailStoreID><WorkstationID>2</WorkstationID>"
    "<SequenceNumber>55</SequenceNumber><BusinessDayDate>2026-03-01</BusinessDayDate></TransactionLink>"
)


@pytest.mark.parametrize("sign", ["", "-"])
def test_receipt_of_returns_alone_is_a_credit_note_for_its_sale(sign: str) -> None:
    back = item(f"{sign}8.00", "4.00", f"{sign}2", LINK.format("Return"), kind="Return")
    text = retail(back, tender(f"{sign}8.00", code="Refund"), total=f"{sign}8.00")
    document = Outcome(log(transaction(text))).document
    assert (document.kind, document.gross) == ("credit_note", Decimal("-8.00"))
    assert document.lines[0].quantity == -2
    assert document.original_ref == "poslog/8/2/2026-03-01-55/sale"
    assert [payment.amount for payment in document.payments] == money("-8.00")


def test_returns_of_two_sales_name_neither() -> None:
    back = item("4.00", "4.00", "1", LINK.format("Return"), kind="Return")
    other = back.replace(">55<", ">56<")
    text = retail(back, other, tender("8.00", code="Refund"), total="-8.00")
    assert Outcome(log(transaction(text))).document.original_ref is None


def test_return_with_tax_on_top() -> None:
    back = item("10.00", "10.00", more=tax("19", "1.90", "10.00"), kind="Return")
    text = retail(back, tender("11.90", code="Refund"), total="-11.90", tax="-1.90")
    document = Outcome(log(transaction(text))).document
    assert (document.net, document.tax, document.gross) == tuple(money("-10.00", "-1.90", "-11.90"))


def test_sale_of_less_than_nothing_is_a_credit_note() -> None:
    text = retail(item("-8.00", "4.00", "-2"), tender("-8.00"), total="-8.00")
    document = Outcome(log(transaction(text))).document
    assert (document.kind, document.gross, document.lines[0].quantity) == ("credit_note", Decimal("-8.00"), -2)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("how", ["status", "link"])
def test_receipt_that_voids_another_is_its_cancellation(how: str, sign: str) -> None:
    text = retail(item(f"{sign}8.00", "4.00", f"{sign}2"), tender(f"{sign}8.00"), total=f"{sign}8.00")
    status = 'TransactionStatus="PostVoided"' if how == "status" else ""
    text = text.replace("<RetailTransaction ", f"<RetailTransaction {status} ")
    text = text.replace("</RetailTransaction>", LINK.format("Voided") + "</RetailTransaction>")
    document = Outcome(log(transaction(text))).document
    assert (document.kind, document.gross) == ("cancellation", Decimal("-8.00"))
    assert document.original_ref == "poslog/8/2/2026-03-01-55/sale"


def test_receipt_that_voids_another_and_repeats_nothing_is_a_dead_letter_not_a_loss() -> None:
    text = "<RetailTransaction>" + LINK.format("Voided") + "</RetailTransaction>"
    assert len(Outcome(log(transaction(text))).rejected) == 1


def test_receipt_that_voids_another_may_have_the_mark_at_each_line() -> None:
    text = retail(item("8.00", "4.00", "2") + VOID, tender("8.00") + VOID, total="8.00")
    text = text.replace("</RetailTransaction>", LINK.format("Voided") + "</RetailTransaction>")
    document = Outcome(log(transaction(text))).document
    assert (document.kind, document.gross, len(document.payments)) == ("cancellation", Decimal("-8.00"), 1)


def test_resumed_receipt_is_a_sale() -> None:
    text = retail(item("1.00", "1.00"), tender("1.00"), total="1.00")
    text = text.replace("</RetailTransaction>", LINK.format("Resume") + "</RetailTransaction>")
    document = Outcome(log(transaction(text))).document
    assert (document.kind, document.original_ref) == ("invoice", None)


def test_sums_that_fit_no_way_are_a_dead_letter() -> None:
    text = retail(item("1.00", "1.00"), tender("3.33"), total="3.33")
    assert Outcome(log(transaction(text))).rejected == ["totals_mismatch: totals.gross: differs_from_lines"]


def test_amounts_with_many_places_stay_exact() -> None:
    assert sold(item("25.00000", "25.0000", "1.00000"), total="25.00000").gross == 25


def test_receipt_without_a_sequence_number_is_a_dead_letter() -> None:
    text = log(transaction(retail(item("1.00", "1.00"), total="1.00"))).replace(
        "<SequenceNumber>7</SequenceNumber>", ""
    )
    assert Outcome(text).rejected == ["unplaced_record: kinds: none_fits"]


amounts = st.integers(0, 99_999).map(lambda cents: f"{Decimal(cents) / 100:.2f}")


@given(st.lists(st.tuples(amounts, st.integers(1, 9), st.booleans()), min_size=1, max_size=8))
def test_every_receipt_of_sales_and_returns_arrives_to_the_cent(lines: list[tuple[str, int, bool]]) -> None:
    items = []
    gross = Decimal(0)
    for price, quantity, is_return in lines:
        amount = Decimal(price) * quantity
        items.append(item(str(amount), price, str(quantity), kind="Return" if is_return else "Sale"))
        gross += -amount if is_return else amount
    outcome = Outcome(log(transaction(retail(*items, tender(str(gross)), total=str(gross)))))
    assert sum(document.gross for document in outcome.documents) == gross
    assert not outcome.rejected


WORDS = """
    POSLog Transaction RetailTransaction LineItem Sale Return Tender Tax Total Amount Quantity ExtendedAmount
    RegularSalesUnitPrice SequenceNumber RetailStoreID TransactionLink Discount LoyaltyReward CurrencyCode
    EndDateTime BusinessDayDate Percent TaxableAmount RetailPriceModifier
"""
NAMES = st.sampled_from(WORDS.split())
TEXTS = st.sampled_from(["", "1", "-2.50", "1e9", "NaN", "x", "EUR", "2026-03-10", "9" * 40, "0", "Infinity", " 7 "])
TREES = st.recursive(
    st.builds(lambda name, text: f"<{name}>{text}</{name}>", NAMES, TEXTS),
    lambda inner: st.builds(
        lambda name, flag, parts: f'<{name} {flag}="true">{"".join(parts)}</{name}>',
        NAMES,
        st.sampled_from(["VoidFlag", "TotalType", "TypeCode", "Units", "TransactionStatus"]),
        st.lists(inner, max_size=5),
    ),
    max_leaves=30,
)


@given(st.lists(TREES, max_size=4))
def test_no_tree_of_its_words_crashes(trees: list[str]) -> None:
    Outcome(log(*trees))
    Outcome(log(transaction(f"<RetailTransaction>{''.join(trees)}</RetailTransaction>")))
    items = "".join(f"<LineItem>{tree}</LineItem>" for tree in trees)
    Outcome(log(transaction(f"<RetailTransaction>{items}</RetailTransaction>")))


@pytest.mark.parametrize("example", source().contract.examples, ids=lambda example: example.name)
def test_example_comes_out_as_the_contract_says(example: ContractExample) -> None:
    made = []
    with suppress(RefusedRecord):
        made = list(source().events(FakeRecord(0, example.value.encode())))
    if example.events is not None:
        assert [event for event in made if isinstance(event, dict)] == list(example.events)
    elif example.skipped:
        assert [type(event) for event in made] == [SkippedPart]
    else:
        assert [event.reason.value for event in made if isinstance(event, RefusedRecord)] == [example.rejected]
