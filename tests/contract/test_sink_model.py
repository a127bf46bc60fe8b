"""Any sequence of writes, in any batching, leaves an SQL sink as it leaves the one in memory."""

from dataclasses import replace
from decimal import Decimal
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.document import ErpDocument
from sinks.base import Sink
from sinks.memory import MemorySink
from tests.support.documents import document, line

RUNS = count(1)


@st.composite
def versions(draw: st.DrawFn) -> ErpDocument:
    """One of few events about one of few receipts, in few revisions and versions: collisions are the rule."""
    number, revision, cents = draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.integers(1, 3))
    lines = [line(position, f"0.0{cents}", "0.00") for position in range(cents)]
    return document(number, revision, lines=lines, event_id=f"e-{draw(st.integers(1, 8))}")


@st.composite
def bad_versions(draw: st.DrawFn) -> ErpDocument:
    """A document that no sink can hold, from an event of its own."""
    bad = document(draw(st.integers(1, 4)), 99, event_id=f"bad-{draw(st.integers(1, 99))}")
    return replace(bad, gross=Decimal("0.00001")) if draw(st.booleans()) else replace(bad, cashier="\0")


def batches(written: list[ErpDocument], sizes: list[int]) -> list[list[ErpDocument]]:
    """The documents in their order, cut so that none shares an event or a receipt with another of its batch."""
    cut: list[list[ErpDocument]] = [[]]
    for d, size in zip(written, sizes, strict=True):
        taken = {name for other in cut[-1] for name in (other.event_id, other.external_ref)}
        if len(cut[-1]) >= size or taken & {d.event_id, d.external_ref}:
            cut.append([])
        cut[-1].append(d)
    return cut


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_in_any_batching_ends_as_in_memory(sql_sink: Sink, data: st.DataObject) -> None:
    run = f"run-{next(RUNS)}"  # one database serves all examples
    drawn = data.draw(st.lists(versions() | versions() | versions() | bad_versions(), max_size=20))
    written = [replace(d, event_id=f"{run}:{d.event_id}", external_ref=f"{run}/{d.receipt}", store=run) for d in drawn]
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=len(written), max_size=len(written)))
    model = MemorySink()
    results = [result for batch in batches(written, sizes) for result in sql_sink.write(batch)]
    expected = [result for d in written for result in model.write([d])]
    assert [(type(r), r.event_id, getattr(r, "effect", None), getattr(r, "reason", None)) for r in results] == [
        (type(r), r.event_id, getattr(r, "effect", None), getattr(r, "reason", None)) for r in expected
    ]
    refs = sorted({d.external_ref for d in written})
    assert sql_sink.read(refs) == model.read(refs)
    assert sql_sink.totals(run) == model.totals(run)
