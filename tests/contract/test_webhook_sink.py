"""A webhook's messages, what its receiver's answers mean, and what the journal and the ledger know afterwards."""

import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sinks.base import Refused, SinkMisconfigured, SinkUnavailable
from sinks.erp.delivery_log import DeliveryEntry
from sinks.registry import open_sink
from sinks.webhook import WebhookSink
from tests.contract.test_sink_contract import effects
from tests.support.certificates import self_signed
from tests.support.documents import document, documents
from tests.support.receiver import SECRET, Receiver
from tests.support.web import SILENCE, SILENCE_AFTER, Request, Response, Website, served

ROOT = Path(__file__).parents[2]
Opener = Callable[..., WebhookSink]


@pytest.fixture
def open_webhook(receiver: Website, tmp_path: Path) -> Iterator[Opener]:
    """Opens sinks at the receiver, with parameters in the URL; their journal is one file."""
    opened: list[WebhookSink] = []

    def opener(parameters: str = "batch=1", password: str = SECRET, ledger: str = "ledger") -> WebhookSink:
        url = f"http://{receiver.host}/hook?ledger=sqlite:///{tmp_path}/{ledger}.db&{parameters}"
        sink = open_sink(url, password=password)
        assert isinstance(sink, WebhookSink)
        sink._journal.check(apply=True)
        opened.append(sink)
        return sink

    yield opener
    for sink in opened:
        sink.close()


def app(receiver: Website) -> Receiver:
    assert isinstance(receiver.application, Receiver)
    return receiver.application


def test_documents_arrive_once_each_signed_in_the_revision_that_counts(receiver: Website, open_webhook: Opener) -> None:
    sink = open_webhook()
    sink.write(documents(3))
    sink.write([*documents(3), document(4)])
    sink.write([document(1, 1)])
    assert sorted(app(receiver).events) == sorted([*(d.event_id for d in documents(4)), "pos:e-1-1"])
    assert app(receiver).documents[document(1).external_ref] == document(1, 1)
    assert sink._ledger.counts() == {"confirmed": 4}


def test_message_is_the_same_when_it_is_sent_again(receiver: Website, open_webhook: Opener) -> None:
    sink = open_webhook()
    receiver.faults.append(SILENCE_AFTER)
    with pytest.raises(SinkUnavailable):
        sink.write([document()])
    sink.write([document()])
    first, again = receiver.requests
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.headers["idempotency-key"] == f'"{first.headers["webhook-id"]}"'
    assert json.loads(first.body)["type"] == "documents"
    assert app(receiver).events == [document().event_id]


def test_what_arrived_before_an_outage_is_not_sent_again(receiver: Website, open_webhook: Opener) -> None:
    sink = open_webhook("parallel=1")
    receiver.faults.extend([Response(409), Response(503)])  # it has the first already, and has no time for the second
    with pytest.raises(SinkUnavailable) as caught:
        sink.write(documents(3))
    assert caught.value.kind == "fault"
    assert len(receiver.requests) == 3
    assert effects(sink.write(documents(3))) == ["duplicate", "written", "duplicate"]
    assert len(receiver.requests) == 4
    assert [e.attempts for e in sink._ledger.find([d.external_ref for d in documents(3)])] == [1, 2, 1]


@pytest.mark.parametrize(
    ("answer", "kind", "wait"),
    [
        (Response(429, headers={"Retry-After": "7"}), "limit", 7),
        (Response(503, headers={"Retry-After": "Tue, 24 Nov 1998 18:00:00 GMT"}), "fault", 0.1),
        (Response(503, headers={"Retry-After": "soon"}), "fault", None),
        (Response(500, b"Ada bought apples"), "fault", None),
        (Response(401), "auth", None),
        (Response(404), "schema", None),
        (Response(302, headers={"Location": "http://127.0.0.1:1/"}), "connection", None),
        (SILENCE, "connection", None),
    ],
)
def test_world_is_waited_for(
    receiver: Website, open_webhook: Opener, answer: Response, kind: str, wait: float | None
) -> None:
    receiver.faults.append(answer)
    sink = open_webhook()
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert (caught.value.kind, caught.value.retry_after) == (kind, wait)
    assert "Ada" not in str(caught.value)
    assert effects(sink.write([document()])) == ["written"]


@pytest.mark.parametrize("parameters", ["batch=1", "batch=10"])
def test_refused_document_keeps_nobody_back_and_its_code_is_kept(
    receiver: Website, open_webhook: Opener, parameters: str
) -> None:
    app(receiver).refuse["Eve"] = "unknown.store"
    sink = open_webhook(parameters)
    batch = [document(1), document(2, cashier="Eve"), document(3)]
    results = sink.write(batch)
    assert effects(results) == ["written", "refused_by_sink", "written"]
    assert isinstance(results[1], Refused)
    assert results[1].detail.endswith("unknown.store")
    assert "Ada" not in results[1].detail
    (entry,) = sink._ledger.find([batch[1].external_ref])
    assert (entry.state, (entry.last_error or "")[-13:]) == ("refused", "unknown.store")
    assert sink.holds([d.external_ref for d in batch]) == {batch[0].external_ref, batch[2].external_ref}


