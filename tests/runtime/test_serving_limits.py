"""What one client may take of the server: connections, heads, time. Clients are raw sockets, which may misbehave."""

import asyncio
import http.client
import json
import platform
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.server.address import bind
from runtime.server.http import HttpServer
from runtime.server.limits import ConnectionLimits, raise_file_limit
from tests.runtime.conftest import SaveModel
from tests.runtime.served import Served, serving

Connect = Callable[[], socket.socket]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 with the number of bytes that came; `/large` with more than a socket's buffers hold."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = bytes(64_000_000) if scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serve() -> Iterator[Callable[..., Connect]]:
    """Serves `hello` within limits, in a thread; gives what connects to it."""
    ends: list[Callable[[], None]] = []

    def start(**limits: Any) -> Connect:
        listener = bind("127.0.0.1", 0)
        address = listener.getsockname()
        ready = threading.Event()
        stop: list[Callable[[], None]] = []

        async def run() -> None:
            server = HttpServer(hello, ConnectionLimits(**limits), None)
            await server.open(listener)
            stopped = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
            ready.set()
            await stopped.wait()
            await server.drain(loop.time())

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        assert ready.wait(10)
        ends.append(lambda: (stop[0](), thread.join(10)))
        return lambda: socket.create_connection(address, timeout=10)

    yield start
    for end in ends:
        end()


def read(client: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def answer(client: socket.socket) -> tuple[int, bytes]:
    """The status and body of one answer."""
    with http.client.HTTPResponse(client) as response:
        response.begin()
        return response.status, response.read()


def test_large_heads_are_431_however_they_arrive(
    serve: Callable[..., Connect], caplog: pytest.LogCaptureFixture
) -> None:
    connect = serve(head_bytes=10_000)
    refused = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    why = b'{"error":"the request\'s headers are larger than 10000 bytes"}'
    one_header = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 1_000_000
    many = b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(100_000))
    whole = b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 10_000 + b"\r\n\r\n"
    for head in (one_header, many, whole, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n"):
        with connect() as client:
            client.sendall(head)
            told = read(client)
            assert told.startswith(refused), told[:200]
            assert told.endswith(why)
    with connect() as client:  # one that is just small enough
        client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\nX-Long: " + b"a" * 9_900 + b"\r\n\r\n")
        assert read(client).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records  # a client's mistake is no failure of the server's


def test_headers_hidden_behind_a_body_are_bounded_too(serve: Callable[..., Connect]) -> None:
    connect = serve(head_bytes=10_000)
    begun = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
    for endless in (b"0\r\nX-Long: " + b"a" * 1_000_000, b"5;" + b"a" * 1_000_000):
        with connect() as client:
            client.sendall(begun)
            for _ in range(50):
                client.sendall(endless)
            assert read(client).startswith(b"HTTP/1.1 431 ")


def test_a_body_is_no_head(serve: Callable[..., Connect]) -> None:
    with serve(head_bytes=1000)() as client:
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
            assert answer(client) == (200, b"300000")


def test_a_slow_head_is_408(serve: Callable[..., Connect]) -> None:
    connect = serve(head_seconds=0.5)
    with connect() as client:
        began = time.monotonic()
        client.sendall(GET)
        assert answer(client)[0] == 200
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert read(client).startswith(b"HTTP/1.1 408 ")
        assert 0.4 < time.monotonic() - began < 5


def test_idle_connections_end(serve: Callable[..., Connect]) -> None:
    connect = serve(idle_seconds=1)
    with connect() as silent, connect() as answered:
        answered.sendall(GET)
        assert answer(answered)[0] == 200
        answered.sendall(b"\r\n")  # which is no request
        assert read(answered) == b""
        assert read(silent) == b""


def test_a_client_that_reads_nothing_is_cut_off(serve: Callable[..., Connect]) -> None:
    connect = serve(write_seconds=0.5)
    with connect() as client:
        client.sendall(GET.replace(b"/ ", b"/large "))
        time.sleep(3)
        with pytest.raises(ConnectionError):
            while client.recv(2**20):
                pass
            raise ConnectionError


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x16\x03\x01 hello\r\n", "the request is not HTTP"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n", "Duplicate Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n", "Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x01b\r\n", "header value char, behind 'host'"),
        (b"GET / HTTP/1.1\r\nX A: b\r\n", "header token, in the first header"),
    ],
)
def test_what_is_not_http_is_400_and_names_the_header(serve: Callable[..., Connect], head: bytes, message: str) -> None:
    with serve()() as client:
        client.sendall(head + b"\r\n")
        status, body = answer(client)
        assert status == 400
        assert message in json.loads(body)["error"]


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"


@pytest.mark.parametrize(
    ("begun", "message"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "the body ends after 3 of 100 bytes"),
        (CHUNKED, "the body ends after 2 bytes, before its last chunk"),
        (b"GET / HTTP/1.1\r\nHost:", "the request ends within its headers"),
        (CHUNKED + b"zz\r\n", "Invalid character in chunk size"),
    ],
)
@pytest.mark.parametrize("before", [b"", GET])
def test_a_request_that_ends_too_soon_or_is_broken_is_told_so(
    serve: Callable[..., Connect], before: bytes, begun: bytes, message: str
) -> None:
    with serve()() as client:
        if before:
            client.sendall(before)
            assert answer(client)[0] == 200
        client.sendall(begun)
        client.shutdown(socket.SHUT_WR)
        status, body = answer(client)
        assert status == 400
        assert message in json.loads(body)["error"]
        assert client.recv(1) == b""


