"""The HTTP side of the server: uvicorn's protocol on a listening socket, within limits, and how it ends."""

import asyncio
import contextlib
import logging
import socket
import ssl
from email.utils import formatdate

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from runtime.server.address import listen
from runtime.server.direct import Direct, DirectProtocol, protocol
from runtime.server.limits import ConnectionLimits
from runtime.server.reader import SIZE, Reader

BACKLOG = 2048
# New connections in one turn of the event loop, which by itself takes one: a busy server would leave them waiting.
ACCEPTED = 32
SWEEP_SECONDS = 1.0
# While it ends, the server goes on listening for so long and answers 503, as clients don't know yet.
LULL_SECONDS = 0.1
# Connections that the system has made are accepted within this time.
LAST_ACCEPTED_SECONDS = 0.02
# A request that was given up has so long to say so.
LAST_WORDS_SECONDS = 1.0


def _concerns_operators(record: logging.LogRecord) -> bool:
    """Whether uvicorn has something to tell other than that a client sent what is no HTTP, as often as it likes."""
    return record.levelno > logging.WARNING or logging.getLogger().isEnabledFor(logging.DEBUG)


logging.getLogger("uvicorn.error").addFilter(_concerns_operators)


class HttpServer:
    """Answers HTTP/1.1 with an ASGI application, from `open` until `drain`."""

    def __init__(
        self, app: ASGIApp, limits: ConnectionLimits, context: ssl.SSLContext | None, direct: Direct | None = None
    ) -> None:
        """Serves `app` within `limits`, with `context` over TLS; inference goes by `direct` where that is given."""
        self._protocol = protocol(limits, direct)
        self._config = uvicorn.Config(
            app,
            http=self._protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=round(limits.idle_seconds),
        )
        self._config.load()
        self._head_seconds = limits.head_seconds
        self._context = context
        self._state = ServerState()
        self._memory = memoryview(bytearray(SIZE))

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._state.connections)

    async def open(self, listener: socket.socket) -> None:
        """Begins to answer on a socket from `runtime.server.address.bind`; raises AddressError."""
        listen(listener, BACKLOG)
        self._listener = listener
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(
                self._connection,
                sock=listener.dup(),
                backlog=BACKLOG,
                ssl=self._context,
                ssl_handshake_timeout=self._head_seconds if self._context else None,
            )
            for _ in range(ACCEPTED)
        ]
        self._sweeper = loop.create_task(self._sweep())

    async def drain(self, deadline: float) -> None:
        """Takes no more connections, and returns when what was accepted is answered.

        Args:
            deadline: when, in the event loop's time, what isn't answered yet is given up.
        """
        loop = asyncio.get_running_loop()
        self._protocol.closing = True
        await asyncio.sleep(LULL_SECONDS)
        # Who is connected when the socket closes, but not yet accepted, would be cut off; so nobody connects first.
        self._listener.listen(0)
        await asyncio.sleep(LAST_ACCEPTED_SECONDS)
        self._listener.close()
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()  # an idle one ends now, a busy one with its answer
        while (self._state.tasks or self._unanswered()) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in self._unanswered():
            connection.give_up()
        if given_up := list(self._state.tasks):
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up, timeout=LAST_WORDS_SECONDS)
        last = max(deadline, loop.time() + LAST_WORDS_SECONDS)
        while self._state.connections and loop.time() < last:
            await asyncio.sleep(0.01)
        self._sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper

    def _unanswered(self) -> list[DirectProtocol]:
        """The connections on which a request waits."""
        connections = [each for each in self._state.connections if isinstance(each, DirectProtocol)]
        return [connection for connection in connections if connection.is_unanswered]

    def _connection(self) -> Reader:
        return Reader(self._protocol(self._config, self._state, {}, asyncio.get_running_loop()), self._memory)

    async def _sweep(self) -> None:
        """Every second, for ever: the date in answers, and an end to connections that take too long."""
        loop = asyncio.get_running_loop()
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            now = loop.time()
            for connection in list(self._state.connections):
                if isinstance(connection, DirectProtocol):
                    connection.check_time(now)
            await asyncio.sleep(SWEEP_SECONDS)
