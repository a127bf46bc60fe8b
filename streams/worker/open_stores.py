"""Finds out which stores are open, by the opening hours in master data: a store without sales may just be closed."""

from collections.abc import Iterable
from datetime import datetime

from streams.mapping.mapper import Mapper
from streams.settings import Stores


def stores_open_now(seen: Iterable[str], stores: Stores, master: Mapper | None, now: datetime) -> dict[str, bool]:
    """Return whether each store with known opening hours is open: stores in master data, and those in `seen`."""
    names = {*seen, *stores, *(master.store_names() if master is not None else ())}
    known = ((name, stores.find(name) if master is None else master.store(name, stores)) for name in sorted(names))
    return {name: store.open_at(now) for name, store in known if store is not None and store.opening_hours is not None}
