"""Mapping files for tests, and the outcomes of events by them."""

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from schemas.document import ErpDocument
from schemas.mapping import Mapping
from schemas.store import Store, Stores
from streams.batch import Rejection
from streams.decode import decode
from streams.mapping.master_data import MasterData
from streams.mapping.table_mapper import TableMapper
from streams.mapping.tables import QueryDatabase
from streams.pipeline import Evaluation, evaluate
from tests.support.events import NOON, batch, value

NOWHERE = QueryDatabase("memory://", None)
ANY_STORE = Stores({}, Store())


def table_mapper(of_stores: Stores = ANY_STORE, **sections: Any) -> TableMapper:
    """A mapper with these tables, as lists of rows or as sections of a mapping file."""
    given = {name: {"rows": part} if isinstance(part, list) else part for name, part in sections.items()}
    mapping = Mapping.model_validate({"mapping": 1, "name": "test", **given})
    rows = {name: list(table.rows or ()) for name, table in mapping.tables().items()}
    return TableMapper(mapping, rows, of_stores)


def evaluated(mapper: TableMapper, now: datetime = NOON, **changes: Any) -> Evaluation:
    """The evaluation of one event."""
    arrivals, _, _ = decode(batch(value(1, **changes)))
    return evaluate(arrivals, mapper, now)


def outcome(mapper: TableMapper, now: datetime = NOON, **changes: Any) -> ErpDocument | Rejection:
    """The outcome of one event."""
    evaluation = evaluated(mapper, now, **changes)
    (only,) = [*evaluation.documents, *evaluation.rejections]
    return only


def mapped(mapper: TableMapper, **changes: Any) -> ErpDocument:
    """The document that the event becomes."""
    document = outcome(mapper, **changes)
    assert isinstance(document, ErpDocument), document
    return document


def refused(mapper: TableMapper, **changes: Any) -> tuple[str, str]:
    """Reason and detail of the dead letter that the event becomes."""
    rejection = outcome(mapper, **changes)
    assert isinstance(rejection, Rejection), rejection
    return rejection.reason.value, rejection.detail


def mapping_file(folder: Path, text: str | dict[str, Any], **files: str) -> Path:
    """A mapping file, with tables next to it: `items_csv="…"` is items.csv."""
    path = folder / "mapping.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return path


def loaded(path: Path, database: QueryDatabase = NOWHERE) -> TableMapper:
    """The mapper of a mapping file."""
    return MasterData(path, database, ANY_STORE).load()
