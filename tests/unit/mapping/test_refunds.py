"""Refunds whose sale the ERP does not have: they wait, and then they are held or flagged."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from sinks.memory import MemorySink
from streams.batch import Batch
from streams.pipeline import process
from tests.support.events import NOON, FakeRecord, value
from tests.support.line import Line
from tests.support.mapping import table_mapper


def line(**rule: Any) -> Line:
    """A line whose mapping has the rule."""
    made = Line(sink=MemorySink())
    of = table_mapper(cleaning={"refunds": rule})
    made.services.mapper = lambda: of
    return made


def refund(number: int, of: int | None, kind: str = "return", of_type: str = "sale") -> bytes:
    """A return or void of receipt `of`."""
    original = {"receipt": str(of), "type": of_type} if of is not None else None
    return value(number, type=kind, original=original)


def records(*values: bytes, first: int = 0, headers: Any = ()) -> Batch:
    return Batch("t", 0, [FakeRecord(first + n, one, headers=list(headers)) for n, one in enumerate(values)])


def written(of: Line) -> set[str]:
    assert isinstance(of.sink, MemorySink)
    return set(of.sink.documents)


def since(minutes: int) -> list[tuple[str, bytes]]:
    """The headers of a letter that failed first so many minutes ago."""
    return [("tillstream.first_failed_at", (NOON - timedelta(minutes=minutes)).isoformat().encode())]


async def test_refund_of_an_unknown_sale_waits_as_a_dead_letter() -> None:
    to = line(wait_minutes=10, then="hold")
    settled = await process(records(refund(2, of=1)), to.services)
    [rejection] = settled.rejected
    assert (rejection.reason, rejection.detail) == (Reason.HELD_REFUND, "original: not_there_yet")
    assert [letter.value for letter in to.letters] == [refund(2, of=1)]
    assert not written(to)


async def test_refund_whose_sale_is_there_is_written() -> None:
    to = line(then="hold")
    await process(records(value(1)), to.services)
    settled = await process(records(refund(2, of=1), first=1), to.services)
    assert (len(settled.delivered), settled.rejected) == (1, [])


async def test_refund_comes_after_its_sale_in_whatever_order_a_batch_has_them() -> None:
    to = line(then="hold")
    back, undone = refund(2, of=1), refund(3, of=2, kind="void", of_type="return")
    settled = await process(records(undone, back, value(1)), to.services)
    assert (len(settled.delivered), settled.rejected, to.letters) == (3, [], [])


async def test_refund_whose_sale_is_rejected_waits() -> None:
    to = line(then="hold")
    assert isinstance(to.sink, MemorySink)
    to.sink.refuse(lambda document: document.kind == "invoice")
    settled = await process(records(value(1), refund(2, of=1)), to.services)
    assert sorted(r.reason.value for r in settled.rejected) == ["held_refund", "refused_by_sink"]


@pytest.mark.parametrize(("then", "ended"), [("hold", (0, 1)), ("flag", (1, 0))])
async def test_refund_that_has_waited_in_vain_is_held_or_flagged(then: str, ended: tuple[int, int]) -> None:
    to = line(wait_minutes=10, then=then)
    settled = await process(records(refund(2, of=1), headers=since(10)), to.services)
    assert (len(settled.delivered), len(settled.rejected)) == ended
    assert isinstance(to.sink, MemorySink)
    assert [d.review for d in to.sink.documents.values()] == ["original: not_there"] * ended[0]
    assert [r.detail for r in settled.rejected] == ["original: not_there"] * ended[1]
    assert [(finding.rule, finding.policy) for finding in settled.findings] == [("refunds", then)]


async def test_refund_that_names_no_sale_or_no_rule_does_not_wait() -> None:
    to = line(then="hold")
    settled = await process(records(refund(2, of=None)), to.services)
    without = Line(sink=MemorySink())
    other = await process(records(refund(2, of=1)), without.services)
    assert (len(settled.delivered), len(other.delivered)) == (1, 1)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from(["return", "void"])), max_size=8))
async def test_refunds_of_each_other_come_to_an_end(refunds: list[tuple[int, int, str]]) -> None:
    to = line(then="hold")
    values = [refund(number, of, kind, "return") for number, of, kind in refunds]
    settled = await process(records(*values), to.services)
    assert len(settled.delivered) + len(settled.seen_in_window) + len(settled.seen_in_sink) == 0
    assert len(settled.rejected) == len(values)
