"""Which stores are open now, by the hours that master data state: a store that sells nothing may just be closed."""

from collections.abc import Iterable
from datetime import datetime

from schemas.store import Stores
from streams.mapping.mapper import Mapper


def open_now(heard: Iterable[str], stores: Stores, master: Mapper | None, now: datetime) -> dict[str, bool]:
    """Of each store with stated hours whether it is open: of those that master data list, and those heard of."""
    names = {*heard, *stores, *(master.store_names() if master is not None else ())}
    found = ((name, stores.find(name) if master is None else master.store(name, stores)) for name in sorted(names))
    return {name: store.open_at(now) for name, store in found if store is not None and store.opening_hours is not None}
