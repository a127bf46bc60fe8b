"""A document as the values of a sale in Tryton, checked to the cent before anything is sent.

Tryton computes a line as its quantity times a price of four places, net and gross, and believes any tax that follows
from it. So we see to it that the products come to the document's own amounts, and that the tax is that of the article.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple, Protocol

from schemas.dead_letter import Reason
from schemas.document import DocumentLine, ErpDocument, to_json
from sinks.tryton.master_data import TrytonArticle

ROUNDING = "ROUNDING"
_ZERO = Decimal(0)


class UnbookableDocument(Exception):
    """Why there is no sale for a document: a reason, and the field with the kind of fault, without a value."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class PricedLine(NamedTuple):
    """A line as Tryton has it."""

    quantity: Decimal
    list_price: Decimal
    gross_price: Decimal


class CompanyMasterData(Protocol):
    """The master data of one company, as far as a document needs them."""

    currency: str
    digits: int
    price_digits: int
    rounding: str

    def point(self, code: str) -> int | None:
        """Return the point of sale of a store."""
        ...

    def method(self, code: str) -> int | None:
        """Return the means of payment of a tender."""
        ...


def item_codes(document: ErpDocument) -> set[str]:
    """Return the codes of all articles that the document needs; that of rounding is not among them."""
    return {_code(line) for line in document.lines}


def to_sale(document: ErpDocument, books: CompanyMasterData, items: Mapping[str, TrytonArticle]) -> dict[str, Any]:
    """Return the values of the sale. Raises Unbookable."""
    require_sums(document, books)
    point = books.point(document.warehouse or document.store)
    if point is None:
        raise UnbookableDocument(Reason.UNMAPPED_STORE, "store: no_point_of_sale")
    return {
        "point": point,
        "date": document.business_date,
        "external_ref": document.external_ref,
        "revision": document.revision,
        "till_content": document.content,
        "till_store": document.store,
        "till_lines": len(document.lines),
        "till_net": document.net,
        "till_tax": document.tax,
        "till_gross": document.gross,
        "till_document": to_json(document).decode(),
        "lines": [["create", sale_lines(document, books, items)]],
        "payments": [["create", payments(document, books)]],
    }


def require_sums(document: ErpDocument, books: CompanyMasterData) -> None:
    """Check that all sums of the document are right. Raises Unbookable."""
    if document.currency != books.currency:
        raise UnbookableDocument(Reason.WRONG_CURRENCY, "currency: not_the_companys")
    if not 0 <= document.revision < 2**31:
        raise _refused("revision: out_of_range")
    for name in ("net", "tax"):
        if getattr(document, name) != sum((getattr(line, name) for line in document.lines), _ZERO):
            raise _refused(f"{name}: differs_from_lines")
    if document.gross != document.net + document.tax + document.rounding:
        raise _refused("gross: differs_from_net_and_tax")
    if document.payments and sum((payment.amount for payment in document.payments), _ZERO) != document.gross:
        raise _refused("payments: sum_differs_from_gross")
    unit = Decimal(1).scaleb(-books.digits)
    amounts = [document.rounding, *(payment.amount for payment in document.payments)]
    amounts += [amount for line in document.lines for amount in (line.net, line.tax)]
    if any(amount % unit for amount in amounts):
        raise _refused("amounts: more_places_than_the_currency")


def sale_lines(
    document: ErpDocument, books: CompanyMasterData, items: Mapping[str, TrytonArticle]
) -> list[dict[str, Any]]:
    """Return the lines, and one for cash rounding. Raises Unbookable."""
    lines: list[dict[str, Any]] = []
    for place, line in enumerate(document.lines):
        try:
            item = _item(line, items, document.kind == "invoice")
            require_tax(line, item, books.digits)
            lines += _values(item, priced(line.quantity, line.net, line.gross, books))
        except UnbookableDocument as fault:
            raise UnbookableDocument(fault.reason, f"lines.{place}.{fault.detail}") from None
    if document.rounding:
        item_of_rounding = items.get(books.rounding)
        if item_of_rounding is None:
            raise UnbookableDocument(Reason.UNMAPPED_ITEM, "rounding: no_item_for_rounding")
        sign = Decimal(1).copy_sign(document.rounding)
        lines += _values(item_of_rounding, [PricedLine(sign, abs(document.rounding), abs(document.rounding))])
    return lines


