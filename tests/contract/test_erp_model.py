"""Any sequence of writes, while answers are lost and servers fail, leaves an ERP as it leaves the sink in memory."""

import random
from collections import Counter
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.document import ErpDocument
from sinks.base import Refused, Result, Sink, SinkUnavailable
from sinks.erp.sink import ErpSink
from sinks.memory import MemorySink
from sinks.registry import open_sink
from tests.contract.conftest import erpnext_url, odoo_url
from tests.contract.test_sink_model import batches
from tests.support import erpnext, odoo
from tests.support.documents import document, line
from tests.support.web import SILENCE, SILENCE_AFTER, Application, Request, Response, Website, served

RUNS = count(1)
FAULTS = [SILENCE, SILENCE_AFTER, Response(503), Response(429), Response(500, b"{}")]


@st.composite
def versions(draw: st.DrawFn) -> ErpDocument:
    """One of few events about one of few receipts, in few revisions and versions: collisions are the rule."""
    number, revision, cents = draw(st.integers(1, 3)), draw(st.integers(0, 2)), draw(st.integers(1, 3))
    lines = [line(place, f"0.0{2 * cents}", 0, tax_rate=Decimal(0)) for place in range(cents)]
    return document(number, revision, lines=lines, event_id=f"e-{draw(st.integers(1, 6))}")


def patiently(sink: Sink, documents: list[ErpDocument]) -> list[Result]:
    """As a worker does, but without waiting."""
    while True:
        try:
            return sink.write(documents)
        except SinkUnavailable:
            continue


def reasons(results: list[Result]) -> list[str]:
    """What is refused, and why: what is not, may be called a duplicate when an answer was lost."""
    return [result.reason.value if isinstance(result, Refused) else "taken" for result in results]


@pytest.mark.parametrize("system", ["erpnext", "odoo17"])
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(versions(), max_size=12), size=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_any_sequence_with_any_faults_ends_as_in_memory(
    system: str, drawn: list[ErpDocument], size: int, seed: int, tmp_path: Path
) -> None:
    ledger = f"ledger=sqlite:///{tmp_path}/{system}-{next(RUNS)}.db"
    application: Application = (
        erpnext.ErpNextSite() if system == "erpnext" else odoo.OdooServer(f"{system.removeprefix('odoo')}.0")
    )
    with served(application) as website:
        sink = opened(website, system, ledger)
        sink.check(apply=True)
        website.application = failing(random.Random(seed), application)
        model = MemorySink()
        cut = batches(drawn, [size] * len(drawn))
        found = [reason for batch in cut for reason in reasons(patiently(sink, batch))]
        website.application = application
        assert found == reasons([result for d in drawn for result in model.write([d])])
        refs = sorted({d.external_ref for d in drawn})
        assert sink.read(refs) == model.read(refs)
        assert sink.totals() == model.totals()
        posted = Counter(b.receipt for b in sink.system.find(list(sink._find(drawn))) if b.state == "posted")
        assert set(posted.values()) <= {1}
        assert not [b for b in sink.system.find(list(sink._find(drawn))) if b.state == "created"]
        sink.close()


def opened(website: Website, system: str, ledger: str) -> ErpSink:
    url, password = (erpnext_url(website), erpnext.SECRET) if system == "erpnext" else (odoo_url(website), odoo.KEY)
    sink = open_sink(f"{url}&{ledger}", password=password)
    assert isinstance(sink, ErpSink)
    return sink


def failing(chance: random.Random, application: Application) -> Application:
    """The application, but for one request of six, which fails before it is handled, or after."""

    def answer(request: Request) -> Response:
        fault = chance.choice(FAULTS) if chance.random() < 1 / 6 else None
        if fault is None:
            return application(request)
        if fault.after:
            application(request)
        return fault

    return answer
