"""What connections can do to the short way of inference: requests in parts, answers unread, bodies promised, noise."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.session import Session
from tests.runtime.conftest import save
from tests.runtime.rest_server import Served
from tests.runtime.test_rest_fuzz import QUICK

WIDE = 60_000  # numbers in an answer that is larger than what sockets hold by themselves, when a few of them wait


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``echo``: x [n, 2] → y; ``wide``: x [n, 1] → y [n, WIDE]."""
    folder = tmp_path_factory.mktemp("models")
    echo = helper.make_node("Identity", ["x"], ["y"])
    tile = helper.make_node("Tile", ["x", "times"], ["y"])
    pair = [[(name, TensorProto.FLOAT, ["n", 2])] for name in ("x", "y")]
    widened = [("x", TensorProto.FLOAT, ["n", 1])], [("y", TensorProto.FLOAT, ["n", WIDE])]
    models = {
        "echo": save(folder / "echo.onnx", [echo], *pair),
        "wide": save(folder / "wide.onnx", [tile], *widened, {"times": np.array([1, WIDE])}),
    }
    one = Served(models, max_queue=2, max_batch=1)
    yield one
    one.close()


@pytest.fixture
def address(served: Served) -> Iterator[tuple[str, int]]:
    with served.listening() as listening:
        host, _, port = listening.partition(":")
        yield host, int(port)


class Connection:
    """A connection that says what it's told to, and reads whole answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.file = self.socket.makefile("rb")

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, headers and body."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        return status, headers, self.file.read(int(headers["content-length"]))

    def ended(self) -> bool:
        """Whether the server has closed it."""
        return self.file.read(1) == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[Connection]:
    made = Connection(address)
    yield made
    made.close()


def body_of(value: float = 0, rows: int = 1, identity: str = "") -> bytes:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [value] * 2 * rows}
    return json.dumps({"id": identity, "inputs": [tensor]}).encode()


def request(body: bytes, *headers: str, model: str = "echo", length: int | None = None) -> bytes:
    head = [
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: server",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def wide(identity: int = 0) -> bytes:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [identity]}
    asked = {"id": str(identity), "inputs": [tensor], "parameters": {"binary_data_output": True}}
    return request(json.dumps(asked).encode(), model="wide")


def test_a_request_that_comes_byte_by_byte(connection: Connection) -> None:
    for part in request(body_of(3)):
        connection.say(bytes([part]))
    assert json.loads(connection.answer()[2])["outputs"][0]["data"] == [3, 3]


@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
def test_who_asks_for_an_end_gets_it(connection: Connection, header: str) -> None:
    connection.say(request(body_of(), header))
    _, headers, _ = connection.answer()
    closes = header.endswith("close")
    assert ("connection" in headers) == closes
    if closes:
        assert connection.ended()


def test_what_goes_the_common_way_is_answered_alike(connection: Connection) -> None:
    plain = body_of(2)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(plain), plain)
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: s\r\n"
    connection.say(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
    connection.say(request(plain).replace(b"/echo/", b"/ech%6f/"))
    connection.say(request(plain).replace(b"/infer ", b"/infer?a=1 "))
    connection.say(request(plain))
    bodies = [connection.answer()[2] for _ in range(4)]
    assert bodies == [bodies[0]] * 4


def test_a_body_is_waited_for_where_that_is_asked(connection: Connection) -> None:
    body = body_of(4)
    connection.say(request(b"", "Expect: 100-continue", length=len(body)))
    assert connection.file.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert connection.file.readline() == b"\r\n"
    connection.say(body)
    assert connection.answer()[0] == 200


def test_who_does_not_read_is_not_worked_for(served: Served, address: tuple[str, int]) -> None:
    answered = served.repository.model("wide").statistics.success
    before = answered.count
    asker = Connection(address)
    many = 400  # answers of 240 kB
    sender = threading.Thread(target=asker.say, args=[b"".join(wide(i) for i in range(many))], daemon=True)
    sender.start()
    until(lambda: answered.count > before)
    seen = 0
    while seen != (seen := answered.count):
        time.sleep(0.7)
    assert answered.count - before < many / 2
    answers = [asker.answer() for _ in range(many)]
    sender.join()
    asker.close()
    for identity, (status, headers, body) in enumerate(answers):
        size = int(headers["inference-header-content-length"])
        assert (status, json.loads(body[:size])["id"]) == (200, str(identity))
        assert (np.frombuffer(body[size:], np.float32) == identity).all()


@pytest.fixture
def gate(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Runs are held until the first is set; the second is set when one is held."""
    opened, entered, run = threading.Event(), threading.Event(), Session.run

    def held(session: Session, feeds: Any, outputs: Any = None) -> Any:
        entered.set()
        assert opened.wait(10)
        return run(session, feeds, outputs)

    monkeypatch.setattr(Session, "run", held)
    yield opened, entered
    opened.set()


