"""One bad document among many."""

from collections.abc import Sequence
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.document import ErpDocument
from sinks.base import Accepted, DocumentsRefused, Refused, Result, SinkUnavailable, write_bisecting
from tests.support.documents import documents


@given(size=st.integers(1, 200), data=st.data())
def test_only_the_bad_are_refused_in_few_calls(size: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(1, size), max_size=3))
    calls: list[int] = []

    def write(batch: Sequence[ErpDocument]) -> list[Result]:
        calls.append(len(batch))
        if any(int(d.receipt) in bad for d in batch):
            raise DocumentsRefused("22003")
        return [Accepted(d.event_id, "written") for d in batch]

    results = write_bisecting(documents(size), write)
    assert [result.event_id for result in results] == [d.event_id for d in documents(size)]
    assert {place for place, result in enumerate(results, 1) if isinstance(result, Refused)} == bad
    assert len(calls) <= 1 + 2 * len(bad) * (log2(size) + 1)


def test_an_outage_in_the_middle_is_not_a_refusal() -> None:
    def write(batch: Sequence[ErpDocument]) -> list[Result]:
        if len(batch) == 1:
            raise SinkUnavailable("connection", "down")
        raise DocumentsRefused("22003")

    with pytest.raises(SinkUnavailable):
        write_bisecting(documents(8), write)
