"""Traces of batches through OpenTelemetry, after its conventions for messaging (1.43, in development) and databases.

A batch is one `process` span of the consumer, linked to the contexts that its records carry in their headers
(`traceparent`, `tracestate`, as W3C says); a record that comes alone is in its sender's trace. Nothing of what records
say is in a span: no key, no value, no text of an error.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState
from opentelemetry.util.re import parse_env_headers
from opentelemetry.util.types import Attributes, AttributeValue

from streams.batch import Batch, BatchOutcome, Headers, Record
from streams.settings import Settings, TracingSettings
from streams.tracing.base import Note

#: Contexts that a span is linked to, of a batch of up to thousands: those that were sampled first.
MOST_LINKS = 100
#: Seconds that one delivery to the collector may take, those at the end included.
PATIENCE = 3.0
_SYSTEMS = {"sqlite": "sqlite", "postgresql": "postgresql"}
_W3C = TraceContextTextMapPropagator()


class OpenTelemetry:
    """As `tracing.Tracing`; `processor` takes the spans that end."""

    def __init__(self, settings: Settings, ratio: float, processor: SpanProcessor) -> None:
        here = {
            "service.name": "tillstream",
            "service.version": version("tillstream"),
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
        self._provider = TracerProvider(
            ParentBased(LinkedOrByRatio(ratio)), Resource.create(here), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("tillstream", version("tillstream"))
        self._name = f"process {settings.topic}"
        self._group = settings.group
        scheme = settings.sink_url.partition(":")[0].partition("+")[0]
        self._sink = {"db.system.name": _SYSTEMS.get(scheme, "other_sql")}

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[Note]:
        """Provide a span of the consumer."""
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": batch.topic,
            "messaging.destination.partition.id": str(batch.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": len(batch.records),
            "tillstream.first_offset": batch.records[0].offset,
            "tillstream.last_offset": batch.records[-1].offset,
        }
        contexts = contexts_of(batch.records)
        parent, links = _parent(batch.records, contexts), [Link(context) for context in contexts]
        with self._span(self._name, SpanKind.CONSUMER, attributes, parent, links) as span:
            yield lambda settled: span.set_attributes(_ends(settled))

    @contextmanager
    def step(self, name: str, size: int) -> Iterator[None]:
        """Provide a span within the batch's; the sink's is a database's client."""
        kind: SpanKind
        attributes: dict[str, AttributeValue]
        if name == "write":
            kind, attributes = SpanKind.CLIENT, {**self._sink, "db.operation.batch.size": size}
        else:
            kind, attributes = SpanKind.INTERNAL, {"tillstream.size": size}
        with self._span(name, kind, attributes):
            yield

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        """Not as the SDK records exceptions: their texts, and those of their tracebacks, may be personal."""
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def close(self) -> None:
        """Send the spans that were not sent yet."""
        self._provider.shutdown()


class LinkedOrByRatio(Sampler):
    """Samples spans linked to a sampled span, and a share of the rest."""

    def __init__(self, ratio: float) -> None:
        self._by_ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """As the SDK asks."""
        if any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._by_ratio.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """As the SDK asks."""
        return f"LinkedOrByRatio{{{self._by_ratio.rate}}}"


def exporting(settings: Settings, traces: TracingSettings) -> OpenTelemetry:
    """Traces to the collector that the settings name, in the background."""
    exporter = OTLPSpanExporter(
        traces.endpoint,
        certificate_file=str(traces.ca_file) if traces.ca_file else None,
        headers=parse_env_headers(traces.secret(), liberal=True),
        timeout=PATIENCE,
    )
    return OpenTelemetry(settings, traces.ratio, BatchSpanProcessor(exporter))


def contexts_of(records: Sequence[Record]) -> list[SpanContext]:
    """Return the contexts that records carry, each once, up to a limit: sampled ones first."""
    carried = {_carried(record.headers): None for record in records if record.headers}
    carried.pop(None, None)
    sampled_first = sorted((each for each in carried if each is not None), key=lambda each: each[0][-1:] not in _ODD)
    found = (_context(*each) for each in sampled_first[: 2 * MOST_LINKS])  # some may be none
    return [context for context in found if context.is_valid][:MOST_LINKS]


#: The last digit of a `traceparent`, whose lowest bit says that it was sampled.
_ODD = tuple(b"%x" % digit for digit in range(1, 16, 2))


def _carried(headers: Headers) -> tuple[bytes, bytes] | None:
    """Return the last `traceparent` and `tracestate` of the headers."""
    parent, state = None, b""
    for name, value in headers:
        if name == "traceparent":
            parent = value
        elif name == "tracestate":
            state = value
    return (parent, state or b"") if parent else None


def _context(parent: bytes, state: bytes) -> SpanContext:
    carrier = {"traceparent": parent.decode("ascii", "replace"), "tracestate": state.decode("ascii", "replace")}
    return get_current_span(_W3C.extract(carrier, Context())).get_span_context()


def _parent(records: Sequence[Record], contexts: Sequence[SpanContext]) -> Context:
    """Where a record comes alone its sender's context; else none, as a span has one parent at most."""
    if len(records) != 1 or not contexts:
        return Context()
    return set_span_in_context(NonRecordingSpan(contexts[0]), Context())


def _ends(settled: BatchOutcome) -> dict[str, AttributeValue]:
    return {
        "tillstream.delivered": len(settled.delivered),
        "tillstream.duplicates": len(settled.seen_in_window) + len(settled.seen_in_sink),
        "tillstream.rejected": len(settled.rejected),
        "tillstream.noted": len(settled.skipped),
    }
