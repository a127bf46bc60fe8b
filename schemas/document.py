"""`ErpDocument`: what an ERP is told, one per receipt.

Amounts are signed from the store's side: invoices add to revenue, credit notes and cancellations carry negative
amounts, so that a plain sum over documents is revenue. They are exact, with the currency's own number of places.
Dates are business dates; times are UTC.

These are plain dataclasses, filled by `streams.mapping` from validated events: a batch builds thousands of them, and
validating what was just computed would cost more than computing it. `from_json` validates.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import TypeAdapter

Kind = Literal["invoice", "credit_note", "cancellation"]


@dataclass(slots=True)
class DocumentLine:
    """One line: `gross` = `net` + `tax`. `quantity` is signed like the amounts; price and discount are as printed."""

    position: int
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


@dataclass(slots=True)
class Payment:
    """One means of payment; the sum over a document is its `gross`, unless it has none (not paid yet)."""

    position: int
    kind: str
    amount: Decimal


@dataclass(slots=True)
class TaxTotal:
    """The sum of a document's lines at one tax rate (percent)."""

    tax_rate: Decimal
    net: Decimal
    tax: Decimal
    gross: Decimal


@dataclass(slots=True)
class ErpDocument:
    """A receipt as the ERP books it.

    `event_id` is the event's identity (`source:id`), `external_ref` the receipt's (`source/store/register/receipt/
    type`): an ERP holds one document per external_ref, that of the highest `revision`. `gross` is what the customer
    paid: net + tax + rounding, where net and tax are the sums over the lines and `rounding` what the till's own total
    differs by. `content` is a digest of the record's bytes. Equal digests are equal content; for unequal ones of one
    event or receipt, sinks ask `says_the_same_as`, and what does not say the same is in conflict.
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
    payments: list[Payment]
    taxes: list[TaxTotal]

    def says_the_same_as(self, other: "ErpDocument") -> bool:
        """Whether both book the same, whoever sent them and in whichever bytes."""
        return replace(self, event_id="", content="") == replace(other, event_id="", content="")


_ADAPTER: TypeAdapter[ErpDocument] = TypeAdapter(ErpDocument)


def to_json(document: ErpDocument) -> bytes:
    """The document as JSON, amounts as strings."""
    return _ADAPTER.dump_json(document)


def from_json(text: bytes) -> ErpDocument:
    """The inverse of `to_json`. Raises pydantic.ValidationError."""
    return _ADAPTER.validate_json(text)