def require_tax(line: DocumentLine, item: TrytonArticle, digits: int) -> None:
    """Check that the line is taxed as the article is, within one minor unit. Raises Unbookable."""
    if line.tax_rate != item.rate:
        raise UnbookableDocument(Reason.UNMAPPED_TAX, "tax_rate: not_that_of_the_item")
    if line.gross != line.net + line.tax:
        raise _refused("gross: differs_from_net_and_tax")
    if abs(line.net * line.tax_rate / 100 - line.tax) > Decimal(1).scaleb(-digits):
        raise _refused("tax: differs_from_rate")


def priced(quantity: Decimal, net: Decimal, gross: Decimal, books: CompanyMasterData) -> list[PricedLine]:
    """Return one line with these amounts; or two, if the price for the quantity would need more places.

    Then the second one is of a single unit, whose price makes up for the difference.
    """
    if not quantity:
        if net or gross:
            raise _refused("quantity: zero")
        return []
    step, cent = Decimal(1).scaleb(-books.price_digits), Decimal(1).scaleb(-books.digits)
    list_price, gross_price = (_rounded(amount / quantity, step) for amount in (net, gross))
    if all(abs(quantity * price - amount) < cent / 2 for price, amount in ((list_price, net), (gross_price, gross))):
        return [PricedLine(quantity, list_price, gross_price)]
    one = Decimal(1).copy_sign(quantity)
    rest = quantity - one
    others = [_rounded(rest * price, cent) for price in (list_price, gross_price)]
    return [
        PricedLine(rest, list_price, gross_price),
        PricedLine(one, (net - others[0]) / one, (gross - others[1]) / one),
    ]


def payments(document: ErpDocument, books: CompanyMasterData) -> list[dict[str, Any]]:
    """Return the payments; change and money that goes back are negative. Raises Unbookable."""
    found = []
    for place, payment in enumerate(document.payments):
        method = books.method(payment.payment_mode or payment.kind)
        if method is None:
            raise UnbookableDocument(Reason.UNMAPPED_TENDER, f"payments.{place}.kind: no_payment_method")
        found.append({"method": method, "amount": payment.amount})
    return found


def _item(line: DocumentLine, items: Mapping[str, TrytonArticle], is_sale: bool) -> TrytonArticle:
    item = items.get(_code(line))
    if item is None:
        raise UnbookableDocument(Reason.UNMAPPED_ITEM, "sku: no_item")
    if is_sale and line.quantity > 0 and not item.salable:
        raise UnbookableDocument(Reason.UNMAPPED_ITEM, "sku: item_not_salable")
    if line.quantity % Decimal(1).scaleb(-item.digits):
        raise _refused("quantity: more_places_than_the_items_unit")
    return item


def _code(line: DocumentLine) -> str:
    return line.item_code or line.sku


def _values(item: TrytonArticle, lines: Sequence[PricedLine]) -> list[dict[str, Any]]:
    return [
        {
            "product": item.id,
            "quantity": float(line.quantity),
            "unit_list_price": line.list_price,
            "unit_gross_price": line.gross_price,
        }
        for line in lines
    ]


def _rounded(amount: Decimal, step: Decimal) -> Decimal:
    """As Tryton rounds."""
    return amount.quantize(step, ROUND_HALF_EVEN)


def _refused(detail: str) -> UnbookableDocument:
    return UnbookableDocument(Reason.REFUSED_BY_SINK, detail)
