"""Traces of batches: what is linked to what, what is in a span and what never is, and that `off` costs nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.base import Result
from sinks.memory import MemorySink
from streams.batch import Batch
from streams.pipeline import process
from streams.settings import Settings, SettingsError, TracingSettings
from streams.tracing.base import NoTracing, find_tracing
from tests.support.events import FakeRecord, value
from tests.support.line import Line

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `tracing`")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streams.tracing.otel import MOST_LINKS, OpenTelemetry, contexts_of

SAMPLED, NOT_SAMPLED = "01", "00"


def traceparent(number: int, flags: str = SAMPLED) -> list[tuple[str, bytes]]:
    return [("traceparent", f"00-{number:032x}-{number:016x}-{flags}".encode())]


def record(number: int, headers: list[tuple[str, bytes]] | None = None, raw: bytes | None = None) -> FakeRecord:
    return FakeRecord(number, raw if raw is not None else value(number), headers=headers or [])


class Traced:
    """A line with traces, and what was traced."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.exporter = InMemorySpanExporter()
        self.line = Line()
        settings = Settings(topic="sales", group="shop", sink_url="postgresql://db/erp")
        self.line.services.tracing = OpenTelemetry(settings, ratio, SimpleSpanProcessor(self.exporter))

    async def run(self, *records: FakeRecord) -> None:
        batch = Batch("sales", 3, list(records))
        to = self.line.services
        with to.tracing.batch(batch) as note:
            note(await process(batch, to))

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def batch(self) -> ReadableSpan:
        return self.spans["process sales"]


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.line.services.tracing.close()


async def test_batch_is_a_span_of_the_consumer_with_its_steps(traced: Traced) -> None:
    await traced.run(record(1), record(2))
    assert list(traced.spans) == ["decode", "check", "map", "write", "process sales"]
    steps = [traced.spans[name] for name in ("decode", "check", "map", "write")]
    assert traced.batch.context is not None
    assert all(step.parent is not None and step.parent.span_id == traced.batch.context.span_id for step in steps)
    assert [step.kind for step in steps] == [SpanKind.INTERNAL] * 3 + [SpanKind.CLIENT]
    assert all((a.end_time or 0) <= (b.start_time or 0) for a, b in pairwise(steps))
    assert dict(traced.spans["write"].attributes or {}) == {
        "db.system.name": "postgresql",
        "db.operation.batch.size": 2,
    }
    assert traced.batch.kind is SpanKind.CONSUMER
    assert dict(traced.batch.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "sales",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "shop",
        "messaging.batch.message_count": 2,
        "tillstream.first_offset": 1,
        "tillstream.last_offset": 2,
        "tillstream.delivered": 2,
        "tillstream.duplicates": 0,
        "tillstream.rejected": 0,
        "tillstream.noted": 0,
    }


async def test_batch_is_linked_to_the_contexts_of_its_records(traced: Traced) -> None:
    state = ("tracestate", b"shop=till-7")
    await traced.run(record(1, [*traceparent(0xA), state]), record(2), record(3, traceparent(0xB)))
    linked = [(link.context.trace_id, link.context.trace_state.to_header()) for link in traced.batch.links]
    assert linked == [(0xA, "shop=till-7"), (0xB, "")]
    assert traced.batch.parent is None


async def test_record_that_comes_alone_is_in_its_senders_trace(traced: Traced) -> None:
    await traced.run(record(1, traceparent(0xA)))
    assert traced.batch.parent is not None
    assert (traced.batch.parent.trace_id, traced.batch.parent.span_id) == (0xA, 0xA)
    assert {span.context.trace_id for span in traced.spans.values() if span.context is not None} == {0xA}


def test_links_are_bounded_and_sampled_contexts_come_first() -> None:
    records = [record(n, traceparent(n, NOT_SAMPLED)) for n in range(1, 3 * MOST_LINKS)]
    records += [record(n, traceparent(n)) for n in (7000, 7001, 7001)]
    found = contexts_of(records)
    assert [context.trace_id for context in found[:3]] == [7000, 7001, 1]
    assert len(found) == MOST_LINKS


