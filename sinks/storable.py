"""The values that every sink can hold, decided once: exact amounts in a fixed number of places, and text that is
Unicode.

A value outside is refused, never rounded, cut off or replaced: Raises DocumentsRefused throughout.
"""

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation

from schemas.document import ErpDocument
from schemas.money import LIMIT
from sinks.base import DocumentsRefused

#: Places of amounts: no ISO 4217 currency has more minor digits.
AMOUNT_PLACES = 4
#: Places of quantities, prices, printed discounts and tax rates: what `invalid_amount` allows a till. A value below
#: LIMIT (10 ** 12) with that many places is an integer below 10 ** 18, which an integer of 64 bits holds.
FINE_PLACES = 6

#: The default context would round a number of more than 28 digits before it could be checked.
_EXACT = Context(prec=40, traps=[Inexact, InvalidOperation])


def to_scaled(value: Decimal, places: int) -> int:
    """`value` × 10 ** places as an integer."""
    try:
        if -LIMIT < value < LIMIT:
            scaled = _EXACT.scaleb(value, places)
            whole = int(scaled)
            if whole == scaled:
                return whole
    except (Inexact, InvalidOperation):  # more than 40 digits; not a number
        pass
    raise DocumentsRefused("invalid_number")


def from_scaled(scaled: int, places: int) -> Decimal:
    """Return the inverse of `to_scaled`, with all `places`."""
    return Decimal(scaled).scaleb(-places)


def to_utf8(text: str) -> bytes:
    """`text` as UTF-8. Refuses NUL, which PostgreSQL can't hold and C programs end a text at, and lone surrogates."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise DocumentsRefused("lone_surrogate") from None  # the driver's text quotes the value
    if b"\0" in encoded:
        raise DocumentsRefused("nul_character")
    return encoded


def require_storable_text(documents: Iterable[ErpDocument]) -> None:
    """Check that `to_utf8` takes every text in `documents`."""
    for document in documents:
        to_utf8("".join(_texts(document)))


def require_exact_numbers(documents: Iterable[ErpDocument]) -> None:
    """Check that `to_scaled` takes every number in `documents`."""
    for document in documents:
        for value in _amounts(document):
            to_scaled(value, AMOUNT_PLACES)
        for value in _fine_numbers(document):
            to_scaled(value, FINE_PLACES)


def _texts(d: ErpDocument) -> Sequence[str]:
    texts = [
        *(d.event_id, d.external_ref, d.kind, d.content, d.source, d.store, d.register_id, d.receipt, d.currency),
        *(d.original_ref or "", d.cashier or "", d.customer_id or ""),
    ]
    for line in d.lines:
        texts += (line.sku, line.description, line.unit)
    for payment in d.payments:
        texts.append(payment.kind)
    return texts if d.mapping is None else [*texts, *filter(None, _codes(d))]


def _codes(d: ErpDocument) -> Iterable[str | None]:
    yield from (d.mapping, d.company, d.warehouse, d.cost_centre, d.customer_code, d.review)
    for line in d.lines:
        yield from (line.item_code, line.item_unit, line.tax_code)
    for payment in d.payments:
        yield from (payment.payment_mode, payment.account)


def _amounts(d: ErpDocument) -> Iterable[Decimal]:
    yield from (d.net, d.tax, d.rounding, d.gross)
    for line in d.lines:
        yield from (line.net, line.tax, line.gross)
    for payment in d.payments:
        yield payment.amount


def _fine_numbers(d: ErpDocument) -> Iterable[Decimal]:
    for line in d.lines:
        yield from (line.quantity, line.unit_price, line.discount, line.tax_rate)
        if line.cost is not None:
            yield line.cost
