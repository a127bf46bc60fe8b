"""A simulated till's assortment and receipts, which add up to the cent.

All amounts are integers in minor units (cents) and all quantities integers in thousandths, so that nothing
here can round twice; `SimulatedReceipt.event` prints them in the format of `schemas.sale`.
"""

import json
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from schemas.money import divide_half_up
from schemas.reference import join_reference
from schemas.sale import EventType

SOURCE = "tills"
CURRENCY = "EUR"

_FOOD, _OTHER = 7, 19  # percent, included in the price
_VARIANTS = (("", 100), ("Premium ", 139), ("Regional ", 117), ("Budget ", 83))  # prefix, price in percent
_BY_WEIGHT = (
    "Apples 249,Bananas 179,Pears 299,Grapes 399,Tomatoes 279,Potatoes 129,Carrots 119,Onions 109,"
    "Gouda 1090,Emmental 1290,Salami 1690,Minced beef 1190"
)
_FOODS = (
    "Milk 1 l 119,Butter 250 g 229,Yoghurt 150 g 65,Cream 200 g 89,Eggs 10 pieces 249,Rye bread 750 g 279,"
    "Roll 45,Pretzel 95,Flour 1 kg 99,Sugar 1 kg 129,Rice 1 kg 219,Spaghetti 500 g 149,Tomato sauce 189,"
    "Olive oil 500 ml 799,Honey 500 g 549,Jam 340 g 229,Muesli 750 g 349,Coffee 500 g 649,Tea 25 bags 199,"
    "Chocolate 100 g 129,Biscuits 200 g 159,Crisps 175 g 199,Frozen pizza 299,Frozen peas 450 g 179"
)
_OTHERS = (
    "Mineral water 1.5 l 79,Cola 1 l 129,Orange juice 1 l 249,Beer 0.5 l 109,Red wine 0.75 l 599,"
    "Shampoo 300 ml 279,Toothpaste 75 ml 145,Soap 99,Detergent 1.5 l 549,Kitchen roll 249,"
    "Toilet paper 8 rolls 399,4 batteries AA 449,Candle 199,Newspaper 220"
)


class SimulatedProduct(NamedTuple):
    """`price` in cents per `unit` ("each" or "kg"), tax of `tax_rate` percent included."""

    sku: str
    description: str
    unit: str
    price: int
    tax_rate: int


