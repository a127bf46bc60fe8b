"""Tryton's JSON-RPC over HTTP: calls in, answers out, its errors as a sink's.

Tryton's error texts, which are in the user's language, are never matched: only the HTTP status and the name of
the exception. All calls ask for English, so that details are in one language.
"""

import base64
import json
import re
from datetime import date, datetime
from decimal import Decimal
from threading import Lock
from typing import Any

import urllib3
from sqlalchemy import URL

from sinks.base import DocumentsRefused, SinkUnavailable

LANGUAGE = "en"
#: Seconds. A call that delivers a batch takes about one; posting, ten times that.
_TIMEOUT = urllib3.Timeout(connect=5, read=110)  # less than a worker's own watchdog
_LOCKED_AGAIN_IN = 0.5

_VALUE = re.compile(r'value "[^"]*"')
_LONGEST = 300

#: (kind, meaning) of HTTP statuses other than 200.
_STATUSES = {
    401: ("auth", "user or password is wrong"),
    403: ("schema", "its module tillstream is missing, or older than this program"),
    404: ("schema", "there is no such database"),
    429: ("auth", "too many attempts to log in"),
    503: ("lock", "another transaction has what this one needs, or the database is away"),
    504: ("timeout", "it took too long"),
}


class TrytonRefused(DocumentsRefused):
    """A UserError: Tryton refuses the call's data."""


class TrytonClient:
    """Calls methods of one database as one user, from any thread; logs in when it has to.

    `url`: http(s), user, password, host, database. Raises SinkUnavailable, and TrytonRefused.
    """

    def __init__(self, url: URL) -> None:
        self._pool = urllib3.PoolManager(maxsize=8, timeout=_TIMEOUT, retries=False)
        port = f":{url.port}" if url.port else ""
        self._root = f"{url.drivername}://{url.host}{port}"
        self._database = url.database
        self._user, self._password = url.username or "", str(url.password or "")
        self._session: str | None = None
        self._logging_in = Lock()

    def call(self, method: str, *params: Any) -> Any:
        """Return the method's result. A session that has run out is renewed once."""
        session = self._session or self._log_in(None)
        status, answer = self._send(f"/{self._database}/rpc/", method, params, session)
        if status == 401:
            status, answer = self._send(f"/{self._database}/rpc/", method, params, self._log_in(session))
        return _result(status, answer)

    def version(self) -> str:
        """Return the server's series, such as 8.2."""
        return str(_result(*self._send("/rpc/", "common.server.version", (), None)))

    def close(self) -> None:
        """Give all connections back."""
        self._pool.clear()

    def _log_in(self, expired: str | None) -> str:
        with self._logging_in:
            if self._session is None or self._session == expired:
                asked = (self._user, {"password": self._password}, LANGUAGE)
                uid, token, *_ = _result(*self._send(f"/{self._database}/rpc/", "common.db.login", asked, None))
                self._session = base64.b64encode(f"{self._user}:{uid}:{token}".encode()).decode()
            return self._session

    def _send(self, path: str, method: str, params: tuple[Any, ...], session: str | None) -> tuple[int, Any]:
        """(status, answer); with a Retry-After, if there is one, as the answer of a status other than 200."""
        # Without Accept-Encoding, long answers say that they are compressed, and are not.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        if session is not None:
            headers["Authorization"] = f"Session {session}"
        # Tryton tells a call of the protocol by these three keys, and takes no more.
        body = json.dumps({"id": 0, "method": method, "params": params}, default=_encode, separators=(",", ":"))
        try:
            response = self._pool.request("POST", self._root + path, body=body, headers=headers)
        except urllib3.exceptions.ReadTimeoutError:
            raise SinkUnavailable("timeout", "Tryton does not answer in time") from None
        except urllib3.exceptions.HTTPError as error:
            raise SinkUnavailable("connection", f"Tryton does not answer: {type(error).__name__}") from None
        if response.status != 200:
            return response.status, response.headers.get("Retry-After")
        try:
            return 200, json.loads(response.data, object_hook=_decode)
        except ValueError:
            raise SinkUnavailable("connection", "what answers is no Tryton") from None


def _result(status: int, answer: Any) -> Any:
    if status == 413:
        raise TrytonRefused("request_too_large")
    if status != 200:
        kind, meaning = _STATUSES.get(status, ("other", "see its log"))
        asked = float(answer) if answer is not None and str(answer).isdecimal() else None
        wait = _LOCKED_AGAIN_IN if kind == "lock" and asked is None else asked
        raise SinkUnavailable(kind, f"Tryton answers {status}: {meaning}", retry_after=wait)
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        raise SinkUnavailable("connection", "what answers is no Tryton")
    if not answer.get("error"):
        return answer["result"]
    name, *said = answer["error"]
    if name in ("UserError", "UserWarning"):
        raise TrytonRefused(_detail(said))
    if name == "ConcurrencyException":
        raise SinkUnavailable("lock", "Tryton: a record was changed meanwhile", retry_after=_LOCKED_AGAIN_IN)
    raise SinkUnavailable("fault", "Tryton has failed, see its log")  # the text may hold anything


def _detail(said: Any) -> str:
    """Tryton's words without the value that it complains about."""
    message = said[0][0] if said and isinstance(said[0], list) and said[0] else "no reason given"
    return _VALUE.sub("value", " ".join(str(message).split()))[:_LONGEST]


def _encode(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"__class__": "Decimal", "decimal": str(value)}
    if isinstance(value, date) and not isinstance(value, datetime):
        return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
    raise TypeError(f"no way to send {type(value).__name__}")


def _decode(value: dict[str, Any]) -> Any:
    if value.get("__class__") == "Decimal":
        return Decimal(value["decimal"])
    if value.get("__class__") == "date":
        return date(value["year"], value["month"], value["day"])
    return value
