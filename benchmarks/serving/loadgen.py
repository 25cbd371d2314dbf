"""A load generator that takes little of the machine: one thread, plain sockets, and requests that are ready as bytes.

In a closed loop every connection sends its next request when it has its answer; in an open loop requests are sent at a
fixed rate, whatever becomes of them. Every answer is checked: its status, and its numbers.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context

import click
import numpy as np

from benchmarks.serving.wire import Exchange, binary_request, header, infer_path, json_request

READ = 1 << 20
PATIENCE = 30.0  # seconds without any answer after which what is still asked counts as lost


@dataclass(frozen=True)
class Load:
    """What is sent: to a port of this machine, for `seconds` after a warm-up, or `requests` in all.

    `rate` is the number of requests a second of an open loop, None for a closed one; `connections` is the concurrency
    of a closed loop, and the most connections that an open one opens.
    """

    port: int
    exchanges: Sequence[Exchange]
    connections: int
    seconds: float = float("inf")
    warm_up: float = 0.0
    rate: float | None = None
    requests: int | None = None


@dataclass
class Outcome:
    """What came back.

    Attributes:
        seconds: the time that was measured.
        times: when each answer that counts came, in seconds after the start, by status.
        latencies: how long it took in seconds, from the first byte sent to the last received, by status.
        wrong: answers of another status than is right, or of other numbers; `complaint` is the first of them.
        lost: requests without an answer.
        unsent: requests of an open loop for which there was no connection.
        ended: when no more was sent, in the system's monotonic time.
    """

    seconds: float = 0.0
    times: dict[int, list[float]] = field(default_factory=dict)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    wrong: int = 0
    lost: int = 0
    unsent: int = 0
    ended: float = 0.0
    complaint: str = ""

    def count(self, status: int = 200) -> int:
        return len(self.latencies.get(status, ()))

    def throughput(self, status: int = 200) -> float:
        """Answers a second."""
        return self.count(status) / self.seconds

    def percentile(self, percent: float, status: int = 200) -> float:
        """Of the latencies, in seconds; NaN without an answer."""
        found = self.latencies.get(status)
        return float(np.percentile(found, percent)) if found else float("nan")

    def show(self) -> str:
        lines = [
            f"{status}: {self.count(status)} ({self.throughput(status):.1f}/s), "
            + ", ".join(f"p{p:g} {1000 * self.percentile(p, status):.2f} ms" for p in (50, 90, 99, 100))
            for status in sorted(self.latencies)
        ]
        return "\n".join([*lines, f"wrong {self.wrong}, lost {self.lost}, unsent {self.unsent} {self.complaint}"])


class _Connection:
    """A connection, and the request that is on it."""

    __slots__ = ("begun", "exchange", "received", "socket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.exchange: Exchange | None = None
        self.unsent = memoryview(b"")
        self.received = b""
        self.begun = 0.0

    def send(self) -> None:
        """Sends what the system takes of the request."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):  # refused before its end: the answer may be there to be read
            self.unsent = memoryview(b"")

    def receive(self) -> bool:
        """Reads what is there; False at the end of the stream."""
        try:
            part = self.socket.recv(READ)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self.received = self.received + part if self.received else part
        return bool(part)

    def answer(self) -> tuple[int, bool, bytes, bytes] | None:
        """The status, whether the connection stays open, head and body, once all of it is there."""
        end = self.received.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        head = self.received[:end]
        status, length, stays = _read_head(head)
        if len(self.received) < end + length:
            return None
        body, self.received = self.received[end : end + length], self.received[end + length :]
        return status, stays, head, body


@lru_cache(64)
def _read_head(head: bytes) -> tuple[int, int, bool]:
    """The status, the length of the body, and whether the connection stays open."""
    length = header(head, "Content-Length")
    if length is None:
        raise ValueError(f"an answer without its length: {head!r}")
    return int(head[9:12]), int(length), (header(head, "Connection") or "").lower() != "close"


