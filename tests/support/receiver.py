"""A receiver of webhooks, as docs/how-to/webhook.md says that one has to be."""

import base64
import hashlib
import hmac
import json
import time

from schemas.document import ErpDocument, from_json
from tests.support.web import Request, Response

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, yes").decode()
TOLERANCE = 300


class Receiver:
    """Holds each document once, in its highest revision."""

    def __init__(self, secret: str = SECRET) -> None:
        self.key = base64.b64decode(secret.removeprefix("whsec_"))
        self.events: list[str] = []
        self.documents: dict[str, ErpDocument] = {}
        self.refuse: dict[str, str] = {}

    def __call__(self, request: Request) -> Response:
        if not self.is_signed(request):
            return Response(401)
        documents = [from_json(json.dumps(d).encode()) for d in json.loads(request.body)["documents"]]
        refused = [
            {"event_id": d.event_id, "code": self.refuse[d.cashier]} for d in documents if d.cashier in self.refuse
        ]
        if refused and len(documents) == 1:
            return Response(422, json.dumps({"code": refused[0]["code"], "detail": "of no use to Ada"}).encode())
        for document in documents:
            if document.cashier not in self.refuse and document.event_id not in self.events:
                self.events.append(document.event_id)
                held = self.documents.get(document.external_ref)
                if held is None or held.revision < document.revision:
                    self.documents[document.external_ref] = document
        return Response(200, json.dumps({"refused": refused}).encode())

    def is_signed(self, request: Request) -> bool:
        """As Standard Webhooks has it."""
        message, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        if abs(time.time() - int(at)) > TOLERANCE:
            return False
        expected = hmac.digest(self.key, f"{message}.{at}.".encode() + request.body, hashlib.sha256)
        given = request.headers["webhook-signature"].split()
        return any(hmac.compare_digest(f"v1,{base64.b64encode(expected).decode()}", each) for each in given)
