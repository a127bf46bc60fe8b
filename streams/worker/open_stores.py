"""Finds out which stores are open, by the opening hours in master data: a store without sales may just be closed."""

from collections.abc import Iterable
from datetime import datetime

from streams.mapping.documents import StoreDirectory


def stores_open_now(seen: Iterable[str], stores: StoreDirectory, now: datetime) -> dict[str, bool]:
    """Return whether each store with known opening hours is open: the listed stores, and those in `seen`."""
    known = ((name, stores.find(name)) for name in sorted({*seen, *stores}))
    return {name: store.open_at(now) for name, store in known if store is not None and store.opening_hours is not None}
