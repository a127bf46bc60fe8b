"""Odoo: a receipt is a customer invoice (`account.move`, `out_invoice`) or a credit note (`out_refund`), posted.

Invoices and their lines are created by `load`, the import of Odoo, with external ids made of the receipt and its
revision: loading the same document again gives the same invoice. They are recognised by custom fields
(`x_tillstream_…`), which `check --apply` creates. An invoice is cancelled where a newer revision takes its place.

Odoo computes the taxes itself, by its own `account.tax` of that rate, so tax reports are right. It has to round as the
tills do (per line; prices with or without tax, as the tax says): an invoice whose sums differ is refused, not posted.
Payments are not registered: the receivable stays open, for the bank's or the till's journal to be reconciled with.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import quote, unquote

from schemas.document import DocumentLine, ErpDocument, to_json
from sinks.base import DocumentsRefused, PreflightFinding
from sinks.erp.sink import BookingState, DocumentExists, ErpBooking, bookings_of, digest, key_of
from sinks.odoo import checks
from sinks.odoo.checks import OdooDefaults, OdooMasterData, OdooTax
from sinks.odoo.rpc import OdooClient
from sinks.store_days import as_held

MOVE = "account.move"
PAGE = 500
_STATES: dict[str, BookingState] = {"draft": "created", "posted": "posted", "cancel": "cancelled"}
_FIELDS = [
    *("id", "state", "posted_before", "move_type", "amount_untaxed", "amount_tax", "amount_total"),
    *("x_tillstream_ref", "x_tillstream_revision", "x_tillstream_event", "x_tillstream_content"),
    "x_tillstream_rounding",
]
#: The columns of an invoice, and of its lines.
_HEAD = (
    *("id", "move_type", "company_id/.id", "journal_id/.id", "partner_id/.id", "currency_id/.id"),
    *("invoice_date", "date", "ref", "reversed_entry_id/.id"),
    *("x_tillstream_ref", "x_tillstream_revision", "x_tillstream_event", "x_tillstream_content"),
    *("x_tillstream_store", "x_tillstream_lines", "x_tillstream_rounding", "x_tillstream_document"),
)
_LINE = tuple(
    f"invoice_line_ids/{name}"
    for name in ("id", "name", "product_id/.id", "account_id/.id", "quantity", "price_unit", "tax_ids/.id")
)
_REPORTABLE = 64  # characters of a receipt's reference that people see


class OdooSystem:
    """One company of one database."""

    batch = 50
    post_batch = 20

    def __init__(self, client: OdooClient, places: OdooDefaults) -> None:
        self.client = client
        self.places = places
        self._known: OdooMasterData | None = None

    def rows(self, model: str, domain: list[Any], fields: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        """Return the records that match the domain."""
        return list(self.client.call(model, "search_read", domain=domain, fields=[*fields], **more))

    # ---- sinks.erp.sink.ErpSystem

    def find(self, receipts: Sequence[str]) -> list[ErpBooking]:
        """As in the protocol."""
        rows = self.rows(MOVE, [["x_tillstream_ref", "in", list(receipts)]], _FIELDS) if receipts else []
        return [_booking(row) for row in rows]

    def documents(self, receipts: Sequence[str], *, posted: bool = True) -> list[tuple[ErpBooking, str]]:
        """As in the protocol."""
        domain: list[Any] = [["x_tillstream_ref", "in", list(receipts)]]
        domain += [["state", "=", "posted"]] if posted else []
        rows = self.rows(MOVE, domain, [*_FIELDS, "x_tillstream_document"]) if receipts else []
        return [(_booking(row), row["x_tillstream_document"]) for row in rows]

    def require_bookable(self, document: ErpDocument) -> None:
        """As in the protocol."""
        master = self._master()
        if not document.lines:
            raise DocumentsRefused("no_lines: an invoice in Odoo needs one")
        if document.gross != document.net + document.tax + document.rounding:
            raise DocumentsRefused("gross: is not net + tax + rounding")
        if document.currency not in master.currencies:
            raise DocumentsRefused("currency: is not active in Odoo")
        if document.rounding and master.rounding_account is None:
            raise DocumentsRefused("rounding: no rounding_account in the sink's URL")
        for line in document.lines:
            if (line.tax or line.tax_rate) and self._tax(line) is None:
                raise DocumentsRefused("tax: no sales tax in Odoo has this rate, or this name")

    def create(self, documents: Sequence[ErpDocument]) -> None:
        """As in the protocol."""
        master = self._master()
        codes = sorted({line.item_code or line.sku for d in documents for line in d.lines})
        rows = self.rows("product.product", [["default_code", "in", codes]], ["id", "default_code"])
        products = {row["default_code"]: row["id"] for row in rows}
        refs = [d.original_ref for d in documents if d.original_ref is not None and d.kind != "invoice"]
        originals = {b.receipt: b.name for b in bookings_of(self, refs) if b.state == "posted"}
        data = [row for d in documents for row in self._rows_of(d, master, products, originals)]
        told = self.client.call(MOVE, "load", fields=[*_HEAD, *_LINE], data=data)
        errors = [m for m in told.get("messages") or [] if m.get("type") == "error"]
        if told.get("ids") and not errors:
            return
        if len(documents) == 1 and self._is_there(documents[0]):
            raise DocumentExists("already there")
        words = " ".join(str(errors[0].get("message") if errors else "nothing was loaded").split())[:200]
        raise DocumentsRefused(f"load: {words}")

    def withdraw(self, booking: ErpBooking) -> None:
        """As in the protocol."""
        ids = [int(booking.name)]
        [row] = self.rows(MOVE, [["id", "in", ids]], ["id", "state", "posted_before"])
        if row["state"] == "posted":
            self.client.call(MOVE, "button_draft", ids)
        if row["state"] == "posted" or row["posted_before"]:  # a crash may have come after button_draft
            self.client.call(MOVE, "button_cancel", ids)
        else:
            self.client.call(MOVE, "unlink", ids)

    def post(self, bookings: Sequence[ErpBooking]) -> None:
        """As in the protocol."""
        self.client.call(MOVE, "action_post", [int(b.name) for b in bookings])

    def booked(self, store: str | None, day: date | None) -> Iterator[ErpDocument]:
        """As in the protocol."""
        domain: list[Any] = [["state", "=", "posted"], ["x_tillstream_ref", "!=", False]]
        domain += [["x_tillstream_store", "=", quote(store, safe="")]] if store is not None else []
        domain += [["invoice_date", "=", day.isoformat()]] if day is not None else []
        fields = [*_FIELDS, "invoice_date", "currency_id", "x_tillstream_store", "x_tillstream_document"]
        currencies = {number: name for name, number in self._master().currencies.items()}
        last = 0
        while True:
            rows = self.rows(MOVE, [*domain, ["id", ">", last]], fields, order="id asc", limit=PAGE)
            for row in rows:
                where, at = unquote(row["x_tillstream_store"] or ""), date.fromisoformat(row["invoice_date"])
                b, text, currency = _booking(row), row["x_tillstream_document"], currencies[row["currency_id"][0]]
                yield as_held(text, where, at, currency, net=b.net, tax=b.tax, gross=b.gross)
            if len(rows) < PAGE:
                return
            last = rows[-1]["id"]

    def ping(self) -> None:
        """As in the protocol; reloads the master data."""
        self._known = None
        self._master()

    def check(self, *, apply: bool) -> list[PreflightFinding]:
        """As in the protocol."""
        return checks.findings(self, apply=apply)

    def close(self) -> None:
        """As in the protocol."""
        self.client.close()

    # ---- master data

    def _master(self) -> OdooMasterData:
        if self._known is None:
            self._known = checks.master_data(self)
        return self._known

    def _tax(self, line: DocumentLine) -> OdooTax | None:
        """By the name that a mapping gives, or else the first one of the rate."""
        taxes = self._master().taxes
        if line.tax_code is not None:
            return next((tax for tax in taxes if tax.name == line.tax_code), None)
        return next((tax for tax in taxes if tax.rate == line.tax_rate), None)

    def _is_there(self, document: ErpDocument) -> bool:
        return any(b.revision == document.revision for b in self.find([digest(document.external_ref)]))

    # ---- a document as rows to load

    def _rows_of(
        self, d: ErpDocument, master: OdooMasterData, products: dict[str, int], originals: dict[str, str]
    ) -> list[list[Any]]:
        sign = -1 if d.gross < 0 or (d.gross == 0 and d.kind != "invoice") else 1
        key = f"__tillstream__.{key_of(d).lower().replace('-', '_')}"
        original = originals.get(digest(d.original_ref)) if sign < 0 and d.original_ref is not None else None
        head = {
            "id": key,
            "move_type": "out_refund" if sign < 0 else "out_invoice",
            "company_id/.id": master.company,
            "journal_id/.id": master.journal,
            "partner_id/.id": self.places.customer,
            "currency_id/.id": master.currencies[d.currency],
            "invoice_date": d.business_date.isoformat(),
            "date": d.business_date.isoformat(),
            "ref": d.external_ref[:_REPORTABLE],
            "reversed_entry_id/.id": original,
            "x_tillstream_ref": digest(d.external_ref),
            "x_tillstream_revision": d.revision,
            "x_tillstream_event": digest(d.event_id),
            "x_tillstream_content": d.content,
            "x_tillstream_store": quote(d.store, safe=""),
            "x_tillstream_lines": len(d.lines),
            "x_tillstream_rounding": format(d.rounding, "f"),
            "x_tillstream_document": to_json(d).decode(),
        }
        lines = [self._line(line, sign, products) for line in d.lines]
        if d.rounding:
            lines.append(["Rounding", None, master.rounding_account, 1, d.rounding * sign, None])
        rows = []
        for number, line in enumerate(lines):
            first = [_cell(head[name]) for name in _HEAD] if number == 0 else [""] * len(_HEAD)
            rows.append([*first, f"{key}_{number}", *map(_cell, line)])
        return rows

    def _line(self, line: DocumentLine, sign: int, products: dict[str, int]) -> list[Any]:
        tax = self._tax(line) if line.tax or line.tax_rate else None
        amount = (line.gross if tax is not None and tax.included else line.net) * sign
        quantity = line.quantity * sign
        name = line.description or line.sku
        price = (amount / quantity).quantize(Decimal("0.01"), ROUND_HALF_UP) if quantity else Decimal(0)
        if price * quantity != amount:  # a price of two places does not give the amount: the amount is the price
            name, quantity, price = f"{format(quantity, 'f')} × {name}", Decimal(1), amount
        product = products.get(line.item_code or line.sku)
        return [name, product, None, quantity, price, None if tax is None else tax.id]


def _cell(value: Any) -> str:
    """As in a file that is imported."""
    if value is None:
        return ""
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _booking(row: dict[str, Any]) -> ErpBooking:
    sign = -1 if row["move_type"] == "out_refund" else 1
    rounding = Decimal(row["x_tillstream_rounding"] or 0)
    # An invoice that somebody has set back to draft is held all the same: it is for them to post it again.
    state = "posted" if row["state"] == "draft" and row["posted_before"] else _STATES[row["state"]]
    return ErpBooking(
        name=str(row["id"]),
        receipt=row["x_tillstream_ref"],
        revision=int(row["x_tillstream_revision"]),
        event=row["x_tillstream_event"],
        content=row["x_tillstream_content"] or "",
        state=state,
        net=_decimal(row["amount_untaxed"]) * sign - rounding,
        tax=_decimal(row["amount_tax"]) * sign,
        gross=_decimal(row["amount_total"]) * sign,
    )


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value or 0)).quantize(Decimal("0.0001"))