def test_batch_that_is_refused_as_a_whole_is_bisected(receiver: Website, open_webhook: Opener) -> None:
    receiver.faults.append(Response(400, b"<html>no</html>"))
    assert effects(open_webhook("batch=10").write(documents(4))) == ["written"] * 4
    assert len(receiver.requests) == 3


def test_batch_is_one_message(receiver: Website, open_webhook: Opener) -> None:
    open_webhook("batch=10").write(documents(25))
    assert sorted(len(json.loads(r.body)["documents"]) for r in receiver.requests) == [5, 10, 10]


def test_two_secrets_sign_while_one_takes_the_place_of_the_other(receiver: Website, open_webhook: Opener) -> None:
    assert effects(open_webhook(password=f"another {SECRET}").write([document()])) == ["written"]
    assert len(receiver.requests[0].headers["webhook-signature"].split()) == 2


def test_wrong_secret_is_found_before_anything_is_written(receiver: Website, open_webhook: Opener) -> None:
    assert [f.subject for f in open_webhook(password="another").check() if not f.ok] == ["webhook"]
    assert [f for f in open_webhook().check() if not f.ok] == []
    assert app(receiver).events == []


def test_receiver_has_its_documents_once_though_the_journal_is_lost(receiver: Website, open_webhook: Opener) -> None:
    open_webhook().write(documents(2))
    assert effects(open_webhook(ledger="new").write(documents(3))) == ["written"] * 3
    assert sorted(app(receiver).events) == [d.event_id for d in documents(3)]


def test_ledger_says_what_could_not_be_brought_further(receiver: Website, open_webhook: Opener) -> None:
    receiver.faults.append(Response(503))
    sink = open_webhook()
    with pytest.raises(SinkUnavailable):
        sink.write([document()])
    assert sink._ledger.with_errors("new") == [
        DeliveryEntry(document().external_ref, 0, "new", attempts=1, last_error="fault: the webhook answers 503")
    ]


def test_certificate_is_verified_by_the_authority_that_is_named(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with served(Receiver(), certificate) as website:
        url = f"https://{website.host}/hook?ledger=sqlite:///{tmp_path}/ledger.db"
        sink = open_sink(url, password=SECRET)
        with pytest.raises(SinkUnavailable) as caught:
            sink.check(apply=True)
        assert caught.value.kind == "tls"
        sink.close()
        sink = open_sink(f"{url}&ca_file={certificate}", password=SECRET)
        assert [f for f in sink.check(apply=True) if not f.ok] == []
        sink.close()


def test_receiver_of_the_page_holds_each_receipt_once(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/webhook.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    file = tmp_path / "receiver.sqlite"

    def answer(request: Request) -> Response:
        with closing(sqlite3.connect(file)) as database:
            return Response(names["receive"](request.headers, request.body, SECRET, database))

    with served(answer) as website:
        for ledger in ("one", "two"):
            url = f"http://{website.host}/?batch=2&ledger=sqlite:///{tmp_path}/{ledger}.db"
            sink = open_sink(url, password=SECRET)
            assert [f for f in sink.check(apply=True) if not f.ok] == []
            sink.write([document(1, 1), document(2)])
            sink.write([document(1, 0), document(3)])
            sink.close()
        sink = open_sink(url, password="another")
        assert [f.ok for f in sink.check()][-1] is False
        sink.close()
    with closing(sqlite3.connect(file)) as database:
        held = database.execute("SELECT ref, revision FROM receipts ORDER BY ref").fetchall()
    assert held == [(document(n).external_ref, int(n == 1)) for n in (1, 2, 3)]


def test_secret_is_in_no_log_and_no_text(
    receiver: Website, open_webhook: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.faults.append(Response(500))
    sink = open_webhook(password="a-secret")
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([document()])
    assert "a-secret" not in f"{caplog.text} {caught.value} {sink!r} {sink._http!r} {vars(sink._ledger)}"


@pytest.mark.parametrize(
    ("url", "password", "told"),
    [
        ("http://shop.example/hook", SECRET, "insecure=yes"),
        ("https://shop.example/hook", None, "secret"),
        ("https://shop.example/hook", "whsec_%", "base64"),
        ("https://me@shop.example/hook", SECRET, "no user"),
        ("https://shop.example/hook?bath=3", SECRET, "bath"),
        ("https://shop.example/hook?batch=0", SECRET, "batch"),
        ("https://shop.example/hook?ca_file=/no/such", SECRET, "ca_file"),
        ("https:///hook", SECRET, "no host"),
    ],
)
def test_url_that_can_not_be_meant_is_told(url: str, password: str | None, told: str, tmp_path: Path) -> None:
    url += ("&" if "?" in url else "?") + f"ledger=sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(SinkMisconfigured, match=told):
        open_sink(url, password=password)


def test_plain_http_elsewhere_has_to_be_asked_for(tmp_path: Path) -> None:
    url = f"http://shop.example/hook?insecure=yes&ledger=sqlite:///{tmp_path}/ledger.db"
    open_sink(url, password=SECRET).close()
