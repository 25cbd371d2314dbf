"""HTTP on one connection, within limits.

Nothing here costs a well-behaved request more than a few assignments: what takes too long is found by looking through
the connections every second, not by a timer for each.
"""

import sys
from collections import deque
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.server.limits import ConnectionLimits

# A refused client may go on sending for so long and so many bytes, and finds the answer: to cut the connection at once
# would hide it.
LINGER_SECONDS = 2.0
LINGER_BYTES = 128 * 2**20
# What the access log finds in a request's scope where the connection itself has answered it.
STATUS_NAME = "netspec.status"


class HeadTooLarge(Exception):
    """The head of a request is over its bound."""


class LimitedProtocol(HttpToolsProtocol):
    """HTTP on one connection, within `limits`; `limited` gives a class of its own for every server.

    Attributes:
        limits: the bounds.
        in_body: whether a request has begun whose body isn't whole.
        closing: whether the server is stopping: every answer is then the last of its connection.
    """

    limits = ConnectionLimits()
    closing = False
    # Requests and their answers, which are not always uvicorn's own.
    cycle: Any
    pipeline: deque[Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._overhead = 0  # bytes that have arrived since the last that were body or ended a head
        self._in_head = False
        self.in_body = False
        self._body_bytes = 0
        self._refused = False
        self._left = LINGER_BYTES
        self._waiting_since: float | None = self.loop.time()  # for a first request, or for the rest of a head
        self._unread_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Takes a connection, unless there are as many as there may be."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refused = True
            transport.write(refusal(503, "the server has as many connections as it takes"))
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Reads; what is neither a whole head nor body (headers, trailers, chunk sizes) is bounded."""
        if self._refused:
            self._left -= len(data)
            if self._left < 0:
                self.transport.abort()
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead and not self._refused:
            if self._waiting_since is None:
                self._waiting_since = self.loop.time()
            if self._overhead > self.limits.head_bytes:
                self._refuse_head()

    def eof_received(self) -> None:
        """The client sends no more, and the transport closes: a request that isn't whole is told so before."""
        if self._refused:
            return
        if self.in_body:
            told = dict(self.headers).get(b"content-length")
            rest = "bytes, before its last chunk" if told is None else f"of {told.decode()} bytes"
            self._refuse(400, f"the body ends after {self._body_bytes} {rest}")
        elif self._in_head:
            self._refuse(400, "the request ends within its headers")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = True
        self._waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request is handed to the application, unless its head is too large."""
        self.end_head()
        super().on_headers_complete()
        self.cycle.transport = _Closing(self)
        if self.closing:
            self.cycle.keep_alive = False

    def end_head(self) -> None:
        """Takes a head as read; raises HeadTooLarge."""
        # What arrived since the last head is seldom as long as the bound, and then the head need not be counted.
        if self._overhead > self.limits.head_bytes and self._size_of_head() > self.limits.head_bytes:
            raise HeadTooLarge
        self._in_head = False
        self.in_body = True
        self._body_bytes = 0
        self._overhead = 0
        self._waiting_since = None

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived."""
        self.note_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has arrived whole."""
        self.in_body = False
        super().on_message_complete()

    def note_body(self, size: int) -> None:
        """Counts what is body, and begins to count anew what is not."""
        self._body_bytes += size
        self._overhead = 0
        self._waiting_since = None

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP; a head that is too large comes here too, as a failure of the parser."""
        if self._in_head and self._size_of_head() > self.limits.head_bytes:
            self._refuse_head()
        else:
            self._refuse(400, self._fault())

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread_since = None
        super().resume_writing()

    def check_time(self, now: float) -> None:
        """Ends the connection when it has kept the server waiting for too long."""
        if self._refused:
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        waited = 0.0 if self._waiting_since is None else now - self._waiting_since
        if self._unread_since is not None and now - self._unread_since > self.limits.write_seconds:
            self.transport.abort()
        elif self._in_head and waited > self.limits.head_seconds:
            self._refuse(408, f"the headers took longer than {self.limits.head_seconds:g} s to arrive")
        elif is_idle and waited > self.limits.idle_seconds:
            self.transport.close()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, f"the request's headers are larger than {self.limits.head_bytes} bytes")

    def _refuse(self, status: int, message: str) -> None:
        """Answers outside of the application, and closes when the client has had the time to read that."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete and not self.take_over(status):
            self.transport.abort()  # it would stand within another answer
            return
        self.transport.write(refusal(status, message))
        self._linger()

    def take_over(self, status: int) -> bool:
        """Gives up the request whose body comes, to be answered from here; False where an answer to it has begun."""
        if not self.in_body or self.pipeline or self.cycle.response_started:
            return False
        self.cycle.scope[STATUS_NAME] = status
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def finish(self) -> None:
        """Closes after an answer."""
        if self.in_body and not self.pipeline:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Closes when the client has had the time to read what it was told."""
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _fault(self) -> str:
        """What the parser found, as it has just raised it."""
        error = sys.exception()
        assert error is not None
        reason = str(error.__context__ or error)
        if self.in_body:
            return f"the body is not in chunks as HTTP has them: {reason}"
        if "header" in reason:
            place = f"behind '{self.headers[-1][0].decode('latin-1')}'" if self.headers else "in the first header"
            reason = f"{reason}, {place}"
        return f"the request is not HTTP: {reason}"


class _Closing:
    """The transport that uvicorn's answers are written to, which closes as the connection has it."""

    def __init__(self, connection: LimitedProtocol) -> None:
        self.close = connection.finish
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing


REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable\r\nretry-after: 1",
}


def refusal(status: int, message: str) -> bytes:
    """A whole HTTP answer with an error, after which the connection ends."""
    body = orjson.dumps({"error": message})
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close" % len(body)
    return b"HTTP/1.1 %d %s\r\n%s\r\n\r\n%s" % (status, REASONS[status], head, body)
