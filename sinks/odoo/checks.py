"""Preflight checks of an Odoo database, before anything is written to it, and the master data that the sink needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from sinks.base import SCHEMA_ADVICE, PreflightFinding, SinkUnavailable
from sinks.odoo.rpc import OdooClient

OLDEST, NEWEST = 16, 19
_HAS_ACCESS_SINCE = 18
MOVE = "account.move"
#: Custom fields of account.move with their definitions.
FIELDS = {
    "x_tillstream_ref": "char",
    "x_tillstream_revision": "integer",
    "x_tillstream_event": "char",
    "x_tillstream_content": "char",
    "x_tillstream_store": "char",
    "x_tillstream_lines": "integer",
    "x_tillstream_rounding": "char",
    "x_tillstream_document": "text",
}


@dataclass(frozen=True, slots=True)
class OdooDefaults:
    """Where invoices are booked: a company's name, a sales journal's code, a customer's id, an account for rounding."""

    company: str
    journal: str
    customer: int
    rounding_account: str | None = None


@dataclass(frozen=True, slots=True)
class OdooTax:
    """A sales tax of the company."""

    id: int
    name: str
    rate: Decimal
    included: bool


@dataclass(frozen=True, slots=True)
class OdooMasterData:
    """The ids of the records named in the settings."""

    company: int
    journal: int
    rounding_account: int | None
    taxes: list[OdooTax]
    currencies: dict[str, int]


class OdooAccess(Protocol):
    """The part of `sinks.odoo.sink.OdooSystem` that the checks need."""

    client: OdooClient
    places: OdooDefaults

    def rows(self, model: str, domain: list[Any], fields: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        """Return the records that match the domain."""
        ...


def findings(odoo: OdooAccess, *, apply: bool) -> list[PreflightFinding]:
    """One finding for each thing that has to be right. `apply` creates the missing custom fields."""
    version, series = odoo.client.version(), odoo.client.series()
    advice = f"versions {OLDEST} to {NEWEST} are known; try others in a test database first"
    found = [PreflightFinding("version", OLDEST <= series <= NEWEST, f"Odoo {version}", advice, vital=series < OLDEST)]
    try:
        found += [_fields(odoo, apply=apply), _rights(odoo), *_places(odoo)]
    except SinkUnavailable as outage:
        if outage.kind not in ("auth", "privilege"):
            raise
        advice = "give the login as the user in the sink's URL, and an API key in TILLSTREAM_SINK_PASSWORD"
        found.append(PreflightFinding("user", False, str(outage), advice))
    return found


def _fields(odoo: OdooAccess, *, apply: bool) -> PreflightFinding:
    there = odoo.client.call(MOVE, "fields_get", allfields=list(FIELDS), attributes=["type"])
    missing = [name for name in FIELDS if name not in there]
    if apply and missing:
        [model] = odoo.rows("ir.model", [["model", "=", MOVE]], ["id"])
        values = [
            {
                "model_id": model["id"],
                "name": name,
                "ttype": FIELDS[name],
                "field_description": name.removeprefix("x_").replace("_", " ").capitalize(),
                "index": name == "x_tillstream_ref",
                "copied": False,
            }
            for name in missing
        ]
        odoo.client.call("ir.model.fields", "create", vals_list=values)
        missing = []
    detail = f"missing in {MOVE}: {', '.join(missing)}" if missing else f"{len(FIELDS)} in {MOVE}"
    return PreflightFinding(
        "custom fields", not missing, detail, f"to create them, as an administrator, {SCHEMA_ADVICE}"
    )


def _rights(odoo: OdooAccess) -> PreflightFinding:
    """Return whether the user has the rights on invoices that the sink needs."""
    lacking = []
    for right in ("read", "write", "create", "unlink"):
        if odoo.client.series() >= _HAS_ACCESS_SINCE:
            may = odoo.client.call(MOVE, "has_access", [], operation=right)
        else:
            may = odoo.client.call(MOVE, "check_access_rights", operation=right, raise_exception=False)
        lacking += [] if may else [right]
    detail = f"the user may not {', '.join(lacking)} invoices" if lacking else "read, write, create and unlink invoices"
    return PreflightFinding("rights", not lacking, detail, "put the user into the group Billing (Invoicing)")


def _places(odoo: OdooAccess) -> list[PreflightFinding]:
    places = odoo.places
    company = _id(odoo, "res.company", [["name", "=", places.company]])
    found = [_there(f"company {places.company}", company)]
    if company is None:
        return found
    journal = [["code", "=", places.journal], ["type", "=", "sale"], ["company_id", "=", company]]
    found.append(_there(f"sales journal {places.journal}", _id(odoo, "account.journal", journal)))
    found.append(_there(f"customer {places.customer}", _id(odoo, "res.partner", [["id", "=", places.customer]])))
    if places.rounding_account is not None:
        found.append(_there(f"account {places.rounding_account}", _account(odoo, places.rounding_account)))
    taxes = ", ".join(f"{tax.name} ({'incl' if tax.included else 'excl'}.)" for tax in _taxes(odoo, company))
    found.append(
        PreflightFinding("sales taxes", bool(taxes), taxes or "none", "create a sales tax for each rate of the tills")
    )
    [row] = odoo.rows("res.company", [["id", "=", company]], ["id", "tax_calculation_rounding_method"])
    per_line = row["tax_calculation_rounding_method"] == "round_per_line"
    found.append(
        PreflightFinding(
            "tax rounding",
            per_line,
            str(row["tax_calculation_rounding_method"]),
            "set Rounding Method to Round per Line in the accounting settings: tills round so, and sums must agree",
            vital=False,
        )
    )
    return found


def master_data(odoo: OdooAccess) -> OdooMasterData:
    """Return the ids of the records named in the settings. Raises SinkUnavailable of kind `schema` if one is
    missing."""
    places = odoo.places
    company = _id(odoo, "res.company", [["name", "=", places.company]])
    journal = [["code", "=", places.journal], ["type", "=", "sale"], ["company_id", "=", company]]
    number = _id(odoo, "account.journal", journal) if company is not None else None
    if company is None or number is None:
        raise SinkUnavailable("schema", "the company or its sales journal is not in Odoo; run `tillstream check`")
    return OdooMasterData(
        company,
        number,
        None if places.rounding_account is None else _account(odoo, places.rounding_account),
        _taxes(odoo, company),
        {row["name"]: row["id"] for row in odoo.rows("res.currency", [["active", "=", True]], ["id", "name"])},
    )


def _taxes(odoo: OdooAccess, company: int) -> list[OdooTax]:
    domain = [["type_tax_use", "=", "sale"], ["company_id", "=", company], ["amount_type", "=", "percent"]]
    rows = odoo.rows("account.tax", domain, ["id", "name", "amount", "price_include"], order="sequence asc, id asc")
    return [OdooTax(r["id"], r["name"], Decimal(str(r["amount"])), bool(r["price_include"])) for r in rows]


def _account(odoo: OdooAccess, code: str) -> int | None:
    return _id(odoo, "account.account", [["code", "=", code]])


def _id(odoo: OdooAccess, model: str, domain: list[Any]) -> int | None:
    rows = odoo.rows(model, domain, ["id"], limit=1)
    return int(rows[0]["id"]) if rows else None


def _there(subject: str, number: int | None) -> PreflightFinding:
    return PreflightFinding(
        subject, number is not None, "there" if number is not None else "missing", "create it, or name another"
    )
