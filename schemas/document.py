"""`ErpDocument`: the document that an ERP receives, one per receipt.

Amounts are signed from the store's side: invoices add to revenue, credit notes and cancellations carry negative
amounts, so that a plain sum over documents is revenue. They are exact, with the currency's own number of places.
Dates are business dates; times are UTC.

These are plain dataclasses, filled by `streams.mapping.documents` from validated events: a batch builds thousands of
them, and validating computed values would cost more than computing them. `from_json` validates.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import TypeAdapter, computed_field

from schemas.reference import derived_identity, join_reference, source_prefix, unescaped_reference

Kind = Literal["invoice", "credit_note", "cancellation"]


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """One line: `gross` = `net` + `tax`. `quantity` is signed like the amounts; price and discount are as printed.

    `item_code`, `item_unit`, `tax_code` and `cost` (of one unit) are the ERP's own, where a mapping gives them.
    Documents with the same line share it.
    """

    sku: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    discount: Decimal
    tax_rate: Decimal
    net: Decimal
    tax: Decimal
    gross: Decimal
    item_code: str | None = None
    item_unit: str | None = None
    tax_code: str | None = None
    cost: Decimal | None = None


@dataclass(slots=True)
class DocumentPayment:
    """One means of payment; the sum over a document is its `gross`, unless it has none (not paid yet).

    `payment_mode` and `account` are the ERP's own, where a mapping gives them.
    """

    kind: str
    amount: Decimal
    payment_mode: str | None = None
    account: str | None = None


@dataclass(slots=True)
class TaxTotal:
    """The sum of a document's lines at one tax rate (percent)."""

    tax_rate: Decimal
    net: Decimal
    tax: Decimal
    gross: Decimal


@dataclass(slots=True)
class ErpDocument:
    """A receipt as the ERP books it. Lines and payments are in the receipt's order.

    `event_id` is the event's identity (`source:id`), `external_ref` the receipt's (`source/store/register/receipt/
    type`, a part's own "/" written as "%2F"): an ERP holds one document per external_ref, that of the highest
    `revision`. `content` is a digest of the whole event apart from its id: two events, or an event sent twice, agree
    if it is equal, and conflict if it is not. `gross` is the amount paid by the customer: net + tax + rounding, where
    net and tax are the sums over the lines and `rounding` is the difference to the till's own total.

    `mapping` is the version of the mapping that the ERP's own codes are from: `company`, `warehouse`, `cost_centre`,
    `customer_code`, and those of lines and payments. Without one, none of them is set, and the till's codes count.
    `review` is a remark for a person, and does not keep the document from being booked.
    """

    event_id: str
    external_ref: str
    kind: Kind
    revision: int
    content: str
    source: str
    store: str
    register_id: str
    receipt: str
    original_ref: str | None
    business_date: date
    occurred_at: datetime
    currency: str
    cashier: str | None
    customer_id: str | None
    net: Decimal
    tax: Decimal
    rounding: Decimal
    gross: Decimal
    lines: list[DocumentLine]
    payments: list[DocumentPayment]
    mapping: str | None = None
    company: str | None = None
    warehouse: str | None = None
    cost_centre: str | None = None
    customer_code: str | None = None
    review: str | None = None

    @computed_field  # type: ignore[prop-decorator]  # mypy can't decorate properties
    @property
    def taxes(self) -> list[TaxTotal]:
        """The lines summed by tax rate, lowest rate first."""
        sums: dict[Decimal, TaxTotal] = {}
        for line in self.lines:
            total = sums.get(line.tax_rate)
            if total is None:
                sums[line.tax_rate] = TaxTotal(line.tax_rate, line.net, line.tax, line.gross)
            else:
                total.net += line.net
                total.tax += line.tax
                total.gross += line.gross
        return [sums[rate] for rate in sorted(sums)]


_ADAPTER: TypeAdapter[ErpDocument] = TypeAdapter(ErpDocument)


def to_json(document: ErpDocument) -> bytes:
    """Return the document as JSON, amounts as strings."""
    return _ADAPTER.dump_json(document)


def from_json(text: bytes) -> ErpDocument:
    """Return the inverse of `to_json`. Raises pydantic.ValidationError.

    References that were written before parts were escaped come out as they are written now.
    """
    document = _ADAPTER.validate_json(text)
    _escape_references(document)
    return document


_TYPES: dict[Kind, str] = {"invoice": "sale", "credit_note": "return", "cancellation": "void"}


def _escape_references(document: ErpDocument) -> None:
    """Rewrite references and identity, where they are the document's own parts joined without escapes."""
    source, kind = document.source, _TYPES[document.kind]
    place = (document.store, document.register_id)
    reference = join_reference(source, *place, document.receipt, kind)
    unescaped = unescaped_reference(reference)
    if unescaped is not None and document.external_ref == unescaped:
        document.external_ref = reference
        if document.event_id == f"{source}:{unescaped[len(source) + 1 :]}/{document.revision}":
            document.event_id = derived_identity(source, *place, document.receipt, kind, document.revision)
    if source_prefix(source) != f"{source}:" and document.event_id.startswith(f"{source}:"):
        document.event_id = source_prefix(source) + document.event_id[len(source) + 1 :]
    original = document.original_ref
    if original is not None and original.count("/") > 4 and original.startswith("/".join((source, *place, ""))):
        number, _, of = original[len("/".join((source, *place, ""))) :].rpartition("/")
        document.original_ref = join_reference(source, *place, number, of)
