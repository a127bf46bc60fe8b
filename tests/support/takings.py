"""What tills take in a few days, as documents: sales, refunds, voids, corrections, split tenders, change, rounding."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random

from schemas.document import DocumentLine, DocumentPayment, ErpDocument, Kind
from tests.support.documents import document, line

CENT = Decimal("0.01")
_DAYS = [date(2026, 3, 9) + timedelta(days=n) for n in range(3)]
_RATES = {"A": 19, "B": 7, "N": 0}


def takings(random: Random, count: int, resent: float = 0.05) -> list[ErpDocument]:
    """So many documents of three stores, and some of them again, later. One in thirty is in conflict with another."""
    sent: list[ErpDocument] = []
    for number in range(1, count + 1):
        sales = [d for d in sent if d.kind == "invoice" and d.revision == 0 and "conflict" not in d.event_id]
        drawn = random.random()
        if sales and drawn < 0.1:
            kind: Kind = "credit_note" if drawn < 0.06 else "cancellation"
            sent.append(_opposite(random.choice(sales), number, kind))
        elif sales and drawn < 0.15:
            corrected = random.choice(sales)
            new = _sale(random, int(corrected.receipt), corrected.store, corrected.business_date)
            sent.append(replace(new, revision=1, event_id=f"{new.event_id}-{number}", content=f"c-{number}"))
        elif sales and drawn < 0.18:
            other = random.choice(sales)
            sent.append(replace(other, event_id=f"pos:conflict-{number}", content=f"c-{number}", cashier="Bob"))
        else:
            sent.append(_sale(random, number, f"S{random.randint(1, 3)}", random.choice(_DAYS)))
        if random.random() < resent:
            sent.append(random.choice(sent))
    return sent


def in_batches(documents: Sequence[ErpDocument], size: int) -> list[list[ErpDocument]]:
    """The documents in their order, cut so that none shares an event or a receipt with another of its batch."""
    cut: list[list[ErpDocument]] = [[]]
    for d in documents:
        taken = {name for other in cut[-1] for name in (other.event_id, other.external_ref)}
        if len(cut[-1]) >= size or taken & {d.event_id, d.external_ref}:
            cut.append([])
        cut[-1].append(d)
    return cut


def _sale(random: Random, number: int, store: str, day: date) -> ErpDocument:
    lines = [_line(random, place) for place in range(1, random.randint(2, 6))]
    sold = document(number, lines=lines, store=store, business_date=day)
    if random.random() < 0.3:  # in cash, rounded to five cents, with change
        due = (sold.gross / 5).quantize(CENT, ROUND_HALF_UP) * 5
        given = due + random.choice([Decimal(0), Decimal("0.50"), Decimal(5)])
        paid = [DocumentPayment("cash", given)] + [DocumentPayment("cash", due - given)] * (given != due)
        return replace(sold, rounding=due - sold.gross, gross=due, payments=paid)
    if random.random() < 0.3:
        part = (sold.gross / 3).quantize(CENT)
        return replace(sold, payments=[DocumentPayment("voucher", part), DocumentPayment("card", sold.gross - part)])
    return sold


def _line(random: Random, place: int) -> DocumentLine:
    letter = random.choice("AABN")
    quantity = Decimal(random.choice([1, 1, 2, 3, 144]))
    sku = f"{letter}-{place}"
    if random.random() < 0.2:
        letter, quantity, sku = "B", Decimal(random.randint(5, 300)) / 100, "K-1"
    gross = max(CENT, (quantity * random.randint(10, 900) / 100).quantize(CENT, ROUND_HALF_UP))
    rate = Decimal(_RATES[letter])
    net = (gross / (1 + rate / 100)).quantize(CENT, ROUND_HALF_UP)
    return line(place, net, gross - net, sku=sku, quantity=quantity, tax_rate=rate, unit_price=Decimal(1))


def _opposite(d: ErpDocument, number: int, kind: Kind) -> ErpDocument:
    """A receipt of its own that takes all of it back."""
    names = ("quantity", "net", "tax", "gross")
    return replace(
        d,
        event_id=f"pos:back-{number}",
        external_ref=f"pos/{d.store}/R1/{number}/{'return' if kind == 'credit_note' else 'void'}",
        kind=kind,
        receipt=str(number),
        original_ref=d.external_ref,
        content=f"c-{number}",
        lines=[replace(one, **{name: -getattr(one, name) for name in names}) for one in d.lines],
        payments=[replace(one, amount=-one.amount) for one in d.payments],
        net=-d.net,
        tax=-d.tax,
        rounding=-d.rounding,
        gross=-d.gross,
    )
