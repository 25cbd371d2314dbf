"""HTTP on one connection, within limits.

Nothing here costs a well-behaved request more than a few assignments: what takes too long is found by looking through
the connections every second, not by a timer for each.
"""

from collections import deque
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.server.limits import ConnectionLimits

# A refused client may go on sending for so long, and finds the answer; a connection cut at once would hide it.
LINGER_SECONDS = 2.0


class HeadTooLarge(Exception):
    """The head of a request is over its bound."""


class LimitedProtocol(HttpToolsProtocol):
    """HTTP on one connection, within `limits`; `limited` gives a class of its own for every server.

    Attributes:
        limits: the bounds.
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
        self._refused = False
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
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead:
            if self._waiting_since is None:
                self._waiting_since = self.loop.time()
            if self._overhead > self.limits.head_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = True
        self._waiting_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request is handed to the application, unless its head is too large."""
        self.end_head()
        super().on_headers_complete()
        if self.closing:
            self.cycle.keep_alive = False

    def end_head(self) -> None:
        """Takes a head as read; raises HeadTooLarge."""
        # What arrived since the last head is seldom as long as the bound, and then the head need not be counted.
        if self._overhead > self.limits.head_bytes and self._size_of_head() > self.limits.head_bytes:
            raise HeadTooLarge
        self._in_head = False
        self._overhead = 0
        self._waiting_since = None

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived."""
        self.note_body()
        super().on_body(body)

    def note_body(self) -> None:
        """Begins to count anew what is no body."""
        self._overhead = 0
        self._waiting_since = None

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP; a head that is too large comes here too, as a failure of the parser."""
        if self._in_head and self._size_of_head() > self.limits.head_bytes:
            self._refuse_head()
        else:
            self._refuse(400, "the request is not HTTP")

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
        if self.cycle is not None and not self.cycle.response_complete:  # it would stand within another answer
            self.transport.abort()
            return
        self.transport.write(refusal(status, message))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


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
