"""`SaleEvent`: what a till says happened, one JSON object per Kafka record.

Amounts are as the receipt prints them: a return shows the goods and the money given back as positive numbers, the
type says which way they went. Send amounts as JSON strings ("12.30"); JSON numbers are read too. Unknown fields are
ignored, so that a till may be updated before Tillstream is. What a model can't say (sums, precision, time zones)
`streams.checks` checks.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Code = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=500)]
#: Below `money.LIMIT` either way, with no more places than the currency has: `streams.checks` sees to both. Asking
#: pydantic for the range would cost a Python call per number.
Amount = Decimal

EventType = Literal["sale", "return", "void", "day_close"]


class Part(BaseModel):
    """The base of all parts of an event: immutable, tolerant of fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Customer(Part):
    """Personal data. It is never logged, counted, or put into a header; documents carry the id alone."""

    id: Code | None = Field(None, json_schema_extra={"x-personal-data": True})
    name: Text | None = Field(None, json_schema_extra={"x-personal-data": True})
    email: Text | None = Field(None, json_schema_extra={"x-personal-data": True})
    phone: Text | None = Field(None, json_schema_extra={"x-personal-data": True})


class Discount(Part):
    """A reduction of one line, positive, in the unit of the line's price (before tax unless tax is included)."""

    amount: Amount
    reason: Code | None = None


class Line(Part):
    """One line of the receipt."""

    sku: Code
    description: Text = ""
    quantity: Amount = Field(description="In `unit`s; negative for an item taken back within a sale.")
    unit: Code = "each"
    unit_price: Amount
    discounts: tuple[Discount, ...] = ()
    amount: Amount | None = Field(
        None,
        description="What the line costs after its discounts, if the till prints it. It may differ from quantity × "
        "unit price - discounts by one minor unit, plus half of the price's last place per unit sold "
        "(a printed price is rounded itself). Without it, the product is rounded half up.",
    )
    tax_rate: Annotated[Decimal, Field(ge=0, le=100)] = Field(description="Percent: 19 means 19 %.")
    tax_included: bool = Field(True, description="Whether price, discounts and amount contain the tax.")


class Tender(Part):
    """One means of payment. Change is a tender of the same kind with a negative amount."""

    kind: Code = Field(description="cash, card, voucher, … as the till names it.")
    amount: Amount


class Totals(Part):
    """The totals that the receipt prints. `gross` is what the customer pays (or gets back)."""

    gross: Amount
    net: Amount | None = None
    tax: Amount | None = None
    rounding: Amount = Field(
        Decimal(0),
        description="Cash rounding contained in `gross`: under one currency unit, or at most 5 % of `gross`.",
    )


class OriginalReceipt(Part):
    """The receipt that a return or a void refers to; store and register default to the event's own."""

    store: Code | None = None
    register_id: Code | None = Field(None, alias="register")
    receipt: Code
    type: Literal["sale", "return"] = Field("sale", description="What is voided; a return refers to a sale.")


class SaleEvent(Part):
    """One receipt, or the close of one register's day.

    `event_id` is unique within its `source` and the same whenever the event is sent again; without one it is derived
    from the natural key (`identity`). A higher `revision` is a later version of the same receipt. `sale`, `return`
    and `void` (which repeats the lines of the receipt it voids) become ERP documents; `day_close` carries the
    register's own totals for reconciliation.
    """

    event_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    source: Code
    type: EventType
    store: Code
    register_id: Code = Field(alias="register")
    receipt: Code
    revision: Annotated[int, Field(ge=0, lt=2**31)] = 0
    cashier: Code | None = None
    occurred_at: AwareDatetime
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217")
    customer: Customer | None = None
    lines: Annotated[tuple[Line, ...], Field(max_length=10_000)] = ()
    tenders: Annotated[tuple[Tender, ...], Field(max_length=100)] = Field(
        (), description="Their sum is `totals.gross`; none means the receipt is not paid yet."
    )
    totals: Totals
    original: OriginalReceipt | None = None

    @property
    def identity(self) -> str:
        """The event's identity across all sources: `source:event_id`."""
        if self.event_id is not None:
            return f"{self.source}:{self.event_id}"
        return f"{self.source}:{self.store}/{self.register_id}/{self.receipt}/{self.type}/{self.revision}"

    @property
    def receipt_ref(self) -> str:
        """The receipt's identity, `source/store/register/receipt/type`: what an ERP keeps as its external reference."""
        return f"{self.source}/{self.store}/{self.register_id}/{self.receipt}/{self.type}"
