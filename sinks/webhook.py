"""A webhook: documents are posted to a URL, signed, for any receiver.

Nothing can be read back from a receiver, so a *journal*, an SQL sink, holds the delivered documents. Writing:

1. Ask the journal which documents are new (`rehearse`).
2. Post those. The receiver has to recognise repetitions, by the document's `event_id`, or by the message's
   id, which stays the same as long as the same documents are sent.
3. Write the accepted documents into the journal. After a crash between 2 and 3 they are sent again.

So every document arrives at least once, and the journal answers as every other sink does. A worker that shares its
journal with others (PostgreSQL) knows what they have delivered.

Signatures are those of Standard Webhooks 1.0 (https://www.standardwebhooks.com). For receivers: docs/how-to/webhook.md.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial

from sqlalchemy import URL

from schemas.dead_letter import Reason
from schemas.document import ErpDocument, to_json
from sinks.base import (
    Accepted,
    DeliveryRecord,
    DocumentDigest,
    DocumentsRefused,
    OrphanedParts,
    PreflightFinding,
    Refused,
    Result,
    SinkMisconfigured,
    SinkUnavailable,
    StoreDay,
    write_bisecting,
)
from sinks.erp.delivery_log import DeliveryEntry, DeliveryLog, split_ledger
from sinks.erp.ledger import delivery_log_of
from sinks.http import HttpClient
from sinks.postgres.url import from_url as postgres_from_url
from sinks.sql.sink import SqlSink
from sinks.sqlite.url import from_url as sqlite_from_url
from sinks.url import existing_file, http_root, positive_integer, url_parameters

#: Answers that mean that it is the messenger's or the receiver's fault, and not the document's.
_NOT_THE_DOCUMENT = {401, 403, 404, 405, 408, 410, 425, 429}
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


class WebhookSink:
    """Posts `batch` documents a message, `parallel` messages at a time, to `path`."""

    compared = "the journal of what the receiver accepted; not what the receiver made of it"

    def __init__(
        self,
        http: HttpClient,
        path: str,
        secret: str,
        journal: SqlSink,
        ledger: DeliveryLog,
        *,
        batch: int = 1,
        parallel: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._path = path
        self._keys = [_key(part) for part in secret.split()]
        self._journal = journal
        self._ledger = ledger
        self._batch = batch
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="webhook")
        self._clock = clock

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol. Documents accepted before an outage are in the journal when this raises."""
        told = zip(documents, self._journal.rehearse(documents), strict=True)
        new = [d for d, r in told if isinstance(r, Accepted) and r.effect in ("written", "replaced")]
        self._ledger.attempt([(d.external_ref, d.revision) for d in new])
        parts = [new[start : start + self._batch] for start in range(0, len(new), self._batch)]
        sent: dict[str, Result] = {}
        outages: list[SinkUnavailable] = []
        for part, outcome in zip(parts, self._pool.map(self._outcome, parts), strict=True):
            if isinstance(outcome, SinkUnavailable):
                self._ledger.fail([d.external_ref for d in part], f"{outcome.kind}: {outcome}")
                outages.append(outcome)
            else:
                sent |= {result.event_id: result for result in outcome}
        refused = {event_id: result for event_id, result in sent.items() if isinstance(result, Refused)}
        if outages:
            self._keep([d for d in new if d.event_id in sent and d.event_id not in refused])
            raise outages[0]
        kept = self._keep([d for d in documents if d.event_id not in refused])
        self._ledger.note(
            DeliveryEntry(d.external_ref, d.revision, "refused", last_error=refused[d.event_id].detail)
            for d in new
            if d.event_id in refused
        )
        return [(kept | refused)[d.event_id] for d in documents]

    def _keep(self, documents: Sequence[ErpDocument]) -> dict[str, Result]:
        """Return the journal's results for documents delivered now or before."""
        results = {result.event_id: result for result in self._journal.write(documents)}
        new = [d for d in documents if results[d.event_id] in (_written(d), _replaced(d))]
        self._ledger.note(DeliveryEntry(d.external_ref, d.revision, "confirmed") for d in new)
        return results

    def _outcome(self, documents: Sequence[ErpDocument]) -> list[Result] | SinkUnavailable:
        try:
            return write_bisecting(documents, self._post)
        except SinkUnavailable as outage:
            return outage

    def _post(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """Send one message. Raises DocumentsRefused, and SinkUnavailable."""
        body = b'{"type":"documents","documents":[' + b",".join(map(to_json, documents)) + b"]}"
        answer = self._http.send("POST", self._path, body, headers=self._signed(message_id(documents), body))
        if 200 <= answer.status < 300:
            told = refusals(answer.body)
            return [
                Refused(d.event_id, Reason.REFUSED_BY_SINK, told[d.event_id]) if d.event_id in told else _written(d)
                for d in documents
            ]
        if answer.status == 409:  # it has had this message before
            return [_written(d) for d in documents]
        if not 400 <= answer.status < 500 or answer.status in _NOT_THE_DOCUMENT:
            raise answer.trouble("the webhook")
        raise DocumentsRefused(f"status {answer.status} {code_in(answer.body)}".rstrip())

    def _signed(self, message: str, body: bytes) -> dict[str, str]:
        at = str(int(self._clock()))
        signed = f"{message}.{at}.".encode() + body
        digests = [hmac.digest(key, signed, hashlib.sha256) for key in self._keys]
        return {
            "webhook-id": message,
            "webhook-timestamp": at,
            "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
            "Idempotency-Key": f'"{message}"',
        }

    def ping(self) -> None:
        """As in the protocol: a message without documents is answered."""
        self._journal.ping()
        self._post([])

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol. Sends a message without documents."""
        findings = self._journal.check(apply=apply)
        subject, advice = "webhook", "a receiver has to answer a signed message without documents by 2xx"
        try:
            self._post([])
        except DocumentsRefused as refused:
            return [*findings, PreflightFinding(subject, False, refused.detail, advice)]
        except SinkUnavailable as outage:
            if outage.kind in ("auth", "privilege", "schema"):
                return [*findings, PreflightFinding(subject, False, str(outage), f"{advice}; is the secret the same?")]
            raise
        return [*findings, PreflightFinding(subject, True, "answers")]

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, but for the receiver, who can't be asked."""
        return self._journal.rehearse(documents)

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol, from the journal."""
        return self._journal.read(external_refs)

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol, from the journal."""
        return self._journal.holds(external_refs)

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol, from the journal."""
        return self._journal.totals(store, day, deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol, from the journal."""
        return self._journal.prints(store, day)

    def fragments(self, external_refs: Sequence[str] | None = None) -> list[OrphanedParts]:
        """As in `Fragmentary`, from the journal."""
        return self._journal.fragments(external_refs)

    def deliveries(self, event_ids: Sequence[str]) -> list[DeliveryRecord]:
        """As in `Remembering`, from the journal."""
        return self._journal.deliveries(event_ids)

    def close(self) -> None:
        """As in the protocol."""
        self._pool.shutdown()
        self._http.close()
        self._journal.close()
        self._ledger.close()


def message_id(documents: Sequence[ErpDocument]) -> str:
    """Return the same id for the same documents, whenever they are sent."""
    said = json.dumps([[d.event_id, d.content] for d in documents])
    return f"msg_{hashlib.sha256(said.encode()).hexdigest()[:40]}"


def refusals(body: bytes) -> dict[str, str]:
    """Return the events that a receiver refuses: `{"refused": [{"event_id": …, "code": …}]}`, by event."""
    try:
        said = json.loads(body or b"{}")
        rows = said.get("refused", []) if isinstance(said, dict) else []
        return {row["event_id"]: code_of(row) for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # an answer in words of its own: 2xx says it all


def code_in(body: bytes) -> str:
    """Return the `code` of an answer, if it has one."""
    try:
        return code_of(json.loads(body))
    except ValueError:
        return ""


def code_of(said: object) -> str:
    """Return a short word. Sentences may contain what customers bought, and are left out."""
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _key(secret: str) -> bytes:
    """Return the bytes of a secret as Standard Webhooks writes it (`whsec_`, base64), or of any other text."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise SinkMisconfigured("The webhook's secret begins with whsec_, and is not base64 after that.") from None


def _effect(effect: str, document: ErpDocument) -> Accepted:
    return Accepted(document.event_id, effect)  # type: ignore[arg-type]  # one of the two below


_written, _replaced = partial(_effect, "written"), partial(_effect, "replaced")


def from_url(url: URL) -> WebhookSink:
    """Return the sink for `https://HOST/PATH`, with its journal in the database `ledger`. Raises SinkMisconfigured."""
    root = http_root(url)
    if not url.password:
        raise SinkMisconfigured(
            "A webhook needs a secret to sign with: TILLSTREAM_SINK_PASSWORD or sink_password_file."
        )
    if url.username:
        raise SinkMisconfigured("A webhook is signed and takes no user: leave it out of the sink's URL.")
    states = delivery_log_of(url)
    params = url_parameters(url, "ledger", "batch", "parallel", "ca_file", "insecure")
    _, ledger = split_ledger(url)
    open_journal = sqlite_from_url if ledger.get_backend_name() == "sqlite" else postgres_from_url
    return WebhookSink(
        HttpClient(root, headers={}, ca_file=existing_file(params.get("ca_file"))),
        f"/{url.database or ''}",
        str(url.password),
        open_journal(ledger),
        states,
        batch=positive_integer(params, "batch", 1),
        parallel=positive_integer(params, "parallel", 4),
    )
