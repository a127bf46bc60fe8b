"""The certificate of a store's day: what was found, signed with a secret of the settings (HMAC-SHA-256).

Whoever has the key can verify, and could sign: it proves that a certificate was not changed since, to those who keep
the key; it is no proof against them.
"""

import hmac
import json
from datetime import datetime
from hashlib import sha256
from typing import Any

from ops.reconcile.page import BEGINS, ENDS, page

_METHOD = "HMAC-SHA-256"


def made(day: dict[str, Any], at: datetime, by: str, key: bytes) -> dict[str, Any]:
    """The day as a certificate."""
    said = {"certificate": "tillstream store-day 1", "made_at": at.isoformat(), "made_by": by, "found": day}
    return said | {"method": _METHOD, "key": _name(key), "signature": _signature(said, key)}


def fault(text: str, key: bytes) -> str | None:
    """Why the text is no certificate that was signed with the key; None when it is.

    A page must be just the one that its signed part makes: what people read is what was signed.
    """
    whole, is_page = text, BEGINS in text
    if is_page:
        text = text.partition(BEGINS)[2].partition(ENDS)[0]
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
