"""Servers as processes, as their users start them, and what the system knows of them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.measuring import as_installed, netspec_command

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class Server:
    """A server that runs: its port, its process and that process's children."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._process = process

    def wait_ready(self, path: str) -> None:
        """Returns when a GET of `path` answers 200."""
        until = time.monotonic() + START_SECONDS
        while not is_ready(self.port, path):
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode} before it was ready")
            if time.monotonic() > until:
                raise RuntimeError(f"the server was not ready within {START_SECONDS:g} s")
            time.sleep(0.002)

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        return sum(_resident(number) for number in _family(self._process.pid))

    def cpu_seconds(self) -> float:
        """Processor time of all its processes that live."""
        return sum(_cpu_seconds(number) for number in _family(self._process.pid))

    def stop(self) -> int:
        """Ends it as a service manager does, with its children; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # children that outlived it, or itself
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


@contextmanager
def running(command: Sequence[str | Path], port: int, ready: str, log: Path | None = None) -> Iterator[Server]:
    """A server that is started by a command, from when a GET of `ready` answers 200 until it is left."""
    with (log or Path(os.devnull)).open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)], stdout=output, stderr=output, start_new_session=True, env=as_installed()
        )
        server = Server(port, process)
        try:
            server.wait_ready(ready)
            yield server
        finally:
            server.stop()


@contextmanager
def netspec_serve(*arguments: str | Path, ready: str = "/v2/health/ready", log: Path | None = None) -> Iterator[Server]:
    """`netspec serve` with these arguments, on the CPU and free ports."""
    port = free_port()
    command = [netspec_command(), "serve", *arguments, "--device", "cpu", "--port", str(port), "--grpc-port", "0"]
    with running(command, port, ready, log) as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_ready(port: int, path: str) -> bool:
    """Whether a GET of `path` answers 200; asked only where somebody listens, which takes little time to see."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)):
            return False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _family(number: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    except OSError:
        return [number]
    return [number, *(descendant for child in children for descendant in _family(int(child)))]


def _resident(number: int) -> int:
    try:
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(number: int) -> float:
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
