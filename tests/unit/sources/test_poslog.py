"""POSLog as tills of several makers write it: every receipt to the cent, and what is no sale counted as such."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Example
from schemas.document import ErpDocument
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.mapping import to_documents
from streams.settings import Store, Stores
from streams.sources.contracts import find
from streams.sources.source import Refused, Skipped, Source, ready
from tests.support.events import FakeRecord

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "samples" / "poslog" / "small.xml"
NAMESPACE = 'xmlns="http://www.nrf-arts.org/IXRetail/namespace/"'
NOW = datetime(2026, 6, 1, tzinfo=UTC)
STORES = Stores({}, Store(timezone="Europe/Stockholm"))


@cache
def source() -> Source:
    return ready(find("poslog"), lambda _: ZoneInfo("Europe/Stockholm"))


class Outcome:
    """What became of a record."""

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
    ],
)
def test_what_is_no_sale_is_skipped_with_its_reason(attributes: str, content: str, why: str) -> None:
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


def test_price_of_a_bundle_is_what_one_costs() -> None:
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
def test_example_comes_out_as_the_contract_says(example: Example) -> None:
    made = []
    with suppress(Refused):
        made = list(source().events(FakeRecord(0, example.value.encode())))
    if example.events is not None:
        assert [event for event in made if isinstance(event, dict)] == list(example.events)
    elif example.skipped:
        assert [type(event) for event in made] == [Skipped]
    else:
        assert [event.reason.value for event in made if isinstance(event, Refused)] == [example.rejected]
