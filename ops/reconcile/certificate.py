"""The signed certificate of a store's day (Ed25519, RFC 8032, with the private key of the settings).

Anyone with the public key can verify it, and only the holder of the private key can sign. The signature covers the
certificate without its last three fields, as JSON with sorted keys, without spaces, in ASCII.
"""

import json
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ops.reconcile.certificate_page import JSON_END, JSON_START, render_page
from ops.reconcile.certificate_wording import FORMAT
from sinks.digests import VERSION

_METHOD = "Ed25519"
#: The fields that digests cover, as a certificate states them.
DIGEST_COVERAGE = (
    "documents, lines and payments, each field that comes from the till's event; cashier, customer and the event's own "
    "hash were compared by a keyed digest that is not kept; codes that a mapping gave are not compared"
)
KEY_HINT = "`openssl genpkey -algorithm ed25519 -out key.pem` creates one"


class InvalidKey(Exception):
    """The text is not a usable key. The message says which key is needed."""


def private_key(pem: str) -> Ed25519PrivateKey:
    """Parse the key that signs. Raises InvalidKey."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey(f"no private key in PEM without a passphrase; {KEY_HINT}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidKey(f"a private key, but not Ed25519; {KEY_HINT}")
    return key


def public_key(pem: str) -> Ed25519PublicKey:
    """Parse the key that verifies: a public key, or the public half of a private one. Raises InvalidKey."""
    if "PRIVATE KEY" in pem:
        return private_key(pem).public_key()
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey(
            "no public key in PEM; `openssl pkey -in key.pem -pubout` prints that of a private one"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidKey("a public key, but not Ed25519")
    return key


def issue(
    day: dict[str, Any],
    at: datetime,
    by: str,
    key: Ed25519PrivateKey,
    *,
    tills: str,
    erp: str,
    compared: str = "",
) -> dict[str, Any]:
    """Return the day as a signed certificate.

    `tills` and `erp` name the two sides that were reconciled, `compared` the parts of the ERP that were compared.
    Version 2 has other words on its page. Version 1 covers the books alone, its digests cover fewer fields, and it does
    not state the compared parts. Both are still verified.
    """
    content = {
        "certificate": FORMAT,
        "made_at": at.isoformat(),
        "made_by": by,
        "tills": tills,
        "erp": erp,
        "compared": compared or "not stated by this sink",
        "digests": {"version": VERSION, "of": DIGEST_COVERAGE},
        "found": day,
    }
    signature = b64encode(key.sign(_signed_bytes(content))).decode()
    return content | {"method": _METHOD, "key": key_id(key.public_key()), "signature": signature}


def find_fault(text: str, key: Ed25519PublicKey) -> str | None:
    """Return why the text is not a certificate signed with the key, or None if it is.

    The file or page must be byte for byte the one that its signed part renders to, so that people read only text that
    was signed. (JSON may have a field twice, and programs see only the last one.)
    """
    whole, is_page = text, JSON_START in text
    if is_page:
        text = text.partition(JSON_START)[2].partition(JSON_END)[0]
    try:
        content = json.loads(text)
        certificate = dict(content)
        signature = b64decode(content.pop("signature"), validate=True)
        method, name = content.pop("method"), content.pop("key")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return "not a certificate"
    if method != _METHOD:
        return f"signed with the unknown method {method!r}"
    try:
        key.verify(signature, _signed_bytes(content))
    except InvalidSignature:
        another = f" (it names key {name}, and this is {key_id(key)})" if name != key_id(key) else ""
        return f"not as it was signed{another}"
    certificate |= {"key": key_id(key), "signature": b64encode(signature).decode()}  # not in the signed part
    kind, expected = ("page", render_page(certificate)) if is_page else ("file", to_text(certificate))
    return f"the {kind} contains more or other text than was signed" if expected != whole else None


def is_of_books_alone(text: str) -> bool:
    """Return whether the certificate, which has no fault, is of version 1: silent on whether everything is booked."""
    if JSON_START in text:
        text = text.partition(JSON_START)[2].partition(JSON_END)[0]
    return "books" not in json.loads(text)["found"]


def to_text(certificate: dict[str, Any]) -> str:
    """Return the certificate as the text of a file."""
    return json.dumps(certificate, ensure_ascii=False, indent=2) + "\n"


def key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a key: the first 16 hex digits of the SHA-256 of the public key."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def _signed_bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
