"""A contract simulator of Odoo: what its API does with what the sink sends, by Odoo's documentation and sources.

Each behaviour names where it was read. It is no Odoo: no ledger, no rights beyond one key, one company, taxes per line.
Where it is wrong about Odoo, the tests are wrong with it.
"""

import json
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.support.web import Request, Response

LOGIN, KEY = "till", "an-api-key"
MOVE = "account.move"
CENT = Decimal("0.01")
Row = dict[str, Any]


class OdooError(Exception):
    """An exception of Odoo's, by its qualified name, with its HTTP status in JSON-2 (odoo/exceptions.py)."""

    def __init__(self, name: str, status: int = 422, message: str = "") -> None:
        super().__init__(name)
        self.name, self.status, self.message = name, status, message


class OdooServer:
    """One database `shop` with one company."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.json2 = version >= "19"
        taxes = [(1, "19%", 19.0), (2, "7%", 7.0), (3, "0%", 0.0)]
        self.tables: dict[str, dict[int, Row]] = {
            MOVE: {},
            "ir.model": {1: {"model": MOVE}},
            "ir.model.fields": {},
            "res.company": {5: {"name": "Shop", "tax_calculation_rounding_method": "round_per_line"}},
            "res.currency": {1: {"name": "EUR", "active": True}},
            "res.partner": {7: {"name": "Walk-in"}},
            "account.journal": {3: {"code": "POS", "type": "sale", "company_id": 5}},
            "account.account": {44: {"code": "4980"}},
            "product.product": {101: {"default_code": "A-1"}},
            "account.tax": {
                number: {"name": name, "amount": rate, "price_include": False, "sequence": 1}
                | {"type_tax_use": "sale", "amount_type": "percent", "company_id": 5}
                for number, name, rate in taxes
            },
        }
        self.external: dict[str, int] = {}
        self.forbidden: set[str] = set()
        self.unpostable: set[str] = set()
        self._last = 1000

    # ---- the two protocols

    def __call__(self, request: Request) -> Response:
        before = {name: dict(rows) for name, rows in self.tables.items()}, dict(self.external)
        try:
            return self._json2(request) if self.json2 else self._jsonrpc(request)
        except OdooError as error:  # external_api.rst, Transaction: discarded in case of error
            self.tables, self.external = before
            # odoo/http.py, serialize_exception
            said = {"name": error.name, "message": error.message, "arguments": [], "context": {}, "debug": "Traceback"}
            if self.json2:
                return _json(error.status, said)
            return _json(
                200, {"jsonrpc": "2.0", "id": 0, "error": {"code": 0, "message": "Odoo Server Error", "data": said}}
            )

    def _json2(self, request: Request) -> Response:
        """addons/rpc/controllers/json2.py; external_api.rst."""
        if request.path == "/web/version":
            return _json(200, {"version": self.version})
        if not request.path.startswith("/json/2/"):
            raise OdooError("werkzeug.exceptions.NotFound", 404)
        if request.headers.get("authorization") != f"bearer {KEY}":
            raise OdooError("werkzeug.exceptions.Unauthorized", 401, "Invalid apikey")
        assert request.headers["x-odoo-database"] == "shop"
        said = json.loads(request.body)
        model, method = request.path.removeprefix("/json/2/").split("/")
        assert said.pop("context")["lang"] == "en_US"
        return _json(200, self._call(model, method, said.pop("ids", []), said))

    def _jsonrpc(self, request: Request) -> Response:
        """addons/rpc/controllers/jsonrpc.py, odoo/service: every answer has the status 200."""
        if request.path != "/jsonrpc":
            return Response(404, b"<html>")
        params = json.loads(request.body)["params"]
        match params["service"], params["method"]:
            case "common", "version":
                result: Any = {"server_version": self.version}
            case "common", "authenticate":
                result = 2 if params["args"][:3] == ["shop", LOGIN, KEY] else False
            case _:
                database, uid, key, model, method, args, kwargs = params["args"]
                if (database, uid, key) != ("shop", 2, KEY):
                    raise OdooError("odoo.exceptions.AccessDenied")
                kwargs.pop("context")
                if method == "create":  # odoo/api.py, _call_kw_model_create
                    kwargs["vals_list"], args = args[0], []
                result = self._call(model, method, args[0] if args else [], kwargs)
        return _json(200, {"jsonrpc": "2.0", "id": 0, "result": result})

    def _call(self, model: str, method: str, ids: list[int], said: Row) -> Any:
        if model not in self.tables:
            raise OdooError("werkzeug.exceptions.NotFound", 404, f"the model {model!r} does not exist")
        match method:
            case "search_read":
                return self._search(model, **said)
            case "create":
                return [self._add(model, values) for values in said["vals_list"]]
            case "fields_get":
                known = {row["name"]: {"type": row["ttype"]} for row in self.tables["ir.model.fields"].values()}
                return {name: known[name] for name in said["allfields"] if name in known}
            case "load":
                return self._load(**said)
            case "has_access" | "check_access_rights":
                assert (method == "has_access") == (self.version >= "18")
                return said["operation"] not in self.forbidden
        rows = [self.tables[MOVE][number] for number in ids if number in self.tables[MOVE]]
        if len(rows) < len(ids):
            raise OdooError("odoo.exceptions.MissingError", 404)
        for number, row in zip(ids, rows, strict=True):
            getattr(self, f"_{method}")(number, row)
        return True

    def _search(
        self, model: str, domain: list[Any], fields: list[str], order: str = "", limit: int | None = None
    ) -> list[Row]:
        known = {row["name"] for row in self.tables["ir.model.fields"].values()}
        asked = {condition[0] for condition in domain} | set(fields)
        if model == MOVE and any(name.startswith("x_") and name not in known for name in asked):
            raise OdooError("builtins.ValueError", 500, "Invalid field")
        rows = [row | {"id": number} for number, row in sorted(self.tables[model].items())]
        found = [row for row in rows if all(_true(row, *condition) for condition in domain)]
        return [{"id": row["id"]} | {name: row.get(name, False) for name in fields} for row in found[:limit]]

    def _add(self, model: str, values: Row) -> int:
        self._last += 1
        self.tables[model][self._last] = values
        return self._last

    # ---- account.move

    def _load(self, fields: list[str], data: list[list[str]]) -> Row:
        """odoo/models.py, load: a row without values of the record's own is another line of the one before.

        What has an external id that is known is written, not created. Any error keeps all from being loaded.
        """
        assert all(isinstance(cell, str) for row in data for cell in row)
        moves: list[tuple[Row, list[Row]]] = []
        for row in data:
            values = dict(zip(fields, row, strict=True))
            if values["id"]:
                moves.append(({n: v for n, v in values.items() if not n.startswith("invoice_line_ids/")}, []))
            moves[-1][1].append({n.split("/", 1)[1]: v for n, v in values.items() if n.startswith("invoice_line_ids/")})
        before = dict(self.tables[MOVE]), dict(self.external)
        ids, messages = [], []
        for place, (head, lines) in enumerate(moves):
            try:
                ids.append(self._write_move(head, lines))
            except OdooError as error:
                messages.append({"type": "error", "message": error.message, "record": place})
        if messages:
            self.tables[MOVE], self.external = before
            return {"ids": False, "messages": messages, "nextrow": 0}
        return {"ids": ids, "messages": [], "nextrow": 0}

    def _write_move(self, head: Row, lines: list[Row]) -> int:
        if int(head["partner_id/.id"]) not in self.tables["res.partner"]:
            raise OdooError("", message="No matching record found for database id in field 'Partner'")
        there = self.external.get(head["id"])
        if there is not None and self.tables[MOVE][there]["state"] != "draft":
            raise OdooError("", message="You cannot modify a posted entry")
        rounding = 0 if there is None else self.tables[MOVE][there]["posted_before"]
        row = {
            "state": "draft",
            "posted_before": bool(rounding),
            "move_type": head["move_type"],
            "invoice_date": head["invoice_date"],
            "ref": head["ref"],
            "reversed_entry_id": int(head["reversed_entry_id/.id"] or 0) or False,
            "currency_id": [int(head["currency_id/.id"]), "EUR"],
            "lines": lines,
            **{name: head[name] or False for name in head if name.startswith("x_")},
            **self._sums(lines),
        }
        row |= {name: int(row[name]) for name in ("x_tillstream_revision", "x_tillstream_lines")}
        if there is None:
            there = self.external[head["id"]] = self._add(MOVE, row)
        self.tables[MOVE][there] = row
        return there

    def _sums(self, lines: list[Row]) -> Row:
        """addons/account/models/account_tax.py, with the rounding method round_per_line."""
        net = tax = Decimal(0)
        for line in lines:
            amount = (Decimal(line["price_unit"]).quantize(CENT) * Decimal(line["quantity"])).quantize(
                CENT, ROUND_HALF_UP
            )
            taxed = Decimal(0)
            if line["tax_ids/.id"]:
                one = self.tables["account.tax"][int(line["tax_ids/.id"])]
                rate = Decimal(str(one["amount"])) / 100
                part = rate / (1 + rate) if one["price_include"] else rate
                taxed = (amount * part).quantize(CENT, ROUND_HALF_UP)
                amount -= taxed if one["price_include"] else 0
            net, tax = net + amount, tax + taxed
        return {"amount_untaxed": float(net), "amount_tax": float(tax), "amount_total": float(net + tax)}

    def _action_post(self, number: int, row: Row) -> None:
        """addons/account/models/account_move.py, _post."""
        if row["state"] != "draft":
            raise OdooError("odoo.exceptions.UserError", message="The entry must be in draft.")
        if row["amount_total"] < 0:
            raise OdooError("odoo.exceptions.UserError", message="You cannot validate an invoice with a negative total")
        if row["ref"] in self.unpostable:
            raise OdooError("odoo.exceptions.UserError", message="Sie dürfen nicht buchen")
        self.tables[MOVE][number] = row | {"state": "posted", "posted_before": True}

    def _button_draft(self, number: int, row: Row) -> None:
        if row["state"] not in ("posted", "cancel"):
            raise OdooError(
                "odoo.exceptions.UserError", message="Only posted/cancelled journal entries can be reset to draft."
            )
        self.tables[MOVE][number] = row | {"state": "draft"}

    def _button_cancel(self, number: int, row: Row) -> None:
        if row["state"] != "draft":
            raise OdooError("odoo.exceptions.UserError", message="Only draft journal entries can be cancelled.")
        self.tables[MOVE][number] = row | {"state": "cancel"}

    def _unlink(self, number: int, row: Row) -> None:
        if row["posted_before"]:
            raise OdooError(
                "odoo.exceptions.UserError", message="You cannot delete an entry which has been posted once."
            )
        del self.tables[MOVE][number]
        self.external = {name: to for name, to in self.external.items() if to != number}  # models.py, unlink


def _true(row: Row, field: str, operator: str, value: Any) -> bool:
    held = row.get(field, False)
    match operator:
        case "=":
            return bool(held == value)
        case "!=":
            return bool(held != value)
        case "in":
            return held in value
        case ">":
            return bool(held > value)
    raise AssertionError(operator)


def _json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode())