class _Driver:
    """One run of a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._next = itertools.cycle(load.exchanges)
        self._poll = select.epoll()
        self._by_number: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._good: dict[int, set[bytes]] = {}
        self._outcome = Outcome()
        self._sent = 0

    def run(self) -> Outcome:
        load = self._load
        for _ in range(load.connections if load.rate is None else 0):
            self._idle.append(self._open())
        self._start = time.perf_counter()
        self._stop = self._start + load.warm_up + load.seconds
        heard = self._start
        while True:
            now = time.perf_counter()
            wait = self._send_what_is_due(now)
            busy = len(self._by_number) - len(self._idle)
            if wait is None:
                self._outcome.ended = self._outcome.ended or time.monotonic()
            if wait is None and (not busy or now - heard > PATIENCE):
                break
            for number, event in self._poll.poll(0.5 if wait is None else max(wait, 0)):
                self._handle(self._by_number[number], event)
                heard = now
        self._outcome.lost += len(self._by_number) - len(self._idle)
        self._outcome.seconds = min(time.perf_counter(), self._stop) - self._start - load.warm_up
        for connection in self._by_number.values():
            connection.socket.close()
        return self._outcome

    def _send_what_is_due(self, now: float) -> float | None:
        """Sends, and says how many seconds may pass until there is more to send; None when nothing more will be."""
        load = self._load
        if now >= self._stop or (load.requests is not None and self._sent >= load.requests):
            return None
        if load.rate is None:
            while self._idle and self._sent != load.requests:
                self._begin(self._idle.pop())
            return 0.5
        while self._sent < (due := (now - self._start) * load.rate):
            if self._idle:
                self._begin(self._idle.pop())
            elif len(self._by_number) < load.connections:
                self._begin(self._open())
            else:
                self._sent += 1
                self._outcome.unsent += 1
        return (self._sent - due) / load.rate

    def _open(self) -> _Connection:
        connection = _Connection(self._load.port)
        self._by_number[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _close(self, connection: _Connection) -> None:
        del self._by_number[connection.socket.fileno()]
        connection.socket.close()

    def _begin(self, connection: _Connection) -> None:
        self._sent += 1
        connection.exchange = next(self._next)
        connection.begun = time.perf_counter()
        connection.unsent = memoryview(connection.exchange.request)
        connection.send()
        if connection.unsent:
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _handle(self, connection: _Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            connection.send()
            if not connection.unsent:
                self._poll.modify(connection.socket, select.EPOLLIN)
                if connection.exchange is None:  # it was answered before its end, and has been sent all the same
                    self._idle.append(connection)
        if not event & ~select.EPOLLOUT:
            return
        is_open = connection.receive()
        answer = connection.answer() if connection.exchange else None
        if answer:
            status, stays, head, body = answer
            self._record(connection, status, head, body)
            is_open = is_open and stays
        if not is_open:
            self._give_up(connection)
        elif answer and not connection.unsent:
            self._idle.append(connection)

    def _give_up(self, connection: _Connection) -> None:
        """Replaces a connection that the server has closed; a request on it is lost."""
        self._outcome.lost += connection.exchange is not None
        if connection in self._idle:
            self._idle.remove(connection)
        self._close(connection)
        if self._load.rate is None:
            self._idle.append(self._open())

    def _record(self, connection: _Connection, status: int, head: bytes, body: bytes) -> None:
        now, exchange, outcome = time.perf_counter(), connection.exchange, self._outcome
        assert exchange is not None
        connection.exchange = None
        if self._start + self._load.warm_up <= now < self._stop:
            outcome.times.setdefault(status, []).append(now - self._start)
            outcome.latencies.setdefault(status, []).append(now - connection.begun)
        if status in exchange.statuses and (status != 200 or self._holds(exchange, head, body)):
            return
        outcome.wrong += 1
        outcome.complaint = outcome.complaint or f"{status}: {body[:200]!r} to {exchange.request[:200]!r}"

    def _holds(self, exchange: Exchange, head: bytes, body: bytes) -> bool:
        """The exchange's own check, for bodies that it has not seen yet."""
        good = self._good.setdefault(id(exchange), set())
        if body in good:
            return True
        if not exchange.holds(head, body):
            return False
        if len(good) < 64:
            good.add(body)
        return True


def drive(load: Load) -> Outcome:
    """Sends a load and gathers what comes back."""
    return _Driver(load).run()


@contextmanager
def load_process() -> Iterator[Executor]:
    """A process of its own for `drive`, as clients are."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(time.time).result()
        yield pool


@click.command()
@click.argument("model")
@click.option("--port", default=8000, show_default=True)
@click.option("--input", "inputs", multiple=True, metavar="NAME=1x3x224x224", required=True, help="FP32, drawn.")
@click.option("--binary/--json", default=True, show_default=True)
@click.option("--concurrency", default=8, show_default=True)
@click.option("--seconds", default=5.0, show_default=True)
@click.option("--rate", type=float, help="Requests a second of an open loop.")
def main(
    model: str, port: int, inputs: tuple[str, ...], binary: bool, concurrency: int, seconds: float, rate: float | None
) -> None:
    """Send drawn tensors to MODEL on a port of this machine and print what comes back; the numbers are not checked."""
    drawn = np.random.default_rng(0)
    shapes = {name: tuple(map(int, sizes.split("x"))) for name, _, sizes in (text.partition("=") for text in inputs)}
    feeds = {name: drawn.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    request = (binary_request if binary else json_request)(infer_path(model), feeds)
    outcome = drive(Load(port, [_Unchecked(request)], concurrency, seconds, seconds / 5, rate))
    print(outcome.show())


class _Unchecked(Exchange):
    """A request any answer to which is right."""

    def holds(self, head: bytes, body: bytes) -> bool:
        return True


if __name__ == "__main__":
    main()
