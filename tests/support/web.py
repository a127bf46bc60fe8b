"""A small web server for tests, on 127.0.0.1: an application answers, and a test makes it fail."""

import ssl
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What goes out. `after`: the request was handled, and this is said instead of the truth."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


Application = Callable[[Request], Response]
#: Not an answer at all: the connection breaks.
SILENCE = Response(0)
#: The connection breaks when the request was handled.
SILENCE_AFTER = Response(0, after=True)


class Website:
    """A running application. `faults` are what the next requests get instead; `requests` all that came."""

    def __init__(self, application: Application, port: int, scheme: str) -> None:
        self.application = application
        self.host = f"127.0.0.1:{port}"
        self.scheme = scheme
        self.faults: deque[Response] = deque()
        self.requests: list[Request] = []
        self._lock = Lock()

    def answer(self, request: Request) -> Response:
        """One at a time, as a database's transactions would have it."""
        with self._lock:
            self.requests.append(request)
            fault = self.faults.popleft() if self.faults else None
            if fault is None:
                return self.application(request)
            if fault.after:
                self.application(request)
            return fault


@contextmanager
def served(application: Application, certificate: Path | None = None) -> Iterator[Website]:
    """The application, on a free port; with a certificate (and its key, in one file), by TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *_: object) -> None:
            pass

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)
            response = website.answer(request)
            if response.status == 0:
                self.close_connection = True
                return
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 (the names that http.server looks for)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    website = Website(application, server.server_address[1], "http" if certificate is None else "https")
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield website
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
