"""The rivals' own model of an event: compact, and less strict than `schemas.sale` (lengths and ranges are not checked,
nor doubled keys). It rejects the POS job's faults, and computes the columns of the tables.
"""

import json
import sys
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from pydantic import AwareDatetime, BaseModel, Field

CENT = Decimal("0.01")
CURRENCIES = {"EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK"}


class Line(BaseModel):
    """One line of a receipt; prices include the tax."""

    sku: str
    description: str = ""
    quantity: Decimal
    unit: str = "each"
    unit_price: Decimal
    amount: Decimal
    tax_rate: Decimal


class Tender(BaseModel):
    """One means of payment."""

    kind: str
    amount: Decimal


class Totals(BaseModel):
    """The printed totals."""

    gross: Decimal
    net: Decimal
    tax: Decimal


class Receipt(BaseModel):
    """One sale."""

    event_id: str
    source: str
    type: str
    store: str
    register_id: str = Field(alias="register")
    receipt: str
    occurred_at: AwareDatetime
    currency: str
    cashier: str | None = None
    lines: list[Line]
    tenders: list[Tender]
    totals: Totals

    @property
    def external_ref(self) -> str:
        """The receipt's identity."""
        return f"{self.source}/{self.store}/{self.register_id}/{self.receipt}/{self.type}"


class Amounts(NamedTuple):
    """One line's."""

    net: Decimal
    tax: Decimal
    gross: Decimal


def amounts(receipt: Receipt) -> list[Amounts]:
    """The amounts of each line. Raises ValueError where the receipt does not add up."""
    if receipt.currency not in CURRENCIES:
        raise ValueError("currency")
    lines = [line_amounts(line) for line in receipt.lines]
    totals = receipt.totals
    if sum(line.gross for line in lines) != totals.gross:
        raise ValueError("gross")
    if abs(sum(line.net for line in lines) - totals.net) > len(lines) * CENT:
        raise ValueError("net")
    if sum(tender.amount for tender in receipt.tenders) != totals.gross:
        raise ValueError("tenders")
    return lines


def line_amounts(line: Line) -> Amounts:
    """Net, tax and gross of a line. Raises ValueError unless its amount is quantity × price, to the cent."""
    gross = line.amount
    if abs((line.quantity * line.unit_price).quantize(CENT, ROUND_HALF_UP) - gross) > CENT:
        raise ValueError("amount")
    net = (gross * 100 / (100 + line.tax_rate)).quantize(CENT, ROUND_HALF_UP)
    return Amounts(net, gross - net, gross)


@dataclass
class Task:
    """A rival's instructions on its standard input, as JSON."""

    broker: str
    topic: str
    dead_letter_topic: str
    group: str
    database: str

    @classmethod
    def read(cls) -> "Task":
        """The settings of this process."""
        return cls(**json.load(sys.stdin))
