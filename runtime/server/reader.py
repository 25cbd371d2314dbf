"""Reading from sockets: the rest of a large body into memory of its own, all else into one piece for all."""

import asyncio

from runtime.server.direct import DirectProtocol

# Of the memory for all connections, and of what a head is read into, with the body of a small request: what comes
# behind the head of a large one is to be read into memory of its own.
SIZE = 64 * 2**10
HEAD = 16 * 2**10


class Reader(asyncio.BufferedProtocol):
    """Reads for a connection, to which it hands on all else.

    A protocol that is given bytes would be given every body in pieces, to be copied by the parser and once more into
    one.
    """

    __slots__ = ("_connection", "_head", "_memory")

    def __init__(self, connection: DirectProtocol, memory: memoryview) -> None:
        """Reads for `connection`; `memory` is that of all connections of a loop, which reads from one at a time."""
        self._connection = connection
        self._memory = memory
        self._head = memory[:HEAD]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes are read into."""
        connection = self._connection
        if connection.rest is not None:
            return connection.rest
        return self._memory if connection.in_body else self._head

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have been read."""
        if self._connection.rest is None:
            self._connection.data_received(bytes(self._memory[:nbytes]))
        else:
            self._connection.body_read(nbytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection begins."""
        self._connection.connection_made(transport)

    def eof_received(self) -> None:
        """The client sends no more."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._connection.resume_writing()