def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def test_a_full_queue_is_503_before_the_body(served: Served, address: tuple[str, int], gate: Any) -> None:
    opened, entered = gate
    model = served.repository.model("echo")
    askers = [Connection(address) for _ in range(4)]
    askers[0].say(request(body_of(0)))
    assert entered.wait(5)
    for value in (1, 2):
        askers[value].say(request(body_of(value)))
    until(lambda: model.queue_depth == 2)
    askers[3].say(request(b"", length=1000))
    status, headers, body = askers[3].answer()
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert "2 requests wait for 'echo'" in json.loads(body)["error"]
    opened.set()
    assert [json.loads(asker.answer()[2])["outputs"][0]["data"][0] for asker in askers[:3]] == [0, 1, 2]
    for asker in askers:
        asker.close()


@pytest.mark.parametrize(("sent", "length"), [(1, 50_000), (100_000, 190_000)])
def test_the_room_of_bodies_is_given_back(address: tuple[str, int], sent: int, length: int) -> None:
    for _ in range(20):  # of which eight at most would fill it
        asker = Connection(address)
        asker.say(request(bytes(sent), length=length))
        asker.close()

    def is_answered() -> bool:
        asker = Connection(address)
        asker.say(request(body_of()))
        status = asker.answer()[0]
        asker.close()
        return status == 200

    until(is_answered)


@pytest.fixture(scope="module")
def lasting(served: Served) -> Iterator[tuple[str, int]]:
    with served.listening() as listening:
        host, _, port = listening.partition(":")
        yield host, int(port)


@QUICK
@given(
    rows=st.integers(0, 3),
    told=st.integers(-2, 40),
    raw=st.binary(max_size=40),
    off=st.integers(-60, 60) | st.just(0),
    cuts=st.lists(st.integers(0, 200), max_size=3),
    broken=st.binary(max_size=3),
)
def test_whatever_is_framed_however(
    lasting: tuple[str, int], rows: int, told: int, raw: bytes, off: int, cuts: list[int], broken: bytes
) -> None:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": told}}
    head = json.dumps({"inputs": [tensor]}).encode() + broken
    asked = request(head + raw, f"Inference-Header-Content-Length: {len(head) + off}")
    asker = Connection(lasting)
    begin = 0
    for cut in sorted(cuts):
        asker.say(asked[begin:cut])
        begin = max(begin, cut)
    asker.say(asked[begin:], request(body_of(7)))
    status, _, body = asker.answer()
    assert status in (200, 400)
    assert ("outputs" if status == 200 else "error") in json.loads(body)
    assert json.loads(asker.answer()[2])["outputs"][0]["data"] == [7, 7]
    asker.close()


@QUICK
@given(
    rows=st.lists(st.integers(1, 12_000), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 300_000), max_size=6),
    lead=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_large_bodies_arrive_whole_in_whatever_pieces(
    lasting: tuple[str, int], rows: list[int], cuts: list[int], lead: int, seed: int
) -> None:
    """One after another on a connection, of up to 96 kB, with JSON of any length before the numbers."""
    generator = np.random.default_rng(seed)
    arrays = [generator.standard_normal((count, 2), np.float32) for count in rows]
    sent = b""
    for array in arrays:
        tensor = {
            "name": "x",
            "shape": array.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": array.nbytes},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode() + b" " * lead
        sent += request(head + array.tobytes(), f"Inference-Header-Content-Length: {len(head)}")
    asker = Connection(lasting)
    places = [0, *sorted(cuts), len(sent)]
    asker.say(*(sent[begin:end] for begin, end in pairwise(places)), request(body_of(7)))
    for array in arrays:
        status, headers, body = asker.answer()
        assert status == 200
        numbers = body[int(headers["inference-header-content-length"]) :]
        np.testing.assert_array_equal(np.frombuffer(numbers, np.float32).reshape(-1, 2), array)
    assert json.loads(asker.answer()[2])["outputs"][0]["data"] == [7, 7]
    asker.close()


@pytest.mark.parametrize("header", ["X-Nothing: 1", "Expect: 100-continue"])
def test_a_body_over_the_limit_is_not_read_to_its_end(address: tuple[str, int], header: str) -> None:
    """The answer can be read by who goes on sending; who sends for long is cut off."""
    asker = Connection(address)
    asker.say(request(b"", header, length=2**40))
    status, headers, body = asker.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert b"larger than 200000 bytes" in body
    assert asker.ended()
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            asker.say(bytes(2**20))
    asker.close()


@pytest.mark.parametrize("header", ["X-Nothing: 1", "Upgrade: no"])
@pytest.mark.parametrize(("sent", "length"), [(3, 100), (100_000, 190_000)])
def test_a_body_that_ends_too_soon_is_told(address: tuple[str, int], header: str, sent: int, length: int) -> None:
    asker = Connection(address)
    asker.say(request(body_of(1)))
    assert asker.answer()[0] == 200
    asker.say(request(bytes(sent), header, length=length))
    asker.socket.shutdown(socket.SHUT_WR)
    status, _, body = asker.answer()
    assert status == 400
    assert json.loads(body)["error"] == f"the body ends after {sent} of {length} bytes"
    assert asker.ended()
    asker.close()
