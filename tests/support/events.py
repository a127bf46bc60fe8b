"""Builders for events and records, as the tills would send them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.batch import Batch

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def event(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid sale of 2 × 1.50 at 19 %, as a JSON object."""
    plain: dict[str, Any] = {
        "event_id": f"e-{number}",
        "source": "pos",
        "type": "sale",
        "store": "S1",
        "register": "R1",
        "receipt": str(number),
        "occurred_at": "2026-03-10T12:00:00Z",
        "currency": "EUR",
        "lines": [{"sku": "A", "description": "Apple", "quantity": "2", "unit_price": "1.50", "tax_rate": "19"}],
        "tenders": [{"kind": "cash", "amount": "3.00"}],
        "totals": {"gross": "3.00"},
    }
    return plain | changes


def value(number: int = 1, **changes: Any) -> bytes:
    """The event's bytes."""
    return json.dumps(event(number, **changes), separators=(",", ":")).encode()


@dataclass
class FakeRecord:
    """A Kafka record."""

    offset: int
    value: bytes | None
    key: bytes | None = b"S1"
    timestamp: int = int(NOON.timestamp() * 1000)
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def batch(*values: bytes | None, first: int = 0, partition: int = 0) -> Batch:
    """Records with running offsets."""
    return Batch("pos.sales", partition, [FakeRecord(first + place, value) for place, value in enumerate(values)])
