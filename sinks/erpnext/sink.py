"""ERPNext: a receipt is a Sales Invoice with `is_pos` and `update_stock`, by Frappe's REST API.

Refunds and voids are returns (`is_return`, `return_against` where the ERP holds the sale); an invoice is cancelled
where a newer revision takes its place. Invoices are recognised by custom fields, which `check --apply` creates:
`tillstream_key` is unique. It is offered as the invoice's name too, which Frappe takes where Sales Invoice is named by
prompt, and replaces by one of its series otherwise (frappe/model/naming.py).

Taxes are booked as the till computed them (charge type Actual), so ERPNext has nothing to compute differently. It
rounds rates to `precision` places, so a line may come out a cent off: that cent goes to `rounding_account`, as cash
rounding does.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from urllib.parse import quote, unquote

from schemas.document import DocumentLine, ErpDocument, to_json
from sinks.base import DocumentsRefused, PreflightFinding, SinkUnavailable
from sinks.erp.sink import BookingState, DocumentExists, ErpBooking, bookings_of, digest, key_of
from sinks.erpnext import checks
from sinks.erpnext.checks import ErpNextDefaults
from sinks.http import HttpAnswer, HttpClient, to_body
from sinks.store_days import as_held

INVOICE = "Sales Invoice"
PAGE = 500
_STATES: dict[int, BookingState] = {0: "created", 1: "posted", 2: "cancelled"}
_FIELDS = [
    *("name", "docstatus", "tillstream_ref", "tillstream_revision", "tillstream_event", "tillstream_content"),
    *("net_total", "total_taxes_and_charges", "grand_total", "tillstream_adjusted", "tillstream_rounding"),
]

#: Frappe's exceptions that say nothing about the document, by their class: messages are in the user's language.
_WORLD = {
    "AuthenticationError": "auth",
    "CSRFTokenError": "auth",
    "InReadOnlyMode": "readonly",
    "PermissionError": "privilege",
    "QueryDeadlockError": "lock",
    "QueryTimeoutError": "lock",
    "RateLimitExceededError": "limit",
    "SessionExpired": "auth",
    "SessionStopped": "maintenance",
    "TimestampMismatchError": "lock",
    "TooManyRequestsError": "limit",
}
_TAKEN = {"DuplicateEntryError", "UniqueValidationError", "NameError"}
_TAG = re.compile(r"<[^>]*>")


class ErpNextSystem:
    """One site of ERPNext, as one of its users."""

    batch = 50
    post_batch = 1

    def __init__(self, http: HttpClient, defaults: ErpNextDefaults) -> None:
        self.http = http
        self.defaults = defaults

    # ---- calls

    def call(self, method: str, **arguments: Any) -> Any:
        """Return a whitelisted method's result. Lists are sent as JSON in a text: Frappe would take their first
        element."""
        said = {name: json.dumps(v) if isinstance(v, list | dict) else v for name, v in arguments.items()}
        return _result(self.http.send("POST", f"/api/method/{quote(method)}", to_body(said)))["message"]

    def rows(self, doctype: str, fields: Sequence[str], filters: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
        """All rows that the filters are true of, or those that `more` says."""
        asked = {"limit_page_length": 0} | more
        return list(
            self.call("frappe.client.get_list", doctype=doctype, fields=[*fields], filters=[*filters], **asked) or []
        )

    # ---- sinks.erp.sink.ErpSystem

    def find(self, receipts: Sequence[str]) -> list[ErpBooking]:
        """As in the protocol."""
        rows = self.rows(INVOICE, _FIELDS, [["tillstream_ref", "in", list(receipts)]]) if receipts else []
        return [_booking(row) for row in rows]

    def documents(self, receipts: Sequence[str], *, posted: bool = True) -> list[tuple[ErpBooking, str]]:
        """As in the protocol."""
        filters: list[Any] = [["tillstream_ref", "in", list(receipts)]]
        filters += [["docstatus", "=", 1]] if posted else []
        rows = self.rows(INVOICE, [*_FIELDS, "tillstream_document"], filters) if receipts else []
        return [(_booking(row), row["tillstream_document"]) for row in rows]

    def require_bookable(self, document: ErpDocument) -> None:
        """As in the protocol."""
        if not document.lines:
            raise DocumentsRefused("no_lines: an invoice in ERPNext needs one")
        if any(line.quantity == 0 and line.net != 0 for line in document.lines):
            raise DocumentsRefused("lines: money without a quantity")
        if document.gross != document.net + document.tax + document.rounding:
            raise DocumentsRefused("gross: is not net + tax + rounding")
        if document.tax != sum((line.tax for line in document.lines), Decimal(0)):
            raise DocumentsRefused("tax: is not the sum of the lines")
        if document.payments and sum(p.amount for p in document.payments) != document.gross:
            raise DocumentsRefused("payments: are not the gross")
        if self._to_round(document) and self.defaults.rounding_account is None:
            raise DocumentsRefused("rounding: no rounding_account in the sink's URL")
        if any(line.tax and self._tax_account(line) is None for line in document.lines):
            raise DocumentsRefused("tax: no tax_code from a mapping, and no tax_account in the sink's URL")

    def create(self, documents: Sequence[ErpDocument]) -> None:
        """As in the protocol."""
        originals = self._originals(documents)
        self.call("frappe.client.insert_many", docs=[self._invoice(d, originals) for d in documents])

    def withdraw(self, booking: ErpBooking) -> None:
        """As in the protocol."""
        if booking.state == "created":
            _result(self.http.send("DELETE", _path(booking)))
        else:
            self._run("cancel", booking)

    def post(self, bookings: Sequence[ErpBooking]) -> None:
        """As in the protocol."""
        (booking,) = bookings
        self._run("submit", booking)

    def _run(self, method: str, booking: ErpBooking) -> None:
        # Not by setting docstatus: older versions take that for less than a cancellation (frappe issue 14869).
        _result(self.http.send("POST", _path(booking), to_body({"run_method": method})))

    def booked(self, store: str | None, day: date | None) -> Iterator[ErpDocument]:
        """As in the protocol."""
        filters: list[Any] = [["docstatus", "=", 1], ["tillstream_ref", "is", "set"]]
        filters += [["tillstream_store", "=", quote(store, safe="")]] if store is not None else []
        filters += [["posting_date", "=", day.isoformat()]] if day is not None else []
        fields = [*_FIELDS, "posting_date", "currency", "tillstream_store", "tillstream_document"]
        last = ""
        while True:  # by name, which does not shift as offsets do when invoices come meanwhile
            paged = [*filters, ["name", ">", last]]
            rows = self.rows(INVOICE, fields, paged, order_by="name asc", limit_page_length=PAGE)
            for row in rows:
                where, at = unquote(row["tillstream_store"]), date.fromisoformat(str(row["posting_date"]))
                b, text = _booking(row), row["tillstream_document"]
                yield as_held(text, where, at, row["currency"], net=b.net, tax=b.tax, gross=b.gross)
            if len(rows) < PAGE:
                return
            last = rows[-1]["name"]

    def ping(self) -> None:
        """As in the protocol."""
        self.rows(INVOICE, ["name"], [], limit_page_length=1)

    def check(self, *, apply: bool) -> list[PreflightFinding]:
        """As in the protocol."""
        return checks.findings(self, apply=apply)

    def close(self) -> None:
        """As in the protocol."""
        self.http.close()

    # ---- a document as an invoice

    def _originals(self, documents: Sequence[ErpDocument]) -> dict[str, str]:
        """Return the names of the invoices that refunds and voids refer to, by receipt."""
        refs = [d.original_ref for d in documents if d.original_ref is not None and d.kind != "invoice"]
        return {b.receipt: b.name for b in bookings_of(self, refs) if b.state == "posted"}

    def _invoice(self, d: ErpDocument, originals: dict[str, str]) -> dict[str, Any]:
        is_return = d.kind != "invoice" and d.gross <= 0
        company = d.company or self.defaults.company
        against = originals.get(digest(d.original_ref)) if is_return and d.original_ref is not None else None
        return {
            "doctype": INVOICE,
            "name": key_of(d),
            "company": company,
            "customer": d.customer_code or self.defaults.customer,
            "currency": d.currency,
            "set_posting_time": 1,
            "posting_date": d.business_date.isoformat(),
            "due_date": d.business_date.isoformat(),
            "is_pos": int(bool(d.payments)),
            "update_stock": int(self.defaults.update_stock),
            "set_warehouse": d.warehouse or self.defaults.warehouse,
            "is_return": int(is_return),
            "return_against": against,
            "ignore_pricing_rule": 1,
            "disable_rounded_total": 1,
            "items": [self._item(d, line) for line in d.lines if line.quantity],
            "taxes": self._taxes(d),
            "payments": [
                {"mode_of_payment": mode, "account": account, "amount": _text(amount)}
                for (mode, account), amount in _by_mode(d).items()
                if amount
            ],
            **self._our_fields(d),
        }

    def _our_fields(self, d: ErpDocument) -> dict[str, Any]:
        # Frappe takes "<" for markup and cleans what follows it; in JSON it can be written otherwise.
        text = to_json(d).decode().replace("<", "\\u003c").replace(">", "\\u003e")
        return {
            "tillstream_key": key_of(d),
            "tillstream_ref": digest(d.external_ref),
            "tillstream_revision": d.revision,
            "tillstream_event": digest(d.event_id),
            "tillstream_content": d.content,
            "tillstream_store": quote(d.store, safe=""),  # spaces at its ends, and markup, would not last
            "tillstream_lines": len(d.lines),
            "tillstream_adjusted": _text(self._adjusted(d)),
            "tillstream_rounding": _text(d.rounding),
            "tillstream_document": text,
        }

    def _item(self, d: ErpDocument, line: DocumentLine) -> dict[str, Any]:
        rate = _text(self._rate(line))
        return {
            "item_code": line.item_code or line.sku,
            "description": line.description or None,
            "qty": _text(line.quantity),
            "uom": line.item_unit,
            "rate": rate,
            "price_list_rate": rate,
            "warehouse": d.warehouse or self.defaults.warehouse,
            "cost_center": d.cost_centre,
        }

    def _taxes(self, d: ErpDocument) -> list[dict[str, Any]]:
        sums: dict[tuple[str, str], Decimal] = {}
        for line in d.lines:
            if line.tax:
                name = (str(self._tax_account(line)), f"{_text(line.tax_rate)} %")
                sums[name] = sums.get(name, Decimal(0)) + line.tax
        if to_round := self._to_round(d):
            sums[str(self.defaults.rounding_account), "Rounding"] = to_round
        return [
            {
                "charge_type": "Actual",
                "account_head": account,
                "description": description,
                "tax_amount": _text(amount),
                "cost_center": d.cost_centre,
            }
            for (account, description), amount in sums.items()
        ]

    def _tax_account(self, line: DocumentLine) -> str | None:
        return line.tax_code or self.defaults.tax_account

    def _to_round(self, d: ErpDocument) -> Decimal:
        return self._adjusted(d) + d.rounding

    def _adjusted(self, d: ErpDocument) -> Decimal:
        """Return the difference between ERPNext's line amounts and the document's net."""
        return d.net - sum((self._amount(line) for line in d.lines), Decimal(0))

    def _rate(self, line: DocumentLine) -> Decimal:
        return self._rounded(line.net / line.quantity) if line.quantity else Decimal(0)

    def _amount(self, line: DocumentLine) -> Decimal:
        return self._rounded(self._rate(line) * line.quantity)

    def _rounded(self, amount: Decimal) -> Decimal:
        return amount.quantize(Decimal(1).scaleb(-self.defaults.precision), ROUND_HALF_EVEN)


def _path(booking: ErpBooking) -> str:
    return f"/api/resource/{quote(INVOICE)}/{quote(booking.name, safe='')}"


def _by_mode(d: ErpDocument) -> dict[tuple[str, str | None], Decimal]:
    """Change goes off the money of its kind: ERPNext wants to know what stays in the till."""
    sums: dict[tuple[str, str | None], Decimal] = {}
    for payment in d.payments:
        name = (payment.payment_mode or payment.kind, payment.account)
        sums[name] = sums.get(name, Decimal(0)) + payment.amount
    return sums


def _booking(row: dict[str, Any]) -> ErpBooking:
    adjusted, rounding = _decimal(row["tillstream_adjusted"]), _decimal(row["tillstream_rounding"])
    return ErpBooking(
        name=row["name"],
        receipt=row["tillstream_ref"],
        revision=int(row["tillstream_revision"]),
        event=row["tillstream_event"],
        content=row["tillstream_content"],
        state=_STATES[int(row["docstatus"])],
        net=_decimal(row["net_total"]) + adjusted,
        tax=_decimal(row["total_taxes_and_charges"]) - adjusted - rounding,
        gross=_decimal(row["grand_total"]),
    )


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value or 0)).quantize(Decimal("0.0001"))


def _text(amount: Decimal) -> str:
    return format(amount, "f")


def _result(answer: HttpAnswer) -> Any:
    """Return the answer's JSON. Raises DocumentsRefused, AlreadyThere and SinkUnavailable."""
    if 200 <= answer.status < 300:
        said = answer.json()
        if not isinstance(said, dict):
            raise SinkUnavailable("connection", "what answers is no ERPNext")
        return said if "message" in said or "data" in said else {"message": None} | said
    error = error_of(answer)
    kind = str(error.get("exc_type") or "")
    if kind in _WORLD:
        outage = answer.trouble("ERPNext", kind)
        outage.kind = _WORLD[kind]
        raise outage
    if answer.status == 409 or kind in _TAKEN:
        raise DocumentExists(kind or "DuplicateEntryError")
    if answer.status == 413 or (kind and 400 <= answer.status < 500):
        raise DocumentsRefused(f"{kind or 'too_large'}: {told(error)}".rstrip(": "))
    if answer.status == 503:
        outage = answer.trouble("ERPNext", "it is in maintenance, or overloaded")
        outage.kind = "maintenance"
        raise outage
    raise answer.trouble("ERPNext", kind)


def error_of(answer: HttpAnswer) -> dict[str, Any]:
    """Return Frappe's error messages; none if a proxy or an HTML page answered."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def told(error: dict[str, Any]) -> str:
    """Return the first message for people, which is in their language, without markup."""
    try:
        first = json.loads(json.loads(error.get("_server_messages") or "[]")[0])
        message = first["message"] if isinstance(first, dict) else first
    except (ValueError, LookupError, TypeError):
        return ""
    return " ".join(_TAG.sub(" ", str(message)).split())[:200]
