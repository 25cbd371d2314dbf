"""A server with ten thousand connections on which nothing happens: what they cost it, and whom they hold up."""

from __future__ import annotations

import resource
import select
import socket
import tempfile
import time
from concurrent.futures import Executor
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring import Result, keep
from benchmarks.serving.loadgen import Load, Outcome, drive, load_process
from benchmarks.serving.models import scaled_convolution
from benchmarks.serving.processes import Server, netspec_serve
from benchmarks.serving.wire import Exchange, binary_request, infer_path
from runtime.server.limits import RESERVED_FILES, ConnectionLimits

MOST = 10_000
# Connections of others than the idle clients, and files of this process beside its connections.
SPARE = 64
TIME_OUT = ConnectionLimits().idle_seconds
MODEL = "scaled"
# Who is silent is not looked at but once a second, with all others, which takes milliseconds: less than 1 % of requests
# meet that. So p99 is to differ by no more than from one run to the next.
SLOWER = 1.3
# For a connection with its transport and parser: 160 MB for all.
MOST_BYTES = 16 * 2**10
# The server looks once a second, and ends thousands at a time.
AROUND = 2.5


class IdleClients:
    """Connections that are held: every second one silent from the start, the others after a request was answered.

    Attributes:
        refused: how many requests were not answered as they should be, or silent ones spoken to.
        lasted: how long each of those that the server has ended was idle, in seconds.
    """

    def __init__(self, port: int, count: int, exchange: Exchange) -> None:
        self.refused = 0
        self.lasted: list[float] = []
        self._poll = select.epoll()
        self._since: dict[int, tuple[socket.socket, float]] = {}
        for index in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            self.refused += index % 2 and not _is_answered(connection, exchange)
            self._since[connection.fileno()] = connection, time.monotonic()
            self._poll.register(connection, select.EPOLLIN | select.EPOLLRDHUP)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._since)

    def watch(self, until: float) -> None:
        """Notes which the server ends, until that time by the monotonic clock, or until all are ended."""
        while self._since and (left := until - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left):
                connection, since = self._since.pop(number)
                self.lasted.append(time.monotonic() - since)
                self._poll.unregister(connection)
                self.refused += bool(connection.recv(1))
                connection.close()


def _is_answered(connection: socket.socket, exchange: Exchange) -> bool:
    connection.sendall(exchange.request)
    reply = connection.recv(2**16)
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200 ") and exchange.holds(head + b"\r\n\r\n", body)


def raise_own_limit() -> int:
    """Lets this process have as many files as it may, and gives the idle connections that both sides have room for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MOST if hard == resource.RLIM_INFINITY else min(MOST, hard - RESERVED_FILES - SPARE)


def measure(folder: Path, load: Executor, count: int, seconds: float) -> list[Result]:
    path = folder / f"{MODEL}.onnx"
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    expected = {None: scaled_convolution(path, 1.0)(image)}
    exchange = Exchange(binary_request(infer_path(MODEL), {"image": image}), expected=expected)

    def ask(server: Server, seconds: float) -> Outcome:
        return load.submit(drive, Load(server.port, [exchange], 1, seconds, 1.0)).result()

    with netspec_serve(path, "--max-connections", str(count + SPARE), "--threads", "1") as server:
        before = ask(server, seconds)
        memory = server.memory()
        idle = IdleClients(server.port, count, exchange)
        opened = time.monotonic()
        memory = server.memory() - memory
        beside = ask(server, seconds)
        idle.watch(time.monotonic() + 0.1)
        early = len(idle.lasted)
        # Until the server has ended the last of them.
        ending = load.submit(drive, Load(server.port, [exchange], 1, TIME_OUT + 3 - (time.monotonic() - opened)))
        idle.watch(opened + TIME_OUT + 10)
        alone = [before, ask(server, seconds)]
        print(f"with idle connections\n{beside.show()}\nwhile they are ended\n{ending.result().show()}")
        return results(idle, count, early, memory, alone, beside, ending.result())


def results(
    idle: IdleClients, count: int, early: int, memory: int, alone: list[Outcome], beside: Outcome, ending: Outcome
) -> list[Result]:
    """The figures; `memory` is what the connections added, in bytes, and `alone` is without them, before and after."""
    times = {
        "p99 alone": 1000 * float(np.percentile([taken for each in alone for taken in each.latencies[200]], 99)),
        "p99 with them": 1000 * beside.percentile(99),
        "most alone": 1000 * max(each.percentile(100) for each in alone),
        "most with them": 1000 * beside.percentile(100),
        "most while they are ended": 1000 * ending.percentile(100),
    }
    loads = [*alone, beside, ending]
    faults = idle.refused + early + sum(each.wrong + each.lost for each in loads)
    late = max(abs(seconds - TIME_OUT) for seconds in idle.lasted) if idle.lasted and not len(idle) else float("inf")
    details = {
        "idle connections": count,
        "answered beside them": beside.count(),
        "ended before their time": early,
        "never ended": len(idle),
        "complaint": next((each.complaint for each in loads if each.complaint), ""),
    }
    slower = times["p99 with them"] / times["p99 alone"]
    what = f"with {count} idle connections"

    def small(figure: str, text: str, value: float, limit: float) -> Result:
        return Result(f"serving_idle_{figure}", f"{text} {what}", value, limit, True, times, details)

    return [
        small("faults", "requests that are refused, wrong or lost, and connections ended too soon,", faults, 0),
        small("p99", "p99 of another client over that without them,", slower, SLOWER),
        small("memory", "bytes of the server's memory for each,", memory / count, MOST_BYTES),
        small("ended", f"seconds around the {TIME_OUT:g} s after which the server ends each,", late, AROUND),
    ]


@click.command()
@click.option("--dry-run", is_flag=True, help="Print only, keep nothing.")
@click.option("--seconds", default=8.0, show_default=True, help="Of each load.")
@click.option("--connections", type=click.IntRange(2, MOST), default=MOST, show_default=True, help="Idle ones.")
def main(dry_run: bool, seconds: float, connections: int) -> None:
    """Measure, print the figures, and exit with 1 where one is missed."""
    count = min(connections, raise_own_limit())
    with tempfile.TemporaryDirectory() as folder, load_process() as load:
        found = measure(Path(folder), load, count, seconds)
    raise SystemExit(not keep(found, dry_run))


if __name__ == "__main__":
    main()
