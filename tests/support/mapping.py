"""Mapping files for tests, and what becomes of events by them."""

from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from schemas.document import ErpDocument
from schemas.mapping import Mapping
from schemas.store import Store, Stores
from streams.batch import Rejection
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.mapping.mapper import Mapper
from streams.mapping.master_data import MasterData
from streams.mapping.tables import QueryDatabase
from tests.support.events import NOON, batch, value

NOWHERE = QueryDatabase("memory://", None)
ANY_STORE = Stores({}, Store())


def master(**sections: Any) -> Mapper:
    """The master data of a mapping whose tables stand in itself, as lists of rows or as sections."""
    given = {name: {"rows": part} if isinstance(part, list) else part for name, part in sections.items()}
    mapping = Mapping.model_validate({"mapping": 1, "name": "test", **given})
    rows = {name: list(table.rows or ()) for name, table in mapping.tables().items()}
    return Mapper(mapping, rows, Counter())


def outcome(of: Mapper, stores: Stores = ANY_STORE, now: datetime = NOON, **changes: Any) -> ErpDocument | Rejection:
    """What becomes of the event."""
    arrivals, _, _ = decode(batch(value(1, **changes)))
    sound, held = check(arrivals, now, of.repair)
    documents, unmapped = to_documents(sound, stores, partial(of.document, stores=stores, now=now))
    (only,) = [*held, *documents, *unmapped]
    return only


def mapped(of: Mapper, **changes: Any) -> ErpDocument:
    """The document that the event becomes."""
    made = outcome(of, **changes)
    assert isinstance(made, ErpDocument), made
    return made


def refused(of: Mapper, **changes: Any) -> tuple[str, str]:
    """Reason and detail of the dead letter that the event becomes."""
    made = outcome(of, **changes)
    assert isinstance(made, Rejection), made
    return made.reason.value, made.detail


def mapping_file(folder: Path, text: str | dict[str, Any], **files: str) -> Path:
    """A mapping file, with tables beside it: `items_csv="…"` is items.csv."""
    path = folder / "mapping.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return path


def loaded(path: Path, database: QueryDatabase = NOWHERE) -> Mapper:
    """The master data of a mapping file."""
    return MasterData(path, database).load()
