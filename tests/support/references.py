"""Documents with the references and identities that versions before 5 of the schema gave them."""

from dataclasses import replace
from typing import Any

from schemas.document import ErpDocument
from schemas.store import Store, Stores
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from tests.support.events import NOON, batch, value


def today(number: int = 1, **changes: Any) -> ErpDocument:
    """What the line makes of the event."""
    arrivals, rejected, _ = decode(batch(value(number, **changes)))
    sound, held = check(arrivals, NOON)
    (document,), unmapped = to_documents(sound, Stores({}, Store()))
    assert not rejected + held + unmapped
    return document


def before(number: int = 1, **changes: Any) -> ErpDocument:
    """What the line made of it: parts were joined as they are."""
    made = today(number, **changes)
    kind = {"invoice": "sale", "credit_note": "return", "cancellation": "void"}[made.kind]
    place = f"{made.store}/{made.register_id}"
    receipt = f"{place}/{made.receipt}/{kind}"
    event_id = changes.get("event_id", f"e-{number}")
    identity = f"{receipt}/{made.revision}" if event_id is None else event_id
    original = changes.get("original")
    referred = None
    if original is not None:
        where = f"{original.get('store', made.store)}/{original.get('register', made.register_id)}"
        referred = f"{made.source}/{where}/{original['receipt']}/{original.get('type', 'sale')}"
    return replace(
        made,
        event_id=f"{made.source}:{identity}",
        external_ref=f"{made.source}/{receipt}",
        original_ref=referred,
    )
