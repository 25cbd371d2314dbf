"""Bodies that are too large, too slow, compressed, or whose client goes away; and what is refused before it is read."""

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from runtime.server.rest import infer as rest_infer
from runtime.server.rest.bodies import BodyLimits
from runtime.session import Session
from tests.runtime.rest_server import LIMITS, Served, error_of

PATH = "/v2/models/digits/infer"


def body(rows: int = 1, **fields: Any) -> bytes:
    image = {"name": "image", "shape": [rows, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16 * rows}
    return json.dumps({"inputs": [image], **fields}).encode()


@pytest.fixture
def client(classifier: Path) -> Iterator[Served]:
    served = Served({"digits": classifier}, max_queue=2, max_batch=1)
    yield served
    served.close()


class Gate:
    """Holds every run of a model until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.entered, self.runs = threading.Event(), threading.Event(), 0
        run = Session.run

        def held(session: Session, feeds: Any, outputs: Any = None) -> dict[str, np.ndarray]:
            self.runs += 1
            self.entered.set()
            assert self.opened.wait(10)
            return run(session, feeds, outputs)

        monkeypatch.setattr(Session, "run", held)


@pytest.fixture
def gate(client: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.opened.set()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_a_body_over_the_limit_is_413(client: Served) -> None:
    too_much = body(id="x" * LIMITS.max_body)
    assert "larger than 200000 bytes" in error_of(client.post(PATH, content=too_much), 413)
    in_pieces = client.post(PATH, content=pieces(too_much[:150_000], too_much[150_000:]))
    assert "larger than 200000 bytes" in error_of(in_pieces, 413)
    assert in_pieces.headers["connection"] == "close"
    in_pieces = client.post(PATH, content=pieces(b'{"inputs"', b": []}"))
    assert "input 'image' is missing" in error_of(in_pieces, 400)
    load = client.post("/v2/repository/models/digits/load", content=too_much)
    assert "larger than 200000 bytes" in error_of(load, 413)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(client: Served, encoding: str, pack: Any) -> None:
    def ask(content: bytes) -> httpx.Response:
        return client.post(PATH, content=content, headers={"Content-Encoding": encoding})

    packed = pack(body(20))
    assert ask(packed).status_code == 200
    assert f"the body ends within its {encoding} data" in error_of(ask(packed[:-1]), 400)
    assert f"the body ends within its {encoding} data" in error_of(ask(b""), 400)
    damaged = packed[:30] + b"\xff\xff\xff" + packed[33:]
    assert f"is not {encoding}, as Content-Encoding says" in error_of(ask(damaged), 400)
    assert f"is not {encoding}, as Content-Encoding says" in error_of(ask(body()), 400)
    bomb = pack(bytes(20_000_000 if encoding == "gzip" else 200_001))
    assert "larger than 200000 bytes when it is decompressed" in error_of(ask(bomb), 413)


def test_gzip_may_come_in_members_and_deflate_may_not(client: Served) -> None:
    first, rest = body()[:50], body()[50:]
    members = gzip.compress(first) + gzip.compress(rest)
    assert client.post(PATH, content=members, headers={"Content-Encoding": "gzip"}).status_code == 200
    both = zlib.compress(first) + zlib.compress(rest)
    told = error_of(client.post(PATH, content=both, headers={"Content-Encoding": "deflate"}), 400)
    assert "the body goes on behind its deflate data" in told


def test_other_encodings_are_415(client: Served) -> None:
    for encoding in ("br", "zstd", "gzip, gzip", "\xff"):
        headers = [(b"content-encoding", encoding.encode("latin-1"))]
        response = client.post(PATH, content=b"{}", headers=headers)
        assert "not gzip or deflate" in error_of(response, 415)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, deflate;q=0.5", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.0", None),
        ("identity", None),
        ("", None),
    ],
)
def test_answers_are_compressed_where_that_is_asked_for(client: Served, accepted: str, encoding: str | None) -> None:
    response = client.post(PATH, content=body(150), headers={"Accept-Encoding": accepted})
    assert response.headers.get("content-encoding") == encoding
    assert len(response.json()["outputs"][0]["data"]) == 450
    assert (
        client.post(PATH, content=body(), headers={"Accept-Encoding": accepted}).headers.get("content-encoding") is None
    )


def test_a_body_that_takes_too_long_is_408(classifier: Path) -> None:
    served = Served({"digits": classifier}, BodyLimits(seconds=0.05))

    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(10)

    try:
        assert "did not arrive within 0.05 s" in error_of(served.post(PATH, content=stalls()), 408)
    finally:
        served.close()


class Channel:
    """The ends of one request: what it sends, and what it is answered."""

    def __init__(self, content: bytes, length: int | None = None) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.read = 0
        self.sent: list[dict[str, Any]] = []
        self.messages.put_nowait({"type": "http.request", "body": content})
        headers = [(b"content-length", str(len(content) if length is None else length).encode())]
        self.scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}

    async def receive(self) -> dict[str, Any]:
        message = await self.messages.get()
        self.read += 1
        return message

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, client: Served) -> None:
        await client.app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def test_a_full_queue_is_503_before_the_body_is_read(client: Served, gate: Gate) -> None:
    model = client.repository.model("digits")

    async def ask() -> None:
        first, *others, refused = [Channel(body()) for _ in range(4)]
        running = asyncio.create_task(first.ask(client))
        await asyncio.to_thread(gate.entered.wait, 5)
        waiting = [asyncio.create_task(one.ask(client)) for one in others]
        await until(lambda: model.queue_depth == 2)
        await refused.ask(client)
        headers = dict(refused.sent[0]["headers"])
        assert (refused.status, refused.read) == (503, 0)
        assert int(headers[b"retry-after"]) >= 1
        assert "2 requests wait for 'digits'" in json.loads(refused.sent[1]["body"])["error"]
        gate.opened.set()
        await asyncio.gather(running, *waiting)
        assert [one.status for one in (first, *others)] == [200] * 3

    client.run(ask())


def test_the_bytes_that_wait_have_a_bound(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served({"digits": classifier}, BodyLimits(max_body=1000, max_pending=1300))
    gate = Gate(monkeypatch)

    async def ask() -> None:
        first, second, third = Channel(body()), Channel(b"", 1000), Channel(body(2))
        running = asyncio.create_task(first.ask(served))
        await asyncio.to_thread(gate.entered.wait, 5)
        reading = asyncio.create_task(second.ask(served))  # of which 1000 bytes are promised, and none have come
        second.messages.get_nowait()
        await asyncio.sleep(0)
        await third.ask(served)
        assert third.status == 503
        assert b"fill the memory" in third.sent[1]["body"]
        gate.opened.set()
        second.messages.put_nowait({"type": "http.disconnect"})
        await asyncio.gather(running, reading)
        assert (first.status, second.sent) == (200, [])
        again = Channel(body(2))
        await again.ask(served)
        assert again.status == 200

    try:
        served.run(ask())
    finally:
        gate.opened.set()
        served.close()


def test_a_request_whose_client_goes_away_is_dropped_before_it_runs(
    client: Served, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_infer, "WATCH_SECONDS", 0.01)
    model = client.repository.model("digits")

    async def ask() -> None:
        first, second = Channel(body()), Channel(body())
        running = asyncio.create_task(first.ask(client))
        await asyncio.to_thread(gate.entered.wait, 5)
        waiting = asyncio.create_task(second.ask(client))
        await until(lambda: model.queue_depth == 1)
        second.messages.put_nowait({"type": "http.disconnect"})
        await until(lambda: model.queue_depth == 0)
        gate.opened.set()
        await asyncio.gather(running, waiting)
        assert (first.status, second.sent) == (200, [])
        assert (gate.runs, model.statistics.abandoned) == (1, 1)

    client.run(ask())


def test_a_request_that_waits_longer_than_it_may_is_503(client: Served, gate: Gate) -> None:
    async def ask() -> None:
        first, second = Channel(body()), Channel(body(parameters={"timeout": 20_000}))
        running = asyncio.create_task(first.ask(client))
        await asyncio.to_thread(gate.entered.wait, 5)
        await second.ask(client)
        assert second.status == 503
        assert b"for 0.02 s" in second.sent[1]["body"]
        gate.opened.set()
        await running

    client.run(ask())
    assert gate.runs == 1


def test_a_client_that_goes_away_while_it_sends_gets_no_answer(client: Served) -> None:
    async def ask() -> None:
        channel = Channel(b"")
        channel.messages = asyncio.Queue()
        channel.messages.put_nowait({"type": "http.disconnect"})
        await channel.ask(client)
        assert channel.sent == []

    client.run(ask())


def test_a_request_that_a_stopping_server_gives_up_is_503(client: Served, gate: Gate) -> None:
    async def ask() -> None:
        channel = Channel(body())
        asking = asyncio.create_task(channel.ask(client))
        await asyncio.to_thread(gate.entered.wait, 5)
        asking.cancel()
        await asking
        assert channel.status == 503
        assert json.loads(channel.sent[1]["body"]) == {"error": "the server is stopping"}

    client.run(ask())


def test_large_requests_and_answers_do_not_hold_up_others(client: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    read, write = rest_infer.read_request, rest_infer.write_answer
    monkeypatch.setattr(
        rest_infer, "read_request", lambda *a: (threads.append(("read", threading.get_ident())), read(*a))[1]
    )
    monkeypatch.setattr(
        rest_infer, "write_answer", lambda *a: (threads.append(("write", threading.get_ident())), write(*a))[1]
    )
    rows = 1800
    wanted = {"outputs": [{"name": "fc"}]}
    large = body(rows, **wanted).replace(b" ", b"")
    assert len(large) > rest_infer.LARGE_BODY
    monkeypatch.setattr(rest_infer, "LARGE_ANSWER", rows)
    reply = client.post(PATH, content=large).json()
    small = client.post(PATH, content=body(**wanted)).json()
    assert reply["outputs"][0]["data"][:3] == pytest.approx(small["outputs"][0]["data"])
    loop = threads[-1][1]
    assert [thread == loop for _, thread in threads] == [False, False, True, True]
