"""A worker whose traces a collector takes: from the header of a record to the write into the ERP."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.events import value
from tests.support.kafka import Kafka
from tests.support.wait import wait_until
from tests.support.workers import Shop, open_shop

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra `tracing`")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes OTLP over HTTP, from who is authorized."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                authorized = self.headers["Authorization"] == "Bearer hunter2"
                if authorized and self.path == "/v1/traces":
                    parts = ExportTraceServiceRequest.FromString(body).resource_spans
                    collector.spans += [span for part in parts for scope in part.scope_spans for span in scope.spans]
                self.send_response(200 if authorized else 401)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def shop(tmp_path: Path, kafka: Kafka, topic_name: str, collector: Collector) -> Iterator[Shop]:
    (tmp_path / "headers").write_text("authorization=Bearer%20hunter2\n")
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as opened:
        opened.settings["tracing"] = {
            "endpoint": f"http://127.0.0.1:{collector.server.server_port}/v1/traces",
            "headers_file": str(tmp_path / "headers"),
            "ratio": 0,
        }
        yield opened


def test_sale_of_a_traced_till_is_traced_into_the_erp(shop: Shop, collector: Collector) -> None:
    worker = shop.start().wait_ready()
    trace, till = bytes(range(16)), bytes(range(8))
    shop.topics.produce(
        shop.topic, [(b"S001", value(1), [("traceparent", f"00-{trace.hex()}-{till.hex()}-01".encode())])]
    )
    wait_until(lambda: shop.event_ids() == ["pos:e-1"], 30, "the sale")
    assert worker.terminate() == 0  # sends what was not sent yet
    spans = {span.name: span for span in collector.spans}
    batch = spans[f"process {shop.topic}"]
    assert (batch.trace_id, batch.parent_span_id) == (trace, till)
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(trace, till)]
    assert (spans["write"].trace_id, spans["write"].parent_span_id) == (trace, batch.span_id)
