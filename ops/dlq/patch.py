"""Patches for the values of dead letters: JSON Patch (RFC 6902) or JSON Merge Patch (RFC 7396).

Numbers with a fraction become texts, as they are read everywhere here: no cent is lost in them, and amounts may be
texts in every format.
"""

import json
from typing import Any

import jsonpatch

from schemas.contract import Contract
from streams.batch import Record
from streams.sources.canonical import RecordSource
from streams.sources.formats import UnreadableRecord, parse_json
from streams.sources.source import RefusedRecord

#: What makes a record the one it is.
IDENTITY = ("source", "event_id", "store", "register", "receipt", "type", "revision")
_PATCHABLE = ("json", "cloudevents", "csv")


class BadPatch(ValueError):
    """The text is not a patch; the message names the fault."""


class PatchFailed(Exception):
    """The patch can't be applied to this record; the message is a word for why."""


class ValuePatch:
    """A patch, ready. An array is a JSON Patch, an object a merge patch. Raises BadPatch."""

    def __init__(self, text: str) -> None:
        try:
            self.stated = parse_json(text.encode())
        except (UnreadableRecord, UnicodeEncodeError):
            raise BadPatch("the patch is no JSON; give a JSON Patch ([…]) or a merge patch ({…})") from None
        if isinstance(self.stated, list):
            try:
                self._operations: Any = jsonpatch.JsonPatch(self.stated)
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, AttributeError) as error:
                raise BadPatch(f"the patch is no JSON Patch (RFC 6902): {error}") from None
        elif isinstance(self.stated, dict) and self.stated:
            self._operations = None
        else:
            raise BadPatch("a patch is a JSON Patch ([{op, path, value}, …]) or a merge patch ({field: value})")

    def applied(self, value: bytes | None) -> bytes:
        """Return the value, patched. Raises Unpatchable."""
        try:
            tree = parse_json(value or b"")
        except UnreadableRecord:
            raise PatchFailed("not_json") from None
        try:
            tree = merged(tree, self.stated) if self._operations is None else self._operations.apply(tree)
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, LookupError, RecursionError):
            raise PatchFailed("does_not_apply") from None
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def patchable(contract: Contract) -> bool:
    """Return whether records of the contract are JSON in the topic."""
    return contract.format in _PATCHABLE


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def identity(record: Record, source: RecordSource) -> list[dict[str, str] | None] | None:
    """Return the identities of the record's events, as far as they can be read; None if none can."""
    try:
        return source.identities(record, IDENTITY)
    except RefusedRecord:
        return None


def same_identity(before: list[dict[str, str] | None] | None, after: list[dict[str, str] | None] | None) -> bool:
    """Return whether these are the same events. An identity that became readable only now counts as another one."""
    return before is not None and before == after