def test_more_connections_than_allowed_are_503_and_the_others_go_on(serve: Callable[..., Connect]) -> None:
    connect = serve(connections=20)
    held = [connect() for _ in range(20)]
    for client in held:
        client.sendall(GET)
        assert answer(client)[0] == 200
    for _ in range(30):
        with connect() as extra:
            told = read(extra)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in told
    for client in held:
        client.sendall(GET)
        assert answer(client)[0] == 200
        client.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with connect() as again:
            again.sendall(GET)
            if answer(again)[0] == 200:
                break
    else:
        pytest.fail("there is no room although the connections have gone")


def test_hundreds_of_idle_connections_harm_nobody(serve: Callable[..., Connect]) -> None:
    connect = serve()
    idle = [connect() for _ in range(600)]
    idle[0].sendall(b"GET / HTTP/1.1\r\n")
    with closing(http.client.HTTPConnection(*idle[0].getpeername(), timeout=10)) as client:
        began = time.monotonic()
        for _ in range(100):
            client.request("POST", "/", b"abc")
            assert client.getresponse().read() == b"3"
        assert time.monotonic() - began < 5
    for each in idle:
        each.close()


def test_answers_that_nobody_reads_do_not_pile_up(save_model: SaveModel) -> None:
    """A client that asks for much and reads nothing gets no more than fits; when it reads, it gets all."""
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["zeros"])]
    large = save_model(nodes, [("size", TensorProto.INT64, [1])], [("zeros", TensorProto.FLOAT, [None])])
    tensor = {"name": "size", "shape": [1], "datatype": "INT64", "data": [2_000_000]}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    body = json.dumps(asked).encode()
    head = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(large) as served, socket.create_connection(served.address, timeout=20) as client:
        client.sendall((head + body) * 40)
        time.sleep(1)
        with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as reply:
            samples = reply.read().decode().splitlines()
        answered = next(line for line in samples if line.startswith("netspec_requests_total{"))
        assert 1 <= float(answered.split()[-1]) <= 4
        file = client.makefile("rb")
        for _ in range(40):
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = http.client.parse_headers(file)
            assert len(file.read(int(headers["content-length"]))) > 8_000_000


def test_urls_and_hosts_that_clients_make_up_are_not_kept(classifier: Path) -> None:
    def resident(served: Served) -> float:
        with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith("process_resident_memory_bytes")).split()[1])

    with serving(classifier) as served, closing(http.client.HTTPConnection(*served.address, timeout=10)) as client:

        def ask(number: int) -> None:
            made_up = f"{number:060000}"
            for path, host in ((f"/v2/models/{made_up}/infer", "localhost"), ("/v2", made_up)):
                client.request("POST", path, b"{}", {"Host": host})
                assert client.getresponse().read()

        for number in range(50):
            ask(number)
        before = resident(served)
        for number in range(50, 400):
            ask(number)
        assert resident(served) - before < 10_000_000


def test_the_limit_of_files_is_raised_and_bounds_the_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        assert raise_file_limit(10) == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert hard == resource.RLIM_INFINITY or raise_file_limit(10**9) == hard - 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_log_of_requests_has_those_that_end_too_soon(classifier: Path) -> None:
    head = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
    with serving(classifier, "--access-log", "--log-format", "json") as served:
        with socket.create_connection(served.address, timeout=20) as client:
            client.sendall(head)
            client.shutdown(socket.SHUT_WR)
            status, body = answer(client)
        assert (status, json.loads(body)) == (400, {"error": "the body ends after 3 of 100 bytes"})
        served.wait_for('"status": 400')


@pytest.fixture
def heavy(save_model: SaveModel) -> Path:
    """A model with 40 MB of weights in blocks of a megabyte, as the layers of a network have them: x [n, 512] → y."""
    count = 40
    nodes = [
        helper.make_node("MatMul", ["x" if not index else f"h{index}", f"w{index}"], [f"h{index + 1}"])
        for index in range(count)
    ]
    drawn = np.random.default_rng(0)
    weights = {f"w{index}": drawn.standard_normal((512, 512), np.float32) for index in range(count)}
    shape = [1, 512]
    output = f"h{count}"
    return save_model(
        nodes, [("x", TensorProto.FLOAT, shape)], [(output, TensorProto.FLOAT, shape)], weights, name="heavy.onnx"
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries keep is left to them")
def test_what_a_model_took_is_given_back(heavy: Path) -> None:
    with serving(heavy) as served:
        pages = Path(f"/proc/{served.process.pid}/statm")

        def megabytes() -> float:
            return int(pages.read_text().split()[1]) * resource.getpagesize() / 1e6

        def call(act: str) -> None:
            url = f"{served.url}/v2/repository/models/heavy/{act}"
            urllib.request.urlopen(url, b"{}", timeout=20).close()

        call("load")
        loaded = megabytes()
        for _ in range(4):
            call("load")
        assert megabytes() < loaded + 15
        call("unload")
        assert megabytes() < loaded - 30
