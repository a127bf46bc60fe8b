"""Built-in sources, their examples, and what becomes of a record of theirs up to its document."""

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from schemas.contract import ContractExample
from schemas.document import ErpDocument
from schemas.store import Store, Stores
from streams.batch import Rejection, Skipped
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.sources.contracts import built_in_contracts, find_contract, load_contract
from streams.sources.source import Source, load_source
from tests.support.events import NOON, batch

BERLIN = ZoneInfo("Europe/Berlin")
SHOP = Stores({}, Store(timezone="Europe/Berlin"))


@cache
def source(name: str) -> Source:
    """A built-in source; all its stores are in Berlin."""
    return load_source(find_contract(name), lambda _: BERLIN)


@cache
def examples() -> list[tuple[str, ContractExample]]:
    """Every example of every built-in contract, with its contract's name."""
    return [(name, example) for name in built_in_contracts() for example in load_contract(find_contract(name)).examples]


def folder(name: str) -> Path:
    """Where a built-in contract lies."""
    return find_contract(name).parent


def through(
    name: str, *values: Any, headers: dict[str, str] | None = None
) -> tuple[list[ErpDocument], list[Rejection], list[Skipped]]:
    """The documents that the line makes of records, without the sink; what is rejected, and what is noted."""
    records = batch(*(value if isinstance(value, bytes) else json.dumps(value).encode() for value in values))
    for record in records.records:
        record.headers.extend((key, text.encode()) for key, text in (headers or {}).items())
    arrivals, undecodable, noted = decode(records, source(name))
    sound, unsound = check(arrivals, NOON + timedelta(days=365))
    documents, unmapped = to_documents(sound, SHOP)
    return documents, [*undecodable, *unsound, *unmapped], noted


def reasons(rejected: Sequence[Rejection]) -> list[str]:
    """`reason: detail` of each."""
    return [f"{fault.reason}: {fault.detail}" for fault in rejected]
