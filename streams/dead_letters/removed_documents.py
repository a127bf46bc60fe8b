"""Documents that a repair took back from the ERP's tables: whole, in the audit topic, so that it can be undone.

They have the personal values of the documents, as the records of the dead-letter topic have theirs: whoever may read
these topics sees them, and no command shows them. A document is cut into pieces that any broker takes.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sinks.base import ReferenceSnapshot
from streams.kafka.reader import read_partitions
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings

#: Characters of a document in one record, of four bytes at most: a sender takes 128 kB whatever the settings say.
_PIECE = 30_000


class RemovedPiece(BaseModel):
    """A piece of the rows held under a reference in the ERP at a URL; `text` is JSON, in `of` pieces."""

    model_config = ConfigDict(extra="ignore")

    kind: Literal["kept"] = "kept"
    action: str
    erp: str
    external_ref: str
    piece: int
    of: int
    text: str


def erp_url(settings: Settings) -> str:
    """Return the ERP's URL without its parameters, which may be confidential."""
    return settings.sink_url.partition("?")[0]


def to_pieces(action: str, erp: str, kept: Iterable[ReferenceSnapshot]) -> Iterator[RemovedPiece]:
    """Cut an action's removed documents into records for the audit topic."""
    for each in kept:
        text = json.dumps(each.rows, ensure_ascii=False)
        parts = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
        for number, part in enumerate(parts):
            place = {"external_ref": each.external_ref, "piece": number, "of": len(parts)}
            yield RemovedPiece.model_validate({"action": action, "erp": erp, "text": part} | place)


def reassemble(found: Iterable[RemovedPiece]) -> tuple[list[ReferenceSnapshot], list[str]]:
    """Return the documents ordered by reference, and the references of which a piece is lost; pieces may repeat."""
    texts: dict[str, dict[int, RemovedPiece]] = defaultdict(dict)
    for piece in found:
        texts[piece.external_ref][piece.piece] = piece
    kept: list[ReferenceSnapshot] = []
    lost: list[str] = []
    for ref, of_one in sorted(texts.items()):
        if len(of_one) == of_one[min(of_one)].of:
            kept.append(ReferenceSnapshot(ref, json.loads("".join(of_one[number].text for number in sorted(of_one)))))
        else:
            lost.append(ref)
    return kept, lost


def read_removed(settings: Settings, action: str) -> tuple[list[ReferenceSnapshot], list[str], str]:
    """Return the documents that the action removed, as `reassemble` does, and their ERP (`erp_url`).

    Raises BrokerUnreachable.
    """
    partitions = partitions_of_topics(settings.kafka_access).get(settings.audit_topic, 0)
    found = list(_pieces_of(settings, action, partitions)) if partitions else []
    return *reassemble(found), found[0].erp if found else ""


def _pieces_of(settings: Settings, action: str, partitions: int) -> Iterator[RemovedPiece]:
    for records in read_partitions(settings.kafka_access, settings.audit_topic, range(partitions)):
        for record in records:
            if record.key == action.encode():
                yield from _piece(record.value or b"")


def _piece(value: bytes) -> Sequence[RemovedPiece]:
    try:
        return [RemovedPiece.model_validate_json(value)]
    except ValidationError:
        return ()  # another record of the action
