"""References and identities made of parts: different parts never make the same one, and they can be taken apart again.

The parts of a reference are joined with "/". A part's own "/" is written "%2F", and a "%" is written "%25" where "2F"
or "25" follows it, so all other parts stay as they are: `pos/S1/2/48121/sale`, `pos/S1/2/2026%2F00123/sale`.

An event's identity is its source, ":", and its id or, without one, a reference to the receipt and its revision. A
source's own ":" is written "%3A". An id that reads like such a reference has a "/" in front, which no reference has.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

_TYPES = ("sale", "return", "void", "day_close")
_ESCAPED = re.compile("%(?=2F|25)|/")
_UNESCAPED = re.compile("%2F|%25")
_IN_SOURCE = re.compile("%(?=3A|25)|:")
_OF_SOURCE = re.compile("%3A|%25")
_CODES = {"/": "%2F", ":": "%3A", "%": "%25"}
_CHARACTERS = {code: character for character, code in _CODES.items()}
#: The part behind the source in the identity of an event without an id, and the mark of an id that looks like it.
_DERIVED = re.compile(f"/*[^/]+/[^/]+/[^/]+/(?:{'|'.join(_TYPES)})/[0-9]+")


def join_reference(*parts: str) -> str:
    """Join the parts with "/", so that no other parts make the same reference."""
    text = "/".join(parts)
    if "%" in text or text.count("/") != len(parts) - 1:
        return "/".join([_ESCAPED.sub(_code, part) for part in parts])
    return text


def split_reference(reference: str) -> list[str]:
    """Return the parts that `join_reference` made the reference of."""
    parts = reference.split("/")
    return [_UNESCAPED.sub(_character, part) for part in parts] if "%" in reference else parts


def join_names(names: Sequence[str]) -> str:
    """Join names, always as many of them, with "/", so that others never come to the same text.

    The last one is written as it is: nothing follows that it could be mistaken for.
    """
    return "/".join([*[_ESCAPED.sub(_code, name) for name in names[:-1]], *names[-1:]])


def split_receipt(reference: str) -> list[str] | None:
    """Return source, store, register, number and type of a receipt's reference; None where the text is not one."""
    parts = split_reference(reference)
    return parts if len(parts) == 5 and parts[4] in _TYPES and all(parts) else None


def unescaped_reference(reference: str) -> str | None:
    """Return the reference as versions before 5 of the schema wrote it, or None where it is the same.

    Other parts may have made the same text: compare the parts of whatever is found under it.
    """
    if "%2F" not in reference and "%25" not in reference:
        return None
    before = "/".join(split_reference(reference))
    return before if before != reference else None


def join_identity(source: str, event_id: str) -> str:
    """Return the identity of an event that has an id."""
    if "/" in event_id and _DERIVED.fullmatch(event_id):
        event_id = f"/{event_id}"
    return source_prefix(source) + event_id


def derived_identity(source: str, store: str, register: str, receipt: str, kind: str, revision: int) -> str:
    """Return the identity of an event without an id."""
    return f"{source_prefix(source)}{join_reference(store, register, receipt, kind, str(revision))}"


def split_identity(identity: str) -> tuple[str, str]:
    """Return the event's source, and its id (or its substitute for one)."""
    source, _, event_id = identity.partition(":")
    if "%" in source:
        source = _OF_SOURCE.sub(_character, source)
    if event_id.startswith("/") and _DERIVED.fullmatch(event_id):
        event_id = event_id[1:]
    return source, event_id


@lru_cache(256)
def source_prefix(source: str) -> str:
    """Return what all identities of the source begin with, and those of no other source."""
    return f"{_IN_SOURCE.sub(_code, source)}:"


def _code(found: re.Match[str]) -> str:
    return _CODES[found[0]]


def _character(found: re.Match[str]) -> str:
    return _CHARACTERS[found[0]]
