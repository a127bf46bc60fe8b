"""What a Tryton answers, and what that means; the server is a stand-in that says what a test wants."""

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import make_url

from sinks.base import SinkUnavailable
from sinks.registry import open_sink
from sinks.tryton.rpc import TrytonClient, TrytonRefused

LOGGED_IN = (200, {"result": [7, "token", None]})


class StandIn(ThreadingHTTPServer):
    """Gives `answers`, (status, JSON or bytes), one after the other; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[dict[str, Any], str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, self.headers["Authorization"]))
        status, answer = self.server.answers.pop(0)
        said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "30")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in that knows the password."""
    server = StandIn()
    server.answers = [LOGGED_IN]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(server: StandIn) -> Iterator[TrytonClient]:
    """A client of it."""
    client = TrytonClient(make_url(f"http://user:secret@127.0.0.1:{server.server_port}/erp"))
    yield client
    client.close()


def test_call_has_exactly_the_keys_of_the_protocol_and_logs_in_once(server: StandIn, client: TrytonClient) -> None:
    server.answers += [(200, {"result": 1}), (200, {"result": 2})]
    assert [client.call("model.x.y", 5, {}), client.call("model.x.y", 6, {})] == [1, 2]
    assert [body["method"] for body, _ in server.asked] == ["common.db.login", "model.x.y", "model.x.y"]
    assert {tuple(sorted(body)) for body, _ in server.asked} == {("id", "method", "params")}
    assert server.asked[1][1] == "Session dXNlcjo3OnRva2Vu"  # user:7:token


def test_amounts_and_dates_go_and_come_exactly(server: StandIn, client: TrytonClient) -> None:
    amount = {"__class__": "Decimal", "decimal": "0.10"}
    day = {"__class__": "date", "year": 2026, "month": 3, "day": 10}
    server.answers.append((200, {"result": [amount, day]}))
    assert client.call("model.x.y", Decimal("0.10"), date(2026, 3, 10)) == [Decimal("0.10"), date(2026, 3, 10)]
    assert server.asked[1][0]["params"] == [amount, day]


def test_session_that_has_run_out_is_renewed_and_the_call_repeated(server: StandIn, client: TrytonClient) -> None:
    server.answers += [(401, b""), LOGGED_IN, (200, {"result": 1})]
    assert client.call("model.x.y") == 1


@pytest.mark.parametrize(
    ("answer", "kind", "retry_after"),
    [
        ((401, b""), "auth", None),
        ((403, b""), "schema", None),
        ((404, b""), "schema", None),
        ((429, b""), "auth", 30.0),
        ((500, b""), "other", None),
        ((503, b""), "lock", 0.5),
        ((504, b""), "timeout", None),
        ((200, b"<html>"), "connection", None),
        ((200, [1]), "connection", None),
        ((200, {"error": ["ConcurrencyException", "x"]}), "lock", 0.5),
        ((200, {"error": ["'int' has no attribute Ada Lovelace", "Traceback"]}), "fault", None),
    ],
)
def test_bad_world_is_sink_unavailable_and_quotes_nothing(
    server: StandIn, client: TrytonClient, answer: tuple[int, Any], kind: str, retry_after: float | None
) -> None:
    server.answers += [answer, LOGGED_IN, answer]
    with pytest.raises(SinkUnavailable) as caught:
        client.call("model.x.y")
    assert (caught.value.kind, caught.value.retry_after) == (kind, retry_after)
    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize("name", ["UserError", "UserWarning"])
@pytest.mark.parametrize("language", ["The value", "Der Wert"])
def test_what_tryton_does_not_take_is_told_by_the_exceptions_name_whatever_the_language(
    server: StandIn, client: TrytonClient, name: str, language: str
) -> None:
    server.answers.append((200, {"error": [name, [f'{language} in value "Ada Lovelace" is\nwrong.', "", None]]}))
    with pytest.raises(TrytonRefused) as caught:
        client.call("model.x.y")
    assert caught.value.detail == f"{language} in value is wrong."


def test_call_that_is_too_large_is_refused_so_that_it_is_halved(server: StandIn, client: TrytonClient) -> None:
    server.answers.append((413, b""))
    with pytest.raises(TrytonRefused):
        client.call("model.x.y")


def test_server_that_is_away_is_sink_unavailable() -> None:
    client = TrytonClient(make_url("http://user:secret@127.0.0.1:1/erp"))
    with pytest.raises(SinkUnavailable) as caught:
        client.version()
    assert caught.value.kind == "connection"


def test_missing_module_is_told_with_how_to_install_it(server: StandIn, tmp_path: Path) -> None:
    server.answers = [(200, {"result": "8.2"}), LOGGED_IN, (200, {"result": {"company": 1}}), (403, b"")]
    url = f"tryton+http://user@127.0.0.1:{server.server_port}/erp?ledger=sqlite:///{tmp_path}/ledger.sqlite"
    sink = open_sink(url, password="secret")
    found = {finding.subject: finding for finding in sink.check()}
    sink.close()
    assert found["server"].ok
    assert not found["module"].ok
    assert "pip install" in found["module"].advice


def test_other_version_is_told(server: StandIn, tmp_path: Path) -> None:
    server.answers = [(200, {"result": "7.0"}), LOGGED_IN, (200, {"result": {"company": 1}}), (403, b"")]
    url = f"tryton+http://user@127.0.0.1:{server.server_port}/erp?ledger=sqlite:///{tmp_path}/ledger.sqlite"
    sink = open_sink(url, password="secret")
    (finding, *_) = sink.check()
    sink.close()
    assert (finding.subject, finding.ok, finding.detail) == ("server", False, "Tryton 7.0")
