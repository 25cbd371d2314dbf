"""What is sent back: a status, a body and headers; for errors always ``{"error": text}``."""

import logging
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Send

from runtime.protocol.elements import Buffer
from runtime.serving.refused import Reason, Refused

log = logging.getLogger(__name__)

JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
# What is left of these bodies has no bound that the server would wait for.
CLOSING = (Reason.TOO_LARGE, Reason.SLOW)

# The one place that says which status a reason has. A request that waited as long as it asked to is 503, as is one that
# finds the queue full: the server had too much to do.
STATUSES: dict[Reason, int] = {
    Reason.INVALID: 400,
    Reason.UNSUPPORTED: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.SLOW: 408,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED_MEDIA: 415,
    Reason.INTERNAL: 500,
    Reason.OVERLOADED: 503,
    Reason.UNAVAILABLE: 503,
    Reason.TIMEOUT: 503,
}
INTERNAL = Refused(Reason.INTERNAL, "internal error; the server's log says more")
STOPPING = Refused(Reason.UNAVAILABLE, "the server is stopping")


@dataclass(slots=True)
class Reply:
    """An answer: its status, its body, and its headers but for the length."""

    status: int
    body: Buffer
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)

    async def send(self, send: Send) -> None:
        """Sends it."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def response(self) -> Response:
        """The same as Starlette has it."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(bytes(self.body), self.status, headers)


def json_reply(value: Any) -> Reply:
    """A success with a body of JSON."""
    return Reply(200, orjson.dumps(value))


def refusal(refused: Refused) -> Reply:
    """The answer to a request that gets no result."""
    headers: tuple[tuple[bytes, bytes], ...] = (JSON, CLOSE) if refused.reason in CLOSING else (JSON,)
    if refused.retry_after is not None:
        headers = (*headers, (b"retry-after", b"%d" % max(1, round(refused.retry_after))))
    return Reply(STATUSES[refused.reason], error_body(refused.message), headers)


def error_body(message: str) -> bytes:
    """The JSON of an error."""
    return orjson.dumps({"error": message})
