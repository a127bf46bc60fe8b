"""HTTP for sinks: requests, responses, and the errors of failed requests.

Secrets are sent in headers, and nothing here puts headers, bodies or responses into an error's text. TLS is verified,
by the system's authorities or by `ca_file`. Nothing is redirected and nothing is sent twice: that is for the caller to
decide.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from sinks.base import SinkUnavailable

#: Seconds. Less than a worker's own watchdog.
TIMEOUT = urllib3.Timeout(connect=5, read=100)
#: Nobody is waited for longer than that before being asked again.
LONGEST_WAIT = 300.0
#: Characters that a path may have as they are (RFC 3986, 3.3), "%" among them: it precedes two digits.
_IN_PATHS = "/%:@!$&'()*+,;="

#: Meanings of statuses, except 2xx and those that a sink handles itself.
_KINDS = {401: "auth", 403: "privilege", 404: "schema", 405: "schema", 408: "timeout", 410: "schema", 429: "limit"}


@dataclass(slots=True, repr=False)
class HttpAnswer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, with exact decimals. Raises SinkUnavailable where it is no JSON."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except ValueError:
            raise SinkUnavailable("connection", "what answers does not speak JSON; is the URL right?") from None

    def trouble(self, system: str, advice: str = "") -> SinkUnavailable:
        """Return this answer as an outage."""
        kind = _KINDS.get(self.status, "connection" if 300 <= self.status < 400 else "fault")
        said = f"{system} answers {self.status}{advice and ': '}{advice}"
        return SinkUnavailable(kind, said, retry_after(self.headers.get("Retry-After")))


class HttpClient:
    """A server. `headers` go with every request. Calls may be made from any thread."""

    def __init__(self, root: str, *, headers: Mapping[str, str], ca_file: str | None = None) -> None:
        self._root = root.rstrip("/")
        self._headers = {"User-Agent": "tillstream", "Accept": "application/json"} | dict(headers)
        self._pool = urllib3.PoolManager(
            maxsize=16, timeout=TIMEOUT, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=ca_file
        )

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Send the request and return the response, whatever its status. Raises SinkUnavailable if there is no
        response.

        `path` is a URL path: names in it are quoted, including their slashes (`%2F`), so that none is read as two.
        """
        url = self._root + quote(path, safe=_IN_PATHS) + (f"?{urlencode(query)}" if query else "")
        said = self._headers | ({"Content-Type": "application/json"} if body is not None else {}) | dict(headers or {})
        try:
            response = self._pool.request(method, url, body=body, headers=said, redirect=False)
        except urllib3.exceptions.TimeoutError:
            raise SinkUnavailable("timeout", "no answer in time") from None
        except urllib3.exceptions.SSLError:
            raise SinkUnavailable("tls", "its certificate can't be verified; see ca_file in the sink's URL") from None
        except urllib3.exceptions.HTTPError as error:
            raise SinkUnavailable("connection", f"no answer: {type(error).__name__}") from None
        return HttpAnswer(response.status, response.headers, response.data)

    def close(self) -> None:
        """Give all connections back."""
        self._pool.clear()


def to_body(value: Any) -> bytes:
    """JSON, with decimals as texts: a number may be a binary fraction to whoever reads it."""
    return json.dumps(value, default=_as_text, separators=(",", ":"), ensure_ascii=False).encode()


def _as_text(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no way to send {type(value).__name__}")


def retry_after(said: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for, in either of its two forms (RFC 9110, 10.2.3)."""
    if said is None:
        return None
    if re.fullmatch(r"\d{1,9}", said.strip()):
        return min(float(said), LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.1), LONGEST_WAIT)
