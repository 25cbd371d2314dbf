"""Inference requests that the protocol answers itself: as by ASGI, in whatever pieces and order they come."""

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.served import Served, serving
from tests.runtime.test_serving_drain import SLOW

SaveModel = Callable[..., Path]

PATH = "/v2/models/echo1/infer"
# It sends a request by ASGI, and says nothing that isn't so without it.
BY_ASGI = {"Content-Encoding": "identity"}
NO_ASGI = "import runtime.server.rest.app as app; app.App.__call__ = None"
IMPATIENT = """
from runtime.server.rest.bodies import BodyLimits
make = BodyLimits.__init__
BodyLimits.__init__ = lambda self, body, pending: make(self, body, pending, 0.3)
"""


@pytest.fixture
def served(save_echo: SaveModel) -> Iterator[Served]:
    with serving(save_echo()) as served:
        yield served


def tensor(*values: float, shape: object = None, **other: object) -> dict[str, object]:
    return {"name": "x", "datatype": "FP32", "shape": shape or [len(values) // 2, 2], "data": values} | other


def asked(*values: float) -> bytes:
    return json.dumps({"inputs": [tensor(*values)]}).encode()


def binary(values: np.ndarray) -> tuple[bytes, dict[str, str]]:
    described = {
        "name": "x",
        "datatype": "FP32",
        "shape": values.shape,
        "parameters": {"binary_data_size": values.nbytes},
    }
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    return head + values.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def post(body: bytes, headers: dict[str, str] | None = None, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Client:
    """A raw connection."""

    def __init__(self, served: Served) -> None:
        self.socket = socket.create_connection(served.address, timeout=10)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, *parts: bytes, pause: float = 0.0) -> None:
        for part in parts:
            self.socket.sendall(part)
            time.sleep(pause)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        lines = iter(lambda: self.file.readline().decode().strip(), "")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return status, headers, self.file.read(int(headers["content-length"]))

    def numbers(self) -> list[float]:
        status, _, body = self.answer()
        assert status == 200, body
        return list(json.loads(body)["outputs"][0]["data"])


@contextmanager
def client(served: Served) -> Iterator[Client]:
    with closing(Client(served)) as found:
        yield found


def test_pieces_are_put_together_without_the_application(save_echo: SaveModel) -> None:
    with serving(save_echo(), before=NO_ASGI) as served, client(served) as one:
        whole = post(asked(1, 2, 3, 4))
        one.send(whole)
        assert one.numbers() == [1, 2, 3, 4]
        one.send(whole[:30], whole[30:110], whole[110:150], whole[150:], pause=0.02)
        assert one.numbers() == [1, 2, 3, 4]
        values = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
        one.send(post(*binary(values)))
        status, headers, body = one.answer()
        assert status == 200
        raw = body[int(headers["inference-header-content-length"]) :]
        np.testing.assert_array_equal(np.frombuffer(raw, np.float32), values.ravel())


def test_requests_in_one_packet_are_answered_in_their_order(served: Served) -> None:
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with client(served) as one:
        one.send(
            post(asked(1, 2)) + post(asked(3, 4), BY_ASGI) + post(b"{") + live + post(asked(5, 6)) + post(asked(7, 8))
        )
        assert one.numbers() == [1, 2]
        assert one.numbers() == [3, 4]
        assert one.answer()[0] == 400
        assert one.answer()[::2] == (200, b'{"live":true}')
        assert one.numbers() == [5, 6]
        assert one.numbers() == [7, 8]


def test_answers_are_those_that_asgi_gives(served: Served) -> None:
    right = np.float32([[1, 2], [3, 4]])
    requests: list[tuple[bytes, dict[str, str], str]] = [
        (asked(1, 2), {}, PATH),
        (asked(1, 2), {"Accept-Encoding": "gzip"}, PATH),
        (asked(*range(2000)), {"Accept-Encoding": "gzip"}, PATH),
        (*binary(right), PATH),
        (right.tobytes(), {"Inference-Header-Content-Length": "0"}, PATH),
        (asked(1, 2), {"Inference-Header-Content-Length": "-1"}, PATH),
        (asked(1, 2), {"Inference-Header-Content-Length": "999"}, PATH),
        (b"", {}, PATH),
        (asked(1, 2, 3), {}, PATH),
        (asked(1, 2), {}, "/v2/models/nobody/infer"),
        (asked(1, 2), {}, "/v2/models/echo1/versions/1/infer"),
        (asked(1, 2), {}, "/v2/models/echo1/versions/9/infer"),
        (asked(1, 2), {}, "/v2/models/%65cho1/infer?x=1"),
        (asked(1, 2), {"Connection": "close"}, PATH),
    ]
    for body, headers, path in requests:
        with client(served) as one, client(served) as other:
            one.send(post(body, headers, path))
            other.send(post(body, headers | BY_ASGI, path))
            (status, told, found), (by_asgi, told_by_asgi, expected) = one.answer(), other.answer()
            assert (status, found) == (by_asgi, expected), (headers, path)
            del told["date"], told_by_asgi["date"]
            assert told == told_by_asgi


def test_what_is_refused_is_refused_before_its_body_and_does_not_end_the_connection(save_echo: SaveModel) -> None:
    with serving(save_echo(), "--max-body", 5000) as served, client(served) as one:
        head, _, body = post(bytes(5000)).replace(b"/echo1/", b"/other/", 1).partition(b"\r\n\r\n")
        one.send(head + b"\r\n\r\n")
        status, headers, _ = one.answer()
        assert status == 404
        assert "connection" not in headers
        one.send(body, post(asked(1, 2)))
        assert one.numbers() == [1, 2]


def test_what_is_too_large_ends_the_connection(save_echo: SaveModel) -> None:
    with serving(save_echo(), "--max-body", 1000) as served, client(served) as one:
        one.send(post(bytes(5000)))
        status, headers, told = one.answer()
        assert (status, json.loads(told)) == (413, {"error": "the body is larger than 1000 bytes"})
        assert headers["connection"] == "close"
        assert one.file.read() == b""


@pytest.mark.parametrize("size", [100, 500_000])
def test_a_body_that_takes_too_long_is_given_up(save_echo: SaveModel, size: int) -> None:
    with serving(save_echo(), before=IMPATIENT) as served, client(served) as one:
        one.send(post(bytes(size))[:-5])
        status, headers, told = one.answer()
        assert (status, json.loads(told)) == (408, {"error": "the body did not arrive within 0.3 s"})
        assert headers["connection"] == "close"
        assert one.file.read() == b""


def test_a_request_whose_client_has_gone_does_not_run(save_echo: SaveModel) -> None:
    with serving(save_echo(), "--max-batch", 1, before=SLOW.replace("SECONDS", "0.5")) as served:
        with client(served) as first:
            first.send(post(asked(1, 2)))
            with client(served) as gone:
                time.sleep(0.1)
                gone.send(post(asked(3, 4)))
                time.sleep(0.1)
            assert first.numbers() == [1, 2]
            first.send(post(asked(5, 6)))
            assert first.numbers() == [5, 6]
        with urllib.request.urlopen(f"{served.url}/v2/models/echo1/stats", timeout=10) as reply:
            (statistics,) = json.load(reply)["model_stats"]
        assert statistics["execution_count"] == 2