@cache
def assortment() -> tuple[SimulatedProduct, ...]:
    """Return the 200 products that every store sells, the same for every seed."""
    shelves = ((_BY_WEIGHT, "kg", _FOOD), (_FOODS, "each", _FOOD), (_OTHERS, "each", _OTHER))
    products: list[SimulatedProduct] = []
    for prefix, percent in _VARIANTS:
        for entries, unit, rate in shelves:
            for entry in entries.split(","):
                name, price = entry.rsplit(" ", 1)
                sku = str(10_000 + len(products))
                products.append(SimulatedProduct(sku, prefix + name, unit, int(price) * percent // 100, rate))
    return tuple(products)


@cache
def _popularity() -> list[float]:
    """Cumulative weights: few products make most of the lines, as in a real shop."""
    ranks = list(range(len(assortment())))
    Random(0).shuffle(ranks)  # noqa: S311 - no secret: which product is popular
    return list(accumulate(1 / (5 + rank) for rank in ranks))


class ReceiptLine(NamedTuple):
    """`milli` thousandths of the product's unit, less `discount` cents."""

    product: SimulatedProduct
    milli: int
    discount: int

    @property
    def amount(self) -> int:
        """Cents, tax included, rounded half up once."""
        return divide_half_up(self.milli * self.product.price - 1000 * self.discount, 1000)

    @property
    def net(self) -> int:
        """The amount without its tax, in cents."""
        return divide_half_up(self.amount * 100, 100 + self.product.tax_rate)

    def printed(self) -> dict[str, Any]:
        """Return the line in the format of `schemas.sale.SaleLine`."""
        line: dict[str, Any] = {
            "sku": self.product.sku,
            "description": self.product.description,
            "quantity": f"{self.milli / 1000:.3f}" if self.product.unit == "kg" else str(self.milli // 1000),
            "unit": self.product.unit,
            "unit_price": money(self.product.price),
            "amount": money(self.amount),
            "tax_rate": str(self.product.tax_rate),
            "tax_included": True,
        }
        if self.discount:
            line["discounts"] = [{"amount": money(self.discount), "reason": "promotion"}]
        return line


@dataclass(frozen=True, slots=True)
class SimulatedReceipt:
    """A receipt as its register printed it; `original` is (register, receipt) of the returned or voided sale."""

    type: EventType
    store: str
    register: str
    number: str
    occurred_at: str
    cashier: str
    lines: tuple[ReceiptLine, ...]
    tenders: tuple[tuple[str, int], ...]
    customer: str | None = None
    original: tuple[str, str] | None = None

    @property
    def gross(self) -> int:
        """The amount that the customer pays or gets back, in cents, as printed (not signed)."""
        return sum(line.amount for line in self.lines)

    def event(self) -> dict[str, Any]:
        """Return the receipt in the format of `schemas.sale.SaleEvent`; its id follows from its number."""
        event = header(self.type, self.store, self.register, self.number, self.occurred_at)
        net = sum(line.net for line in self.lines)
        event["cashier"] = self.cashier
        if self.customer:
            event["customer"] = {"id": self.customer}
        event["lines"] = [line.printed() for line in self.lines]
        event["tenders"] = [{"kind": kind, "amount": money(amount)} for kind, amount in self.tenders]
        event["totals"] = {"gross": money(self.gross), "net": money(net), "tax": money(self.gross - net)}
        if self.original:
            event["original"] = dict(zip(("register", "receipt"), self.original, strict=True))
        return event


def header(kind: EventType, store: str, register: str, number: str, occurred_at: str) -> dict[str, Any]:
    """Return the fields that every event has."""
    name = join_reference(SOURCE, store, register, number, kind)
    return {
        "event_id": str(uuid5(NAMESPACE_URL, name)),
        "source": SOURCE,
        "type": kind,
        "store": store,
        "register": register,
        "receipt": number,
        "occurred_at": occurred_at,
        "currency": CURRENCY,
    }


def ring_up(rng: Random) -> tuple[ReceiptLine, ...]:
    """Return a basket of 1 to 20 lines, about one in twelve of them discounted."""
    count = min(1 + int(rng.expovariate(0.4)), 20)
    products = rng.choices(assortment(), cum_weights=_popularity(), k=count)
    return tuple(_line(rng, product) for product in products)


def _line(rng: Random, product: SimulatedProduct) -> ReceiptLine:
    if product.unit == "kg":
        milli = rng.randint(80, 2500)
    else:
        milli = 1000 * rng.choices((1, 2, 3, 4, 6, 12), weights=(70, 16, 6, 4, 3, 1))[0]
    if rng.random() >= 1 / 12:
        return ReceiptLine(product, milli, 0)
    percent = rng.choice((10, 20, 25, 50))
    return ReceiptLine(product, milli, milli * product.price * percent // 100_000)


def pay(rng: Random, gross: int) -> tuple[tuple[str, int], ...]:
    """Tenders that add up to `gross`: a card, cash and its change (negative), or a voucher and a card."""
    way = rng.random()
    if way < 0.05 and gross > 1000:
        voucher = rng.choice((500, 1000))
        return ("voucher", voucher), ("card", gross - voucher)
    if way < 0.55:
        return (("card", gross),)
    note = rng.choice((1, 100, 500, 1000, 2000, 5000))
    given = -(-gross // note) * note
    return (("cash", given),) if given == gross else (("cash", given), ("cash", gross - given))


def money(cents: int) -> str:
    """Cents as a decimal string: -5 is "-0.05"."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def compact(event: dict[str, Any]) -> bytes:
    """Return the event as JSON without white space, UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
