"""`CanonicalSource`: the source of a topic whose records are canonical JSON, where the settings name no contract."""

from collections.abc import Sequence
from typing import Any, Literal

from schemas.dead_letter import Reason
from streams.batch import Record
from streams.sources.formats import UnreadableRecord, parse_json
from streams.sources.source import RefusedRecord, Source


class CanonicalSource:
    """A null object for `Source`. `decode` validates the bytes of its records directly, without converting them."""

    is_canonical: Literal[True] = True
    #: The name under which dead letters, metrics and the audit log show it.
    label = "canonical"
    trouble: str | None = None

    async def prepare(self, records: Sequence[Record]) -> None:
        """Do nothing: canonical records need no schemas."""

    def read(self, record: Record) -> Any:
        """Return the record's JSON tree. Raises UnreadableRecord."""
        return parse_json(record.value or b"")

    def identities(self, record: Record, names: Sequence[str]) -> list[dict[str, str] | None]:
        """Return the values of these fields of the record's event. As `Source.identities`."""
        try:
            tree = self.read(record)
        except UnreadableRecord as error:
            raise RefusedRecord(error.reason, error.detail) from None
        if not isinstance(tree, dict):
            raise RefusedRecord(Reason.SCHEMA_MISMATCH, "(the whole value): not_an_object")
        return [{name: str(tree[name]) for name in names if name in tree}]


CANONICAL = CanonicalSource()
#: The source of a topic: a contract, or the canonical format.
RecordSource = Source | CanonicalSource
