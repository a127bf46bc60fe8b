"""The certificate of a store's day: what was found, signed with a private key of the settings (Ed25519, RFC 8032).

Whoever has the public key can verify, and nobody without the private one can sign. What is signed is the certificate
without its last three fields, as JSON with sorted keys, without spaces, in ASCII.
"""

import json
from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ops.reconcile.certificate_page import BEGINS, ENDS, page
from sinks.digests import VERSION

_METHOD = "Ed25519"
#: What digests are made of, in certificates.
COVERED = (
    "documents, lines and payments, each field that comes from the till's event; cashier, customer and the event's own "
    "hash were compared by a keyed digest that is not kept; codes that a mapping gave are not compared"
)
HOW = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one"


class NoKey(Exception):
    """What was given is no key for this; the message says what would be one."""


def private_key(pem: str) -> Ed25519PrivateKey:
    """The key that signs. Raises NoKey."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise NoKey(f"no private key in PEM without a passphrase; {HOW}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise NoKey(f"a private key, but not of Ed25519; {HOW}")
    return key


def public_key(pem: str) -> Ed25519PublicKey:
    """The key that verifies: a public one, or that of a private one. Raises NoKey."""
    if "PRIVATE KEY" in pem:
        return private_key(pem).public_key()
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise NoKey("no public key in PEM; `openssl pkey -in key.pem -pubout` tells that of a private one") from None
    if not isinstance(key, Ed25519PublicKey):
        raise NoKey("a public key, but not of Ed25519")
    return key


def made(
    day: dict[str, Any],
    at: datetime,
    by: str,
    key: Ed25519PrivateKey,
    *,
    tills: str,
    erp: str,
    compared: str = "",
) -> dict[str, Any]:
    """The day as a certificate. `tills` and `erp` say between what it was reconciled, `compared` what of the ERP was.

    Certificates of version 1 are of the books alone, have digests of less, and don't say what was compared; they are
    verified as before.
    """
    said = {
        "certificate": "tillstream store-day 2",
        "made_at": at.isoformat(),
        "made_by": by,
        "tills": tills,
        "erp": erp,
        "compared": compared or "not stated by this sink",
        "digests": {"version": VERSION, "of": COVERED},
        "found": day,
    }
    signature = b64encode(key.sign(_signed(said))).decode()
    return said | {"method": _METHOD, "key": name_of(key.public_key()), "signature": signature}


def fault(text: str, key: Ed25519PublicKey) -> str | None:
    """Why the text is no certificate that was signed with the key; None when it is.

    A file, or a page, must be just the one that its signed part makes: what people read is what was signed. (JSON may
    have a field twice, of which programs see the last one alone.)
    """
    whole, is_page = text, BEGINS in text
    if is_page:
        text = text.partition(BEGINS)[2].partition(ENDS)[0]
    try:
        said = json.loads(text)
        told = dict(said)
        signature = b64decode(said.pop("signature"), validate=True)
        method, name = said.pop("method"), said.pop("key")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return "no certificate"
    if method != _METHOD:
        return f"signed by {method!r}, which is not known"
    try:
        key.verify(signature, _signed(said))
    except InvalidSignature:
        another = (
            f" (it says it was signed with key {name}, and this is {name_of(key)})" if name != name_of(key) else ""
        )
        return f"not as it was signed{another}"
    told |= {"key": name_of(key), "signature": b64encode(signature).decode()}  # which are not in what was signed
    what, made = ("page", page(told)) if is_page else ("file", as_text(told))
    return f"the {what} is not the one that its signed part makes" if made != whole else None


def is_of_books_alone(text: str) -> bool:
    """Return whether the certificate, which has no fault, was made before it was asked whether everything is booked."""
    if BEGINS in text:
        text = text.partition(BEGINS)[2].partition(ENDS)[0]
    return "books" not in json.loads(text)["found"]


def as_text(certificate: dict[str, Any]) -> str:
    """The certificate as a file."""
    return json.dumps(certificate, ensure_ascii=False, indent=2) + "\n"


def name_of(key: Ed25519PublicKey) -> str:
    """Tells keys apart: the beginning of the SHA-256 of the public key."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def _signed(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
