"""Odoo's API: JSON-2 from version 19 on, JSON-RPC before; calls in, answers out, its errors as a sink's.

Odoo's error texts, which are in the user's language, are never matched: only the class of the exception, which
both protocols name. Calls ask for English, so that details are in one language.
"""

import json
from collections.abc import Sequence
from typing import Any

from sinks.base import DocumentsRefused, SinkUnavailable
from sinks.http import HttpAnswer, HttpClient, to_body

FIRST_WITH_JSON2 = 19
_CONTEXT = {"lang": "en_US", "tracking_disable": True}
_REFUSING = {"UserError", "ValidationError", "RedirectWarning", "MissingError", "except_orm", "Warning"}
_WORLD = {
    "AccessDenied": "auth",
    "AccessError": "privilege",
    "ConcurrencyError": "lock",
    "DeadlockDetected": "lock",
    "Forbidden": "privilege",
    "LockError": "lock",
    "LockNotAvailable": "lock",
    "OperationalError": "connection",
    "PoolError": "connection",
    "SerializationFailure": "lock",
    "SessionExpiredException": "auth",
    "TooManyRequests": "limit",
    "Unauthorized": "auth",
}


class OdooClient:
    """Calls methods of one database's models, from any thread. Raises DocumentsRefused and SinkUnavailable."""

    def __init__(self, http: HttpClient, database: str, user: str, key: str) -> None:
        self._http = http
        self._database, self._user, self._key = database, user, key
        self._version: str | None = None
        self._uid: int | None = None

    def version(self) -> str:
        """Such as 19.0. Nobody has to log in for it."""
        if self._version is None:
            answer = self._http.send("GET", "/web/version")  # from 19 on: addons/rpc/controllers
            said = answer.json() if answer.status == 200 else {}
            version = said.get("version") if isinstance(said, dict) else None
            version = version or (self._rpc("common", "version", []) or {}).get("server_version")
            if not version:
                raise SinkUnavailable("connection", "what answers is no Odoo")
            self._version = str(version)
        return self._version

    def series(self) -> int:
        """Return the number before the point; 0 without one, as in `saas~17.2`."""
        number = self.version().removeprefix("saas~").partition(".")[0]
        return int(number) if number.isdecimal() else 0

    def call(self, model: str, method: str, ids: Sequence[int] | None = None, **arguments: Any) -> Any:
        """Return the method's result, in a transaction of its own."""
        if self.series() >= FIRST_WITH_JSON2:
            body = arguments | {"context": _CONTEXT} | ({"ids": list(ids)} if ids is not None else {})
            headers = {"Authorization": f"bearer {self._key}", "X-Odoo-Database": self._database}
            answer = self._http.send("POST", f"/json/2/{model}/{method}", to_body(body), headers=headers)
            if answer.status == 200:
                return answer.json()
            raise _fault(answer, _error_in(answer))
        if self._uid is None:
            uid = self._rpc("common", "authenticate", [self._database, self._user, self._key, {}])
            if not uid:
                raise SinkUnavailable("auth", "Odoo does not know the user, or the key is wrong")
            self._uid = uid
        positional: list[Any] = [list(ids)] if ids is not None else []
        if method == "create":  # which looks at its first positional argument (odoo/api.py)
            positional.append(arguments.pop("vals_list"))
        said = [self._database, self._uid, self._key, model, method, positional, arguments | {"context": _CONTEXT}]
        return self._rpc("object", "execute_kw", said)

    def close(self) -> None:
        """Give all connections back."""
        self._http.close()

    def _rpc(self, service: str, method: str, arguments: list[Any]) -> Any:
        said = {"service": service, "method": method, "args": arguments}
        body = {"jsonrpc": "2.0", "method": "call", "id": 0, "params": said}
        answer = self._http.send("POST", "/jsonrpc", to_body(body))
        if answer.status != 200:
            raise _fault(answer, {})
        told = answer.json()
        if not isinstance(told, dict) or not ({"result", "error", "jsonrpc"} & told.keys()):
            raise SinkUnavailable("connection", "what answers is no Odoo")
        if error := told.get("error"):
            raise _fault(answer, error.get("data") or {})
        return told.get("result")


def _error_in(answer: HttpAnswer) -> dict[str, Any]:
    try:
        said = json.loads(answer.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _fault(answer: HttpAnswer, error: dict[str, Any]) -> Exception:
    """Return the exception to raise for an error: `name` is the qualified name of an exception (odoo/http.py,
    serialize_exception)."""
    module, _, name = str(error.get("name") or "").rpartition(".")
    if answer.status == 413 or (name in _REFUSING and not module.startswith("werkzeug")):
        message = " ".join(str(error.get("message") or "").split())[:200]
        return DocumentsRefused(f"{name or 'too_large'}: {message}".rstrip(": "))
    outage = answer.trouble("Odoo", name)
    if answer.status == 200:  # JSON-RPC, whose errors all have this status
        outage = SinkUnavailable("fault", f"Odoo has failed: {name or 'see its log'}")
    outage.kind = _WORLD.get(name, outage.kind)
    return outage
