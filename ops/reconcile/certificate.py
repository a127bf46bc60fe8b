"""The certificate of a store's day: what was found, signed with a secret of the settings (HMAC-SHA-256).

Whoever has the key can verify, and could sign: it proves that a certificate was not changed since, to those who keep
the key; it is no proof against them.
"""

import hmac
import json
from datetime import datetime
from hashlib import sha256
from html import escape
from typing import Any

_METHOD = "HMAC-SHA-256"
_BEGINS, _ENDS = '<script type="application/json" id="certificate">', "</script>"


def made(day: dict[str, Any], at: datetime, by: str, key: bytes) -> dict[str, Any]:
    """The day as a certificate."""
    said = {"certificate": "tillstream store-day 1", "made_at": at.isoformat(), "made_by": by, "found": day}
    return said | {"method": _METHOD, "key": _name(key), "signature": _signature(said, key)}


def fault(text: str, key: bytes) -> str | None:
    """Why the text is no certificate that was signed with the key; None when it is.

    A page must be just the one that its signed part makes: what people read is what was signed.
    """
    whole, is_page = text, _BEGINS in text
    if is_page:
        text = text.partition(_BEGINS)[2].partition(_ENDS)[0]
    try:
        said = json.loads(text)
        told = dict(said)
        signature = said.pop("signature")
        method, name = said.pop("method"), said.pop("key")
    except (ValueError, KeyError, AttributeError, TypeError):
        return "no certificate"
    if method != _METHOD:
        return f"signed by {method!r}, which is not known"
    if not isinstance(signature, str) or not hmac.compare_digest(signature.encode(), _signature(said, key).encode()):
        another = " (by its name it was signed with another key)" if name != _name(key) else ""
        return f"not as it was signed{another}"
    return "the page is not the one that its signed part makes" if is_page and page(told) != whole else None


def _signature(said: dict[str, Any], key: bytes) -> str:
    text = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), sha256).hexdigest()


def _name(key: bytes) -> str:
    """Tells keys apart without telling the key."""
    return hmac.new(key, b"tillstream certificate key", sha256).hexdigest()[:8]


def page(certificate: dict[str, Any]) -> str:
    """The certificate for people, with itself inside for `verify`."""
    day = certificate["found"]
    rows = []
    for account in day["accounts"]:
        for name in ("receipts", "lines", "quantity", "net", "tax", "gross"):
            rows.append((name, account["sent"][name], account["erp"][name], account["currency"]))
        for kind in sorted({*account["sent"]["tenders"], *account["erp"]["tenders"]}):
            paid = (account[side]["tenders"].get(kind, "0") for side in ("sent", "erp"))
            rows.append((f"paid by {kind}", *paid, account["currency"]))
        rows.append(("digest", account["sent"]["digest"], account["erp"]["digest"], ""))
        for fate, count in account["by_fate"].items():
            rows.append((f"events: {fate}", count, "", account["currency"]))
    table = "\n".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    differences = "\n".join(
        f"<li>{escape(each['kind'])}: {escape(str(each['receipt']))}: {escape(each['meaning'])}; "
        f"sent {escape(str(each['sent']))}, ERP {escape(str(each['erp']))}</li>"
        for each in day["differences"]
    )
    inside = json.dumps(certificate, ensure_ascii=True).replace("<", "\\u003c")
    title = escape(f"Store {day['store']}, {day['day']}: {day['state']}")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px sans-serif; margin: 2em }} td, th {{ padding: 2px 14px 2px 0; text-align: left }}</style>
<h1>{title}</h1>
<p>Found at {escape(certificate["made_at"])} by {escape(certificate["made_by"])}; in this state since
{escape(day["since"])} by {escape(day["by"])} {escape(day["why"])}</p>
<table><tr><th></th><th>sent by the tills</th><th>in the ERP</th><th></th></tr>
{table}
</table>
<h2>{len(day["differences"])} differences</h2>
<ul>
{differences}
</ul>
<p>{_METHOD}, key {escape(certificate["key"])}, signature {escape(certificate["signature"])}.
<code>tillstream reconcile verify</code> tells whether this page is as it was signed.</p>
{_BEGINS}{inside}{_ENDS}
</html>
"""
