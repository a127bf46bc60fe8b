"""A contract simulator of ERPNext: what its REST API does with what the sink sends, by Frappe's and ERPNext's sources.

Each behaviour names the file it was read in. It is no ERPNext: no ledger, no stock, no fiscal years, no permissions
beyond one token. Where it is wrong about ERPNext, the tests are wrong with it.
"""

import json
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from tests.support.web import Request, Response

KEY, SECRET = "key", "api-secret"
INVOICE = "Sales Invoice"
Row = dict[str, Any]


class FrappeError(Exception):
    """An exception of Frappe's: its class name, its HTTP status (frappe/exceptions.py), a message for people."""

    def __init__(self, kind: str, status: int = 417, message: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.status = status
        self.message = message


class ErpNextSite:
    """One site. `prompt`: Sales Invoices are named by who makes them; `language`: that of messages."""

    def __init__(self, *, prompt: bool = True, fields: bool = False, version: str = "15.70.1") -> None:
        self.prompt = prompt
        self.version = version
        self.tables: dict[str, dict[str, Row]] = {
            INVOICE: {},
            "Custom Field": {},
            "Company": {"Shop": {"name": "Shop"}},
            "Customer": {"Walk-in": {"name": "Walk-in"}, "C-7": {"name": "C-7"}},
            "Warehouse": {"Stores - S": {"name": "Stores - S"}},
            "Account": {"VAT - S": {"name": "VAT - S"}, "Round Off - S": {"name": "Round Off - S"}},
        }
        self.unknown_items: set[str] = set()
        self.forbidden: set[str] = set()
        self.negative_rates = 1
        self.series = "ACC-SINV-2026-{:05}"
        self._series = 0

    # ---- the request, frappe/app.py

    def __call__(self, request: Request) -> Response:
        # frappe/auth.py: validate_api_key_secret
        if request.headers.get("authorization") != f"token {KEY}:{SECRET}":
            return _error(FrappeError("AuthenticationError", 401))
        before = {name: dict(rows) for name, rows in self.tables.items()}
        try:
            return Response(*self._handle(request))
        except FrappeError as error:
            self.tables = before  # frappe/app.py: an exception rolls the request's transaction back
            return _error(error)

    def _handle(self, request: Request) -> tuple[int, bytes]:
        said = json.loads(request.body or b"{}")
        # frappe/app.py, make_form_dict: of a list in the body only the first element is kept
        said = {name: value[0] if isinstance(value, list) else value for name, value in said.items()}
        parts = request.path.strip("/").split("/", 3)
        if parts[1] == "method":
            return 200, _json({"message": self._call(parts[2], said)})
        name = parts[3]  # frappe/api/v1.py: <path:name>, so with its slashes
        if name not in self.tables[INVOICE]:
            raise FrappeError("DoesNotExistError", 404)
        if request.method == "DELETE":  # frappe/api/v1.py, delete_doc
            self._delete(name)
            return 202, _json({"data": "ok"})
        # frappe/api/v1.py, execute_doc_method; issue 14869: the answer is nothing
        self._update(name, {"submit": 1, "cancel": 2}[said["run_method"]])
        return 200, _json({"data": None})

    def _call(self, method: str, said: Row) -> Any:
        match method:
            case "frappe.auth.get_logged_user":
                return "till@shop.example"
            case "frappe.utils.change_log.get_versions":
                return {"frappe": {"version": self.version}, "erpnext": {"version": self.version}}
            case "frappe.client.get_list":
                return self._list(said)
            case "frappe.client.get_single_value":
                return self.negative_rates
            case "frappe.client.has_permission":
                return {"has_permission": said["perm_type"] not in self.forbidden}
            case "frappe.client.insert":
                return self._insert(json.loads(said["doc"]))
            case "frappe.client.insert_many":
                docs = json.loads(said["docs"])
                if len(docs) > 200:  # frappe/client.py, insert_many
                    raise FrappeError("ValidationError", message="Only 200 inserts allowed in one request")
                return [self._insert(doc)["name"] for doc in docs]
        raise FrappeError("ValidationError", 404, f"Failed to get method for command {method}")

    def _list(self, said: Row) -> list[Row]:
        if f"read {said['doctype']}" in self.forbidden:
            raise FrappeError("PermissionError", 403)
        rows = [
            r for r in self.tables[said["doctype"]].values() if all(_true(r, f) for f in json.loads(said["filters"]))
        ]
        rows.sort(key=lambda row: str(row["name"]))
        limit = int(said.get("limit_page_length", 20)) or len(rows)  # frappe/client.py: 20, unless told; 0 is all
        return [{field: row.get(field) for field in json.loads(said["fields"])} for row in rows[:limit]]

    # ---- documents

    def _insert(self, doc: Row) -> Row:
        doctype = doc["doctype"]
        if doctype == "Custom Field":
            doc["name"] = f"{doc['dt']}-{doc['fieldname']}"
        elif doctype == INVOICE:
            doc = self._validated(doc)
            if not self.prompt:  # frappe/model/naming.py, set_new_name: the name is dropped unless autoname is prompt
                self._series += 1
                doc["name"] = self.series.format(self._series)
        if doc["name"] in self.tables[doctype]:
            raise FrappeError("DuplicateEntryError", 409)  # frappe/model/base_document.py, db_insert: primary key
        for field in self.tables["Custom Field"].values():
            if field["dt"] == doctype and field["unique"]:
                name = field["fieldname"]
                if any(row.get(name) == doc.get(name) for row in self.tables[doctype].values()):
                    # frappe/model/base_document.py, show_unique_validation_message
                    raise FrappeError("UniqueValidationError", message=f"{name} must be unique")
        self.tables[doctype][doc["name"]] = doc
        return doc

    def _validated(self, doc: Row) -> Row:
        """erpnext/accounts/doctype/sales_invoice/sales_invoice.py and erpnext/controllers."""
        known = {field["fieldname"] for field in self.tables["Custom Field"].values()}
        # frappe/model/base_document.py: what is no field of the doctype is not stored
        doc = {name: value for name, value in doc.items() if not name.startswith("tillstream_") or name in known}
        doc |= {"docstatus": int(doc.get("docstatus") or 0)}
        for doctype in ("Company", "Customer"):
            if doc[doctype.lower()] not in self.tables[doctype]:
                raise FrappeError("LinkValidationError", message=f"Could not find {doctype}: {doc[doctype.lower()]}")
        if not doc["items"]:
            raise FrappeError("MandatoryError", message="items")
        for item in doc["items"]:
            if item["item_code"] in self.unknown_items:
                raise FrappeError(
                    "LinkValidationError", message=f"Could not find Row #1: Item: <b>{item['item_code']}</b>"
                )
            quantity, rate = Decimal(item["qty"]), _flt(item["rate"])
            if quantity < 0 and not doc["is_return"]:
                raise FrappeError("ValidationError", message="quantity must be positive number")
            if doc["is_return"] and quantity > 0:  # erpnext/controllers/sales_and_purchase_return.py
                raise FrappeError("ValidationError", message="quantity must be negative number")
            if rate < 0 and not self.negative_rates:
                raise FrappeError("ValidationError", message="rate must not be negative")
        if doc["is_return"] and doc["return_against"] is not None:  # validate_return_against: submitted, same customer
            against = self.tables[INVOICE].get(doc["return_against"])
            if against is None or against["docstatus"] != 1 or against["customer"] != doc["customer"]:
                raise FrappeError("ValidationError", message=f"Invalid Return Against: {doc['return_against']}")
        # erpnext/controllers/taxes_and_totals.py: rates and amounts are rounded to the currency's precision
        net = sum((_flt(_flt(item["rate"]) * Decimal(item["qty"])) for item in doc["items"]), Decimal(0))
        tax = sum((_flt(row["tax_amount"]) for row in doc["taxes"]), Decimal(0))
        sums = {"net_total": net, "total_taxes_and_charges": tax, "grand_total": net + tax}
        paid = sum((_flt(row["amount"]) for row in doc["payments"]), Decimal(0))
        if doc["is_pos"] and paid != net + tax:  # sales_invoice.py, validate_pos
            raise FrappeError(
                "ValidationError", message="Paid amount + Write Off Amount can not be greater than Grand Total"
            )
        return doc | {name: float(value) for name, value in sums.items()}  # frappe/utils/response.py, json_handler

    def _update(self, name: str, docstatus: int) -> None:
        """frappe/model/document.py, check_docstatus_transition: 0 to 1, 1 to 2."""
        row = self.tables[INVOICE][name]
        if (row["docstatus"], docstatus) not in ((0, 1), (1, 2)):
            raise FrappeError("DocstatusTransitionError")
        if docstatus == 2 and any(
            r.get("return_against") == name and r["docstatus"] == 1 for r in self.tables[INVOICE].values()
        ):  # frappe/model/delete_doc.py, check_if_doc_is_linked
            raise FrappeError("LinkExistsError")
        self.tables[INVOICE][name] = row | {"docstatus": docstatus}

    def _delete(self, name: str) -> None:
        if self.tables[INVOICE][name]["docstatus"] == 1:  # frappe/model/delete_doc.py
            raise FrappeError("ValidationError", message="Submitted Record cannot be deleted.")
        del self.tables[INVOICE][name]


def _true(row: Row, condition: list[Any]) -> bool:
    field, operator, value = condition
    match operator:
        case "=":
            return bool(row.get(field) == value)
        case "in":
            return row.get(field) in value
        case ">":
            return str(row.get(field)) > str(value)
        case "is":
            return bool(row.get(field))
    raise AssertionError(operator)


def _flt(value: Any) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


def _error(error: FrappeError) -> Response:
    """frappe/utils/response.py, report_error and make_logs."""
    said: Row = {"exc_type": error.kind, "exception": f"frappe.exceptions.{error.kind}: {error.message}"}
    if error.message:
        said["_server_messages"] = json.dumps([json.dumps({"message": error.message, "title": "Meldung"})])
    return Response(error.status, _json(said))
