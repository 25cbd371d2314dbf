"""A server in a process of its own, as an operator starts it."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

MAIN = "from runtime.cli.serve import command; command()"
LINE = re.compile(r"serving .* at (https?://[^/\s]+)(/v2/models/\S+)?( on cpu \(as asked\))?\n")
RPC_LINE = re.compile(r"serving gRPC at (\S+)\n")


@dataclass
class Served:
    """A running server.

    Attributes:
        process: its process; standard output is read up to the lines that tell its addresses.
        url: where it answers HTTP.
        rpc: where it answers gRPC, empty where it doesn't.
        lines: what it has written to standard error so far.
    """

    process: subprocess.Popen[str]
    url: str
    rpc: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def end(self, seconds: float = 10) -> int:
        """The exit code, when it has ended."""
        code = self.process.wait(seconds)
        self.reader.join(5)
        return code

    def wait_for(self, text: str, seconds: float = 10) -> None:
        """Returns when the log has told it."""
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def __post_init__(self) -> None:
        assert self.process.stderr is not None
        self.reader = threading.Thread(target=_read, args=(self.process.stderr, self.lines), daemon=True)
        self.reader.start()


def infer(url: str, model: str, value: float = 0.5, rows: int = 1, **fields: Any) -> dict[str, Any]:
    """What the classifier says of images that are `value` everywhere; `fields` stand in the request beside them."""
    tensor = {"name": "image", "shape": [rows, 1, 4, 4], "datatype": "FP32", "data": [value] * 16 * rows}
    request = urllib.request.Request(
        f"{url}/v2/models/{model}/infer", json.dumps({"inputs": [tensor], **fields}).encode()
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return dict(json.load(reply))


def _read(stream: IO[str], lines: list[str]) -> None:
    lines.extend(iter(stream.readline, ""))


@contextmanager
def serving(
    *arguments: object, rpc: bool = False, before: str = "", env: dict[str, str] | None = None
) -> Iterator[Served]:
    """A server on any free port, which runs `before` first and is killed at the end; with gRPC where `rpc` says so."""
    defaults = ["--port", "0", "--grpc-port", "0" if rpc else "off", "--device", "cpu", "--threads", "1"]
    call = [sys.executable, "-c", f"{before}\n{MAIN}", *map(str, arguments), *defaults]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        served = Served(process, "")
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = LINE.fullmatch(line)
            assert found, (line, served.end(), served.log)
            served.url = found[1]
            if rpc:
                line = process.stdout.readline()
                found = RPC_LINE.fullmatch(line)
                assert found, (line, served.log)
                served.rpc = found[1]
            yield served
        finally:
            process.kill()
            served.end()
