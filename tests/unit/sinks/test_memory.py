"""The faults that a test asks the sink in memory for. What it has in common with others is in tests/contract."""

import pytest

from schemas.dead_letter import Reason
from sinks.base import Accepted, Refused, SinkUnavailable
from sinks.memory import MemorySink
from tests.support.documents import document


def test_it_fails_as_often_as_told_and_does_nothing_then() -> None:
    sink = MemorySink()
    sink.fail_next(SinkUnavailable("connection", "down"))
    sink.fail_next(SinkUnavailable("lock", "busy"))
    for kind in ("connection", "lock"):
        with pytest.raises(SinkUnavailable) as caught:
            sink.write([document()])
        assert caught.value.kind == kind
    assert sink.write([document()]) == [Accepted("pos:e-1-0", "written")]


def test_it_refuses_what_it_is_told_to() -> None:
    sink = MemorySink()
    sink.refuse(lambda d: d.receipt == "2")
    assert sink.write([document(1), document(2)]) == [
        Accepted("pos:e-1-0", "written"),
        Refused("pos:e-2-0", Reason.REFUSED_BY_SINK, "told_to_refuse"),
    ]


def test_what_it_holds_does_not_change_with_the_document() -> None:
    sink = MemorySink()
    d = document()
    sink.write([d])
    d.lines.clear()
    assert sink.documents[d.external_ref].lines
