"""Other engines as processes: from their start until they are ready, and to their end."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

START_SECONDS = 120
STOP_SECONDS = 60

# Takes a command, what it has in its environment besides, and whether the engine is ready.
Start = Callable[[Sequence[str], Mapping[str, str], Callable[[], bool]], subprocess.Popen[bytes]]


@contextlib.contextmanager
def engines(log: Path) -> Iterator[Start]:
    """Starts engines and returns when they are ready; all of them are ended when it is left."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool]
    ) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)
        started.append(process)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()[-4000:]
            with contextlib.suppress(OSError):
                if is_ready():
                    return process
            time.sleep(0.1)
        pytest.fail(log.read_text()[-4000:])

    try:
        yield start
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            process.kill()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
