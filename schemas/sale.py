"""`SaleEvent`: an event as a till reports it, one JSON object per Kafka record.

Amounts are as the receipt prints them: a return shows the goods and the money given back as positive numbers, the
type says which way they went. Send amounts as JSON strings ("12.30"); JSON numbers are read too. Unknown fields are
ignored, so that a till may be updated before Tillstream is. `streams.checks` checks the facts that a model can't
express (sums, precision, time zones).

The event is a model; its parts are TypedDicts, and amounts stay text until `streams.checks` computes with them. A
receipt has half a dozen parts and twenty numbers: as models and decimals they take pydantic half as long again, and
could not cheaply be recognised as a line that has been computed before.
"""

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, Strict
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from schemas.reference import derived_identity, join_identity, join_reference
from schemas.strict import Amount, Moment, WholeNumber, WrittenFractions, read_exactly

Code = Annotated[str, Strict(), Field(min_length=1, max_length=64)]
Text = Annotated[str, Strict(), Field(max_length=500)]

EventType = Literal["sale", "return", "void", "day_close"]

_PERSONAL = Field(json_schema_extra={"x-personal-data": True})
_APART = {"event_id", "lines"}


class Customer(TypedDict):
    """Personal data. It is never logged, counted, or put into a header; documents carry the id alone."""

    id: NotRequired[Annotated[Code | None, _PERSONAL]]
    name: NotRequired[Annotated[Text | None, _PERSONAL]]
    email: NotRequired[Annotated[Text | None, _PERSONAL]]
    phone: NotRequired[Annotated[Text | None, _PERSONAL]]


class LineDiscount(TypedDict):
    """A reduction of one line, positive, in the unit of the line's price (before tax unless tax is included)."""

    amount: Amount
    reason: NotRequired[Code | None]


class SaleLine(TypedDict):
    """One line of the receipt."""

    sku: Code
    description: NotRequired[Text]
    quantity: Annotated[Amount, Field(description="In `unit`s; negative for an item taken back within a sale.")]
    unit: NotRequired[Annotated[Code, Field(description="`each`, if not stated.")]]
    unit_price: Amount
    discounts: NotRequired[tuple[LineDiscount, ...]]
    amount: NotRequired[
        Annotated[
            Amount | None,
            Field(
                description="What the line costs after its discounts, if the till prints it. It may differ from "
                "quantity × unit price - discounts by one minor unit, plus half of the price's last place per unit "
                "sold (a printed price is rounded itself). Without it, the product is rounded half up."
            ),
        ]
    ]
    tax_rate: Annotated[Amount, Field(description="Percent, from 0 to 100: 19 means 19 %.")]
    tax: NotRequired[
        Annotated[
            Amount | None,
            Field(
                description="The line's tax, if the till prints it. It may be less than the rate gives (a part of "
                "the line is exempt), and more by two minor units (several taxes, each rounded). Without it, the "
                "rate's product is rounded half up."
            ),
        ]
    ]
    tax_included: NotRequired[
        Annotated[
            bool,
            Strict(),
            Field(description="Whether price, discounts and amount contain the tax; they do if not stated."),
        ]
    ]


class Tender(TypedDict):
    """One means of payment. Change is a tender of the same kind with a negative amount."""

    kind: Annotated[Code, Field(description="cash, card, voucher, … as the till names it.")]
    amount: Amount


class ReceiptTotals(TypedDict):
    """The totals that the receipt prints. `gross` is the amount that the customer pays (or gets back)."""

    gross: Amount
    net: NotRequired[Amount | None]
    tax: NotRequired[Amount | None]
    rounding: NotRequired[
        Annotated[
            Amount,
            Field(
                description="Cash rounding contained in `gross`: under one currency unit, or at most 5 % of `gross`."
            ),
        ]
    ]


class OriginalReceipt(TypedDict):
    """The receipt that a return or a void refers to; store and register default to the event's own."""

    store: NotRequired[Code | None]
    register: NotRequired[Code | None]
    receipt: Code
    type: NotRequired[
        Annotated[
            Literal["sale", "return"],
            Field(description="What is voided (a sale, if not stated); a return refers to one."),
        ]
    ]


class SaleEvent(BaseModel):
    """One receipt, or the close of one register's day.

    `event_id` is unique within its `source` and the same whenever the event is sent again; without one it is derived
    from the natural key (`identity`). A higher `revision` is a later version of the same receipt. `sale`, `return`
    and `void` (which repeats the lines of the receipt it voids) become ERP documents; `day_close` carries the
    register's own totals for reconciliation.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: Annotated[str, Strict(), Field(min_length=1, max_length=128)] | None = None
    source: Code
    type: EventType
    store: Code
    register_id: Code = Field(alias="register")
    receipt: Code
    revision: Annotated[int, WholeNumber(ge=0, lt=2**31)] = 0
    cashier: Code | None = None
    occurred_at: Moment
    currency: Annotated[str, Strict(), Field(pattern=r"^[A-Z]{3}$", min_length=3, max_length=3)] = Field(
        description="ISO 4217"
    )
    customer: Customer | None = None
    lines: Annotated[tuple[SaleLine, ...], Field(max_length=10_000)] = ()
    tenders: Annotated[tuple[Tender, ...], Field(max_length=100)] = Field(
        (), description="Their sum is `totals.gross`; none means the receipt is not paid yet."
    )
    totals: ReceiptTotals
    original: OriginalReceipt | None = None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Return the event that a JSON text is, its numbers with the digits that they are written with.

        Raises pydantic.ValidationError.
        """
        digits = WrittenFractions()
        event: Self = cls.__pydantic_validator__.validate_json(json_data, context=digits, **options)
        if digits and digits.may_be_lost(json_data):
            event = cls.__pydantic_validator__.validate_python(read_exactly(json_data), **options)
        return event

    @property
    def identity(self) -> str:
        """The event's identity across all sources: `source:event_id`, as `schemas.reference` writes it."""
        if self.event_id is not None:
            return join_identity(self.source, self.event_id)
        return derived_identity(self.source, self.store, self.register_id, self.receipt, self.type, self.revision)

    @property
    def receipt_ref(self) -> str:
        """The receipt's identity, `source/store/register/receipt/type`: an ERP keeps it as the external reference."""
        return join_reference(self.source, self.store, self.register_id, self.receipt, self.type)

    def content(self, lines: Iterable[bytes]) -> str:
        """Digest (32 hexadecimal digits) of all that the event says, apart from its id: fields as written.

        `lines` are the event's lines by `line_content`, which a caller may remember. Defaults of the event, unknown
        fields, the order of fields and white space don't count: an event in other bytes is the same event.
        """
        rest = self.__pydantic_serializer__.to_json(self, exclude=_APART, exclude_defaults=True)
        return sha256(b"".join((rest, *lines))).hexdigest()[:32]


def line_content(line: SaleLine) -> bytes:
    """All that a validated line says."""
    return json.dumps(line, separators=(",", ":")).encode()