@pytest.mark.parametrize(
    ("ratio", "flags", "exported"), [(0.0, SAMPLED, True), (0.0, NOT_SAMPLED, False), (1.0, NOT_SAMPLED, True)]
)
async def test_batch_with_a_sampled_record_is_traced_and_of_others_a_share(
    ratio: float, flags: str, exported: bool
) -> None:
    traced = Traced(ratio)
    await traced.run(record(1, traceparent(1, NOT_SAMPLED)), record(2, traceparent(2, flags)))
    assert bool(traced.spans) is exported


async def test_record_alone_is_not_traced_where_its_sender_was_not(traced: Traced) -> None:
    await traced.run(record(1, traceparent(1, NOT_SAMPLED)))
    assert not traced.spans


@given(st.binary() | st.from_regex(rb"00-[0-9a-fA-F]{32}-[0-9a-f]{16}-[0-9a-z]{2}", fullmatch=True), st.binary())
def test_any_header_is_a_context_or_none(parent: bytes, state: bytes) -> None:
    found = contexts_of([record(1, [("traceparent", parent), ("tracestate", state)])])
    assert len(found) <= 1
    assert all(context.is_valid for context in found)


async def test_dead_letter_keeps_the_context_of_its_record(traced: Traced) -> None:
    headers = [*traceparent(0xA), ("tracestate", b"shop=till-7")]
    await traced.run(record(1, headers, b"{"))
    [letter] = traced.line.letters
    assert letter.headers[:2] == headers
    assert (traced.batch.attributes or {})["tillstream.rejected"] == 1


async def test_nothing_that_a_record_says_is_in_a_span(traced: Traced) -> None:
    secrets = {"id": "C-4711", "email": "ann@example.com"}
    wrong = value(2, totals={"gross": "999.99"}, customer=secrets, cashier="Ann")
    await traced.run(record(1, raw=value(1, customer=secrets, cashier="Ann")), record(2, raw=wrong))
    told = "".join(span.to_json() for span in traced.spans.values())
    assert not [word for word in ("C-4711", "example.com", "Ann", "999.99", "S001", "e-1") if word in told]


async def test_fault_is_told_by_its_kind_and_not_by_its_text(traced: Traced) -> None:
    class Broken(MemorySink):
        def write(self, documents: object) -> list[Result]:
            raise ValueError("customer C-4711")

    traced.line.services.sink._sink = Broken()  # type: ignore[attr-defined]  # a PatientSink
    with pytest.raises(ValueError, match="C-4711"):
        await traced.run(record(1), record(2))
    for span in (traced.spans["write"], traced.batch):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "ValueError"
        assert "C-4711" not in span.to_json()


def test_off_is_the_default_and_loads_nothing_of_opentelemetry() -> None:
    program = (
        "import sys, ops.cli, ops.worker.run, streams.worker.bootstrap as b; from streams.settings import Settings;"
        "print(type(b.find_tracing(Settings())).__name__, [m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "NoTracing []\n"


async def test_off_brings_a_batch_to_its_end_all_the_same() -> None:
    line = Line()
    batch = Batch("sales", 0, [record(1, traceparent(1))])
    off = line.services.tracing
    assert isinstance(off, NoTracing)
    with off.batch(batch) as note:
        note(await process(batch, line.services))
    off.close()


TRACES = TracingSettings(endpoint="http://127.0.0.1:1/v1/traces", ratio=1)


async def test_collector_that_is_away_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    tracing = line.services.tracing = find_tracing(Settings(tracing=TRACES))
    batch = Batch("sales", 0, [record(1), record(2)])
    with tracing.batch(batch) as note:
        note(await process(batch, line.services))
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 15  # it tries for three seconds
    assert "127.0.0.1" in caplog.text


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streams.tracing.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(SettingsError, match=r"pip install 'tillstream\[tracing\]'"):
        find_tracing(Settings(tracing=TRACES))
