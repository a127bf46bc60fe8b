"""A server that speaks the Schema Registry's REST API, on 127.0.0.1, and may be taken away."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit


class RegistryServer:
    """Schemas by id and by subject and version. `failing` is an HTTP status that all requests get, or None."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.failing: int | None = None
        self.requests: Counter[str] = Counter()
        self.authorization: str | None = None
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def put(self, number: int, schema: Any, kind: str = "AVRO", references: list[dict[str, Any]] | None = None) -> None:
        answer: dict[str, Any] = {"schema": json.dumps(schema), "schemaType": kind}
        if references:
            answer["references"] = references
        self.schemas[number] = answer

    def put_version(self, subject: str, version: int, number: int) -> None:
        self.versions[f"{subject}/{version}"] = {
            "subject": subject,
            "version": version,
            "id": number,
            **self.schemas[number],
        }

    def start(self) -> None:
        """On the same port as before, if there was one."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Nobody answers any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.failing is not None:
            return self.failing, {"error_code": self.failing, "message": "of no concern"}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number]:
                found = self.schemas.get(int(number))
                return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions", version]:
                found = self.versions.get(f"{subject}/{version}")
                return (200, found) if found else (404, {"error_code": 40402, "message": "Version not found"})
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                registry.requests[path] += 1
                registry.authorization = self.headers["Authorization"]
                status, answer = registry.answer(path)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def running_registry() -> Iterator[RegistryServer]:
    """One that runs, and is stopped at the end."""
    server = RegistryServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
