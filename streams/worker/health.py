"""Serves `/metrics`, `/healthz` (not 200: restart the worker) and `/readyz` (not 200: sales don't reach the ERP).

The server has a thread of its own, so it still answers when the event loop hangs, and says so.
"""

import json
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from streams.worker.state import WorkerState


class HealthServer:
    """Serves until it is closed. Raises OSError when the address can't be bound."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, state: WorkerState) -> None:
        self._server = make_server(
            host, port, health_app(registry, state), server_class=_ThreadingServer, handler_class=_QuietHandler
        )
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and release the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def health_app(registry: CollectorRegistry, state: WorkerState) -> Callable[..., Iterable[bytes]]:
    """Return the WSGI application behind the server."""
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            body: list[bytes] = metrics(environ, start_response)
            return body
        if path == "/healthz":
            return _answer(start_response, state.not_live())
        if path == "/readyz":
            return _answer(start_response, state.not_ready(), warnings=list(state.warnings.values()))
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not found. Try /metrics, /healthz or /readyz.\n"]

    return app


def _answer(start_response: Callable[..., Any], reasons: list[str], **more: list[str]) -> Iterable[bytes]:
    status = "503 Service Unavailable" if reasons else "200 OK"
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps({"ok": not reasons, "reasons": reasons, **more}).encode() + b"\n"]


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes and scrapes come every few seconds."""
