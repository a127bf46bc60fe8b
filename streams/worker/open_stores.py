"""Which stores are open now, by the hours that master data state: a store that sells nothing may just be closed."""

from collections.abc import Iterable
from datetime import datetime

from streams.mapping.documents import StoreDirectory


def open_now(heard: Iterable[str], stores: StoreDirectory, now: datetime) -> dict[str, bool]:
    """Of each store with stated hours whether it is open: of those that master data list, and those heard of."""
    found = ((name, stores.find(name)) for name in sorted({*heard, *stores}))
    return {name: store.open_at(now) for name, store in found if store is not None and store.opening_hours is not None}
