"""Reading the bodies of requests, so that neither a large one, nor many, nor a slow one harms the server."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from starlette.types import Receive

from runtime.server.rest.compression import ENCODINGS, decompress
from runtime.serving.refused import Reason, Refused

# Room for an image of 3 × 2048 × 2048 numbers, five characters each.
DEFAULT_MAX_BODY = 64 * 2**20
# The rest of a body that is longer is read straight into its memory.
READ_DIRECTLY = 32 * 2**10
# Where memory for bytes begins in Python, and in NumPy; numbers in it are aligned where their offset is.
ALIGNMENT = 16
# What a task is cancelled with whose body takes too long.
TOO_SLOW = "too slow"


@dataclass(frozen=True)
class BodyLimits:
    """Bounds of bodies.

    Attributes:
        max_body: the most bytes of one, as sent and decompressed.
        max_pending: the most bytes of all that are being read or wait for their answer; beyond it requests are refused
            before their bodies are read. At least one body is let in.
        seconds: the longest that one may take to arrive.
    """

    max_body: int = DEFAULT_MAX_BODY
    max_pending: int = 4 * DEFAULT_MAX_BODY
    seconds: float = 60.0


def told_length(headers: Mapping[bytes, bytes]) -> int:
    """The length of a body, 0 where it isn't told."""
    return int(headers.get(b"content-length", 0))  # the HTTP parser has let nothing but digits through


def aligned(parts: Sequence[bytes], json_size: int) -> memoryview:
    """A body in one piece, laid so that every number behind `json_size` bytes of JSON is aligned."""
    lead = _lead(json_size)
    if len(parts) == 1 and not lead:
        return memoryview(parts[0])
    return memoryview(b"".join((bytes(lead), *parts)))[lead:]


def _lead(json_size: int) -> int:
    return -json_size % ALIGNMENT


class Arriving:
    """A body of known length while it arrives; a large one is read straight into its memory, whose bytes are `aligned`.

    Attributes:
        rest: the memory of a large one that isn't filled yet; None for a small one, and for one that is whole.
    """

    __slots__ = ("_json_size", "_length", "_parts", "_whole", "rest")

    def __init__(self, length: int, json_size: int) -> None:
        """A body of `length` bytes, the first `json_size` of which are JSON."""
        self._length = length
        self._json_size = json_size
        self._parts: list[bytes] = []
        self._whole: memoryview | None = None
        self.rest: memoryview | None = None

    def add(self, part: bytes) -> None:
        """Takes the next bytes."""
        if self._parts or (self._whole is None and self._length - len(part) < READ_DIRECTLY):
            self._parts.append(part)
            return
        if self._whole is None:
            lead = _lead(self._json_size)
            # Unlike what Python's own types give, it isn't cleared first.
            self._whole = np.empty(lead + self._length, np.uint8).data[lead:]
            self.rest = self._whole
        assert self.rest is not None
        self.rest[: len(part)] = part
        self.fill(len(part))

    def fill(self, size: int) -> None:
        """So many bytes have been read into `rest`."""
        assert self.rest is not None
        self.rest = self.rest[size:] or None

    def whole(self) -> memoryview:
        """All of it; it is given once."""
        if self._whole is None:
            parts, self._parts = self._parts, []
            return aligned(parts, self._json_size)
        whole, self._whole = self._whole, None
        return whole


class ClientGone(Exception):
    """The client went away before the end of its request."""


class Bodies:
    """The bodies that the server holds.

    Attributes:
        pending: the bytes of them.
    """

    def __init__(self, limits: BodyLimits, workers: Executor) -> None:
        """Bodies within `limits`, decompressed in `workers`."""
        self.limits = limits
        self.pending = 0
        self._workers = workers

    async def read(
        self, headers: Mapping[bytes, bytes], receive: Receive, room: "Room", json_size: int = 0
    ) -> memoryview:
        """A request's body, decompressed.

        Args:
            headers: the request's headers, in lower case.
            receive: gives its parts.
            room: is filled by the body.
            json_size: how much of it is JSON; what follows is laid where every number is aligned.

        Raises:
            Refused: it is too large, comes too slowly, or is compressed otherwise than known.
            ClientGone: there is nobody to answer.
        """
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity" and encoding not in ENCODINGS:
            raise Refused(
                Reason.UNSUPPORTED_MEDIA, f"Content-Encoding is {encoding.decode('latin-1')}, not gzip or deflate"
            )
        self._reserve(room, told_length(headers))
        parts: list[bytes] = []
        await self._in_time(self._receive(headers, receive, room, parts))
        view = aligned(parts, json_size)
        if encoding != b"identity":
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._workers, decompress, view, encoding, self.limits.max_body)
            room.take(len(body))
            return memoryview(body)
        return view

    def room(self, told: int) -> "Room":
        """Room for a body whose length is told, before it is read; raises Refused."""
        room = Room(self)
        self._reserve(room, told)
        return room

    def _reserve(self, room: "Room", told: int) -> None:
        """Has a body of a length that is told have its room from the start."""
        if told > self.limits.max_body:
            raise self._too_large()
        if told > room.taken:
            room.take(told - room.taken)

    async def _in_time(self, receiving: Coroutine[None, None, None]) -> None:
        """Receives for as long as a body may take; `asyncio.timeout` would cost a small request a tenth of its time."""
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(self.limits.seconds, task.cancel, TOO_SLOW)
        try:
            await receiving
        except asyncio.CancelledError as error:
            if error.args != (TOO_SLOW,):
                raise
            task.uncancel()
            raise self.too_slow() from None
        finally:
            timer.cancel()

    async def _receive(
        self, headers: Mapping[bytes, bytes], receive: Receive, room: "Room", parts: list[bytes]
    ) -> None:
        """Appends what arrives to `parts`."""
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self.limits.max_body:
                raise self._too_large()
            if size > room.taken:
                room.take(size - room.taken)
            parts.append(part)
            if not message.get("more_body", False):
                return

    def too_slow(self) -> Refused:
        """The refusal of a body that takes longer than it may."""
        return Refused(Reason.SLOW, f"the body did not arrive within {self.limits.seconds:g} s")

    def _too_large(self) -> Refused:
        return Refused(Reason.TOO_LARGE, f"the body is larger than {self.limits.max_body} bytes")


class Room:
    """What one request takes of the bytes that all bodies may have together, until it is left.

    Attributes:
        taken: its bytes.
    """

    __slots__ = ("_bodies", "taken")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.taken = 0

    def take(self, size: int) -> None:
        """Takes `size` more bytes.

        Raises:
            Refused: OVERLOADED, as there are not so many.
        """
        others = self._bodies.pending - self.taken
        if others and self._bodies.pending + size > self._bodies.limits.max_pending:
            full = "the requests that wait fill the memory that they may have; try again later"
            raise Refused(Reason.OVERLOADED, full, retry_after=1)
        self._bodies.pending += size
        self.taken += size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Gives the bytes back."""
        self._bodies.pending -= self.taken
        self.taken = 0
