"""Inference requests answered by the protocol itself: as by ASGI, at a fraction of what that costs a small one.

ASGI hands an application a request in parts, each of which wakes its task, and takes the answer in parts. Here the
whole body comes first, as its length is told, and there is a task only where a thread reads or writes.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from runtime.server.connection import LimitedProtocol
from runtime.server.limits import ConnectionLimits
from runtime.server.rest.app import asked_model
from runtime.server.rest.bodies import Arriving, told_length
from runtime.server.rest.infer import Admitted, Asked, Headers, Infer, reply_to
from runtime.server.rest.replies import CLOSE, STOPPING, Reply, refusal
from runtime.serving.refused import Refused
from runtime.serving.request import InferenceResult

# Headers of requests that go the common way: their bodies are other than they come, or have to be asked for.
UNCOMMON = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
# Longer URLs, which no model's name takes, are left to ASGI: those that are known here stay in memory.
LONGEST_URL = 1024
# What a URL has that isn't a plain path: escapes, a query, a host.
PECULIAR = frozenset(b"%?#:")


@dataclass(frozen=True)
class Direct:
    """What requests are answered with.

    Attributes:
        infer: gives the answers.
        check: raises Refused where the headers of a request lack a key, or have a name that may not be asked for.
    """

    infer: Infer
    check: Callable[[Iterable[tuple[bytes, bytes]]], object]


class DirectProtocol(LimitedProtocol):
    """HTTP on one connection; inference requests don't go through the ASGI application where `direct` is there.

    Attributes:
        rest: where the next bytes are to be read into, those of a large body; None for all others.
    """

    direct: Direct | None = None
    rest: memoryview | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._running: Exchange | None = None
        self._is_held = False

    def on_headers_complete(self) -> None:
        """A request begins: an inference request with a plain body of known length is taken here."""
        exchange = self._exchange()
        if exchange is None:
            super().on_headers_complete()
            return
        self.end_head()
        previous, self.cycle = self.cycle, exchange
        if (previous is None or previous.response_complete) and not self._is_held:
            self._start_asgi_task(exchange, self.app)
        else:  # it was sent before the last one was answered
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def on_body(self, body: bytes) -> None:
        """A piece of a body has arrived."""
        if isinstance(self.cycle, Exchange):
            self.note_body(len(body))
            self.rest = self.cycle.receive(body)
        else:
            super().on_body(body)

    def body_read(self, size: int) -> None:
        """So many bytes have been read into `rest`, past the parser."""
        self.note_body(size)
        self.rest = self.cycle.fill(size)
        if self.rest is None:
            self.parser = httptools.HttpRequestParser(self)  # that of this request would wait for its body
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.on_message_complete()

    def on_message_complete(self) -> None:
        """A request has arrived whole."""
        if isinstance(self.cycle, Exchange):
            self.in_body = False
            self.cycle.end()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Goes on to the next request, unless the client leaves unread what it was sent: answers would pile up."""
        if self.flow.write_paused:
            self._is_held = True
            self.flow.pause_reading()
        elif self.pipeline:
            super().on_response_complete()
        else:  # an idle connection is found by `check_time`, not by a timer for every answer
            self.server_state.total_requests += 1
            self._waiting_since = self.loop.time()
            self.flow.resume_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._is_held:
            self._is_held = False
            self.on_response_complete()

    def connection_lost(self, error: Exception | None) -> None:
        """Drops what the client no longer waits for."""
        for cycle in (self._running, self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(cycle, Exchange):
                cycle.abandon()
        if isinstance(self.cycle, Exchange):
            self.cycle = None
        super().connection_lost(error)

    def take_over(self, status: int) -> bool:
        """See `LimitedProtocol`."""
        if not isinstance(self.cycle, Exchange):
            return super().take_over(status)
        if not self.in_body or self.pipeline:
            return False
        self.cycle.abandon()
        return True

    @property
    def is_unanswered(self) -> bool:
        """Whether a request waits for its body or its model, and no task answers it."""
        return self._running is not None and self._running.is_unanswered

    def give_up(self) -> None:
        """Answers what waits: the server stops."""
        if self._running is not None and self._running.is_unanswered:
            self._running.refuse(STOPPING)

    def check_time(self, now: float) -> None:
        """Ends the connection when it has kept the server waiting for too long."""
        if isinstance(self.cycle, Exchange):
            self.cycle.check_time(now)
        super().check_time(now)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            self._running = cycle
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def _exchange(self) -> "Exchange | None":
        """What answers a request whose head has just come; None where ASGI has to."""
        asked = _asked_model(self.url) if len(self.url) <= LONGEST_URL else None
        if self.direct is None or asked is None:
            return None
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        headers = dict(self.headers)
        if b"content-length" not in headers or not UNCOMMON.isdisjoint(headers):
            return None
        try:
            self.direct.check(self.headers)
        except Refused:  # in words that the common way has
            return None
        return Exchange(self, self.direct.infer, headers, *asked)


class Exchange:
    """An inference request and its answer.

    For uvicorn it stands where its RequestResponseCycle does, and for the model where the future of its answer does.

    Attributes:
        keep_alive: whether the connection is to stay open.
        response_complete: whether the request is answered.
    """

    __slots__ = (
        "_admitted",
        "_asked",
        "_begun",
        "_body",
        "_connection",
        "_infer",
        "_is_due",
        "_is_whole",
        "_refusal",
        "_task",
        "keep_alive",
        "response_complete",
    )

    def __init__(self, connection: DirectProtocol, infer: Infer, headers: Headers, name: str, version: str) -> None:
        """A request on a connection to a version of a model; one that can't be taken in is refused when it is due."""
        self.keep_alive = connection.parser.should_keep_alive() and not connection.closing
        self.response_complete = False
        self._connection = connection
        self._infer = infer
        self._begun = connection.loop.time()
        self._is_due = self._is_whole = False
        self._task: asyncio.Task[None] | None = None
        self._admitted: Admitted | None = None
        self._asked: Asked | None = None
        self._refusal: Reply | None = None  # not the exception, whose traceback would hold what has been read
        try:
            self._admitted = infer.admit(headers, name, version)
            self._body = Arriving(told_length(headers), self._admitted.json_size or 0)
        except Refused as refused:
            self._refusal = refusal(refused)

    def start(self) -> None:
        """The requests before it are answered."""
        self._is_due = True
        if self._refusal is not None:
            self._send(self._refusal)
        elif self._is_whole:
            self._run()

    def receive(self, part: bytes) -> memoryview | None:
        """Takes a piece of the body; returns the memory that the rest is to be read into, None to get it likewise."""
        if self._admitted is None:
            return None
        self._body.add(part)
        return self._body.rest

    def fill(self, size: int) -> memoryview | None:
        """So many bytes have been read into the memory; returns what is left of it, None if nothing is."""
        self._body.fill(size)
        return self._body.rest

    def end(self) -> None:
        """The body is whole."""
        self._is_whole = True
        if self._is_due and not self.response_complete:
            self._run()

    @property
    def is_unanswered(self) -> bool:
        """Whether it waits for its body or its model, and no task answers it."""
        return self._task is None and not self.response_complete

    def refuse(self, refused: Refused) -> None:
        """Answers whatever else would have come of it."""
        self.keep_alive = False
        self._send(refusal(refused))

    def abandon(self) -> None:
        """The client has gone."""
        if self._task is not None:
            self._task.cancel()
        self._leave()
        self.response_complete = True

    def check_time(self, now: float) -> None:
        """Refuses a body that has taken too long."""
        if self._is_due and not self._is_whole and self._admitted is not None:
            slow = self._infer.too_slow(self._admitted.model, now - self._begun)
            if slow is not None:
                self.refuse(slow)

    def done(self) -> bool:
        """Whether no answer is awaited."""
        return self.response_complete

    def set_result(self, result: InferenceResult) -> None:
        """The model has answered."""
        assert self._admitted is not None and self._asked is not None
        try:
            reply = self._infer.told_at_once(self._admitted, self._asked, result)
        except Exception as error:  # the others of its batch are to be answered all the same
            reply = reply_to(error)
        if reply is None:
            self._start(self._infer.told(self._admitted, self._asked.model, self._asked.question, result))
        else:
            self._send(reply)

    def set_exception(self, error: Exception) -> None:
        """The model has refused."""
        self._send(reply_to(error))

    def _run(self) -> None:
        if self._admitted is None:
            return
        body = self._body.whole()
        try:
            self._asked = self._infer.ask(self._admitted, body, self)
        except Exception as error:
            self._send(reply_to(error))
            return
        if self._asked is None:
            self._start(self._infer.answer(self._admitted, body))

    def _start(self, answering: Coroutine[Any, Any, Reply]) -> None:
        """Answers in a task."""
        self._task = self._connection.loop.create_task(self._answer(answering))
        self._connection.tasks.add(self._task)
        self._task.add_done_callback(self._connection.tasks.discard)

    async def _answer(self, answering: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await answering
        except (Exception, asyncio.CancelledError) as error:
            reply = reply_to(error)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        """Answers, unless nobody is there any more, and has the connection go on to what comes next."""
        self._leave()
        self.response_complete = True
        connection = self._connection
        if connection.transport.is_closing():
            return
        headers = (*connection.server_state.default_headers, *reply.headers)
        if CLOSE in reply.headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers = (*headers, CLOSE)
        connection.transport.write(b"".join((_head(reply.status, headers, len(reply.body)), reply.body)))
        if not self.keep_alive:
            connection.finish()
        connection.on_response_complete()

    def _leave(self) -> None:
        if self._asked is not None:
            self._asked.leave()
            self._asked = None
        if self._admitted is not None:
            self._admitted.room.leave()
            self._admitted = None
            if self._connection.cycle is self:
                self._connection.rest = None  # what still comes is no body any more


@lru_cache(1024)
def _head(status: int, headers: tuple[tuple[bytes, bytes], ...], size: int) -> bytes:
    """The head of an answer; within a second, many are the same."""
    lines = [b"%s: %s\r\n" % header for header in (*headers, (b"content-length", b"%d" % size))]
    return b"".join((STATUS_LINE[status], *lines, b"\r\n"))


@lru_cache(1024)
def _asked_model(url: bytes) -> tuple[str, str] | None:
    """The model and version (empty for the newest) whose inference a plain URL names, None for any other."""
    return None if set(url) & PECULIAR or not url.isascii() else asked_model(url.decode())


def protocol(limits: ConnectionLimits, direct: Direct | None) -> type[DirectProtocol]:
    """The protocol of one server, with its bounds and its shorter way."""
    return type("Protocol", (DirectProtocol,), {"limits": limits, "direct": direct})
