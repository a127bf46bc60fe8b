"""What a document comes to as a number, so that two sides can be compared without carrying documents to each other.

Each row of a document (itself, its lines, its payments) has a number of 64 bits: two halves of 32, from the MD5 of
what the row says about goods, tax rates and money. A document's print is the sum of its rows', a store-day's the sum
of its documents', all modulo 2 ** 64. Sums, because a database can add them up in any order and give one row for a
day, and because a day's print is as well the sum of the prints that the other side has of each receipt. Two different
days have the same print with a chance of 1 in 10 ** 19: enough against mistakes, not against somebody who means to
forge.
"""

from collections.abc import Iterable
from hashlib import md5

from schemas.document import ErpDocument
from sinks.values import AMOUNT_PLACES, FINE_PLACES, to_scaled

_MASK = 2**64 - 1
_DIGITS = 8  # of each half, hexadecimal


def print_of(document: ErpDocument) -> int:
    """The document's print. Raises DocumentsRefused for numbers that no sink can hold."""
    return added(row_print(row) for row in _rows(document))


def row_print(row: str) -> int:
    """The number of one row."""
    return int(md5(row.encode(), usedforsecurity=False).hexdigest()[: 2 * _DIGITS], 16)


def half_print(row: str, half: int) -> int:
    """The upper (0) or lower (1) half of the number of a row: what a database adds up without an overflow."""
    digest = md5(row.encode(), usedforsecurity=False).hexdigest()
    return int(digest[half * _DIGITS : (half + 1) * _DIGITS], 16)


def of_halves(upper: int, lower: int) -> int:
    """The print whose halves have been added up on their own."""
    return ((upper << 4 * _DIGITS) + lower) & _MASK


def added(prints: Iterable[int]) -> int:
    """The print of all of them together."""
    return sum(prints) & _MASK


def in_digits(number: int) -> str:
    """A print as people see it."""
    return f"{number:016x}"


def _rows(d: ErpDocument) -> Iterable[str]:
    """As `sinks.sqlprints` writes them in SQL."""
    money = "|".join(str(to_scaled(value, AMOUNT_PLACES)) for value in (d.net, d.tax, d.rounding, d.gross))
    yield f"d|{d.external_ref}|{d.revision}|{d.content}|{d.kind}|{money}"
    for position, line in enumerate(d.lines, 1):
        fine = "|".join(str(to_scaled(value, FINE_PLACES)) for value in (line.quantity, line.tax_rate))
        money = "|".join(str(to_scaled(value, AMOUNT_PLACES)) for value in (line.net, line.tax, line.gross))
        yield f"l|{d.external_ref}|{position}|{line.sku}|{fine}|{money}"
    for position, payment in enumerate(d.payments, 1):
        yield f"p|{d.external_ref}|{position}|{payment.kind}|{to_scaled(payment.amount, AMOUNT_PLACES)}"
