"""Preflight checks of an ERPNext site, before anything is written to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sinks.base import SCHEMA_ADVICE, DocumentsRefused, PreflightFinding, SinkUnavailable

#: The series whose behaviour was read in the source.
OLDEST, NEWEST = 13, 16
_DATA: dict[str, Any] = {"fieldtype": "Data", "search_index": 0, "unique": 0}
#: Custom fields of Sales Invoice: nobody edits them, and a copy of an invoice does not have them.
FIELDS: dict[str, dict[str, Any]] = {
    "tillstream_key": _DATA | {"unique": 1},
    "tillstream_ref": _DATA | {"search_index": 1},
    "tillstream_revision": _DATA | {"fieldtype": "Int"},
    "tillstream_event": _DATA,
    "tillstream_content": _DATA,
    "tillstream_store": _DATA,
    "tillstream_lines": _DATA | {"fieldtype": "Int"},
    "tillstream_adjusted": _DATA | {"fieldtype": "Currency"},
    "tillstream_rounding": _DATA | {"fieldtype": "Currency"},
    "tillstream_document": _DATA | {"fieldtype": "Long Text"},
}
_PERMISSIONS = ("read", "create", "write", "submit", "cancel", "delete")


@dataclass(frozen=True, slots=True)
class ErpNextDefaults:
    """Values for documents whose mapping does not give them."""

    company: str
    customer: str
    warehouse: str | None = None
    tax_account: str | None = None
    rounding_account: str | None = None
    update_stock: bool = True
    precision: int = 2


class ErpNextAccess(Protocol):
    """The part of `sinks.erpnext.sink.ErpNextSystem` that the checks need."""

    defaults: ErpNextDefaults

    def call(self, method: str, **arguments: Any) -> Any:
        """Return a whitelisted method's result."""
        ...

    def rows(self, doctype: str, fields: Sequence[str], filters: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
        """Return the rows that match the filters."""
        ...


def findings(erp: ErpNextAccess, *, apply: bool) -> list[PreflightFinding]:
    """One finding for each thing that has to be right. `apply` creates the missing custom fields."""
    try:
        user = str(erp.call("frappe.auth.get_logged_user"))
    except SinkUnavailable as outage:
        if outage.kind not in ("auth", "privilege"):
            raise
        advice = "give KEY as the user in the sink's URL, and the API secret in TILLSTREAM_SINK_PASSWORD"
        return [PreflightFinding("user", False, str(outage), advice)]
    looks: list[tuple[str, Callable[[], PreflightFinding]]] = [
        ("version", lambda: _version(erp)),
        ("custom fields", lambda: _fields(erp, apply=apply)),
        ("permissions", lambda: _permissions(erp, user)),
        *((f"{doctype.lower()} {name}", partial(_there, erp, doctype, name)) for doctype, name in _master_data(erp)),
        ("negative rates", lambda: _negative_rates(erp)),
    ]
    return [PreflightFinding("user", True, user), *(_if_allowed(subject, look) for subject, look in looks)]


def _if_allowed(subject: str, look: Callable[[], PreflightFinding]) -> PreflightFinding:
    """Return the findings of `look`, if the user has the right to read."""
    try:
        return look()
    except (SinkUnavailable, DocumentsRefused) as fault:
        if isinstance(fault, SinkUnavailable) and fault.kind != "privilege":
            raise
        advice = "run the check as a System Manager, or let this user read it"
        return PreflightFinding(subject, False, str(fault), advice, vital=False)


def _version(erp: ErpNextAccess) -> PreflightFinding:
    versions = erp.call("frappe.utils.change_log.get_versions") or {}
    version = str(versions.get("erpnext", {}).get("version", ""))
    series = int(version.partition(".")[0]) if version.partition(".")[0].isdecimal() else 0
    advice = f"versions {OLDEST} to {NEWEST} are known; try others in a test site first"
    known = OLDEST <= series <= NEWEST
    return PreflightFinding(
        "version", known, f"ERPNext {version}" if version else "no ERPNext", advice, vital=series < OLDEST
    )


def _fields(erp: ErpNextAccess, *, apply: bool) -> PreflightFinding:
    asked = [["dt", "=", "Sales Invoice"], ["fieldname", "in", list(FIELDS)]]
    there = {row["fieldname"]: row for row in erp.rows("Custom Field", ["fieldname", "unique"], asked)}
    missing = [name for name in FIELDS if name not in there]
    if apply:
        for name in missing:
            label = name.replace("_", " ").capitalize()
            more = {"read_only": 1, "no_copy": 1, "print_hide": 1, "insert_after": "remarks"}
            field = {"doctype": "Custom Field", "dt": "Sales Invoice", "fieldname": name, "label": label}
            erp.call("frappe.client.insert", doc=field | more | FIELDS[name])
        missing = []
    elif not missing and not int(there["tillstream_key"]["unique"] or 0):
        advice = (
            "make tillstream_key unique in Customize Form: nothing else keeps two workers from booking a receipt twice"
        )
        return PreflightFinding("custom fields", False, "tillstream_key is not unique", advice)
    detail = f"missing in Sales Invoice: {', '.join(missing)}" if missing else f"{len(FIELDS)} in Sales Invoice"
    return PreflightFinding(
        "custom fields", not missing, detail, f"to create them, as a System Manager, {SCHEMA_ADVICE}"
    )


def _permissions(erp: ErpNextAccess, user: str) -> PreflightFinding:
    """Frappe reports the rights on an existing invoice; without one, they show with the first."""
    some = erp.rows("Sales Invoice", ["name"], [], limit_page_length=1)
    if not some:
        return PreflightFinding("permissions", True, "can be asked when there is an invoice")
    asked = {"doctype": "Sales Invoice", "docname": some[0]["name"]}
    lacking = [
        kind
        for kind in _PERMISSIONS
        if not erp.call("frappe.client.has_permission", perm_type=kind, **asked)["has_permission"]
    ]
    detail = f"{user} may not {', '.join(lacking)}" if lacking else ", ".join(_PERMISSIONS)
    return PreflightFinding(
        "permissions", not lacking, detail, "give the user a role that may: Accounts User with these rights"
    )


def _master_data(erp: ErpNextAccess) -> list[tuple[str, str]]:
    defaults = erp.defaults
    wanted = [("Company", defaults.company), ("Customer", defaults.customer), ("Warehouse", defaults.warehouse)]
    wanted += [("Account", defaults.tax_account), ("Account", defaults.rounding_account)]
    return [(doctype, name) for doctype, name in wanted if name]


def _there(erp: ErpNextAccess, doctype: str, name: str) -> PreflightFinding:
    rows = erp.rows(doctype, ["name"], [["name", "=", name]])
    return PreflightFinding(
        f"{doctype.lower()} {name}", bool(rows), "there" if rows else "missing", "create it, or name another"
    )


def _negative_rates(erp: ErpNextAccess) -> PreflightFinding:
    arguments = {"doctype": "Selling Settings", "field": "allow_negative_rates_for_items"}
    allowed = bool(int(erp.call("frappe.client.get_single_value", **arguments) or 0))
    advice = "allow negative rates for items in Selling Settings, or receipts with a line below zero are refused"
    return PreflightFinding("negative rates", allowed, "allowed" if allowed else "not allowed", advice, vital=False)
