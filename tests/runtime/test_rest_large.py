"""Large JSON: what is read of it, and that meanwhile others are answered."""

import gc
import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.server.rest.bodies import BodyLimits
from tests.runtime.rest_server import Served, error_of

MIB = 2**20
PATH = "/v2/models/digits/infer"


@pytest.fixture
def client(classifier: Path) -> Iterator[Served]:
    served = Served({"digits": classifier}, BodyLimits(16 * MIB, 32 * MIB))
    yield served
    served.close()


def image(rows: int, data: bytes) -> bytes:
    head = {"name": "image", "shape": [rows, 1, 4, 4], "datatype": "FP32"}
    return json.dumps({"inputs": [head]}).encode()[:-3] + b', "data": [%s]}]}' % data


BOMBS = {
    "lists": image(1, b"[]," * 5_000_000 + b"[]"),
    "objects": b'{"inputs": [' + b"{}," * 5_000_000 + b"{}]}",
    "numbers": image(1, b"1," * 7_000_000 + b"1"),
    "keys": b"{" + b",".join(b'"k%d":0' % key for key in range(200_000)) + b"}",
    "strings": image(1, b'"",' * 5_000_000 + b'""'),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("packed", [False, True])
def test_json_of_too_many_values_is_413(client: Served, kind: str, packed: bool) -> None:
    content, headers = BOMBS[kind], {}
    if packed:
        content, headers = gzip.compress(content, 1), {"Content-Encoding": "gzip"}
    assert "the JSON has more than 1310720 values" in error_of(client.post(PATH, content=content, headers=headers), 413)
    assert client.repository.model("digits").statistics.in_flight == 0


def test_large_requests_are_read_in_parts_and_whole(client: Served) -> None:
    rows = 20_000
    numbers = [place % 251 / 251 for place in range(16 * rows)]
    large = client.post(PATH, content=image(rows, ",".join(map(str, numbers)).encode())).json()["outputs"][0]["data"]
    last = client.post(PATH, content=image(1, ",".join(map(str, numbers[-16:])).encode())).json()["outputs"][0]["data"]
    assert large[-len(last) :] == pytest.approx(last)
    spoilt = image(rows, ",".join(["0"] * (16 * rows - 1)).encode() + b",true")
    assert "FP32 takes numbers, given true" in error_of(client.post(PATH, content=spoilt), 400)


def test_others_are_answered_while_a_large_request_is_read(client: Served) -> None:
    """All objects of the largest text are made and dropped without the garbage collector's walking through them."""
    collected: list[int] = []

    def note(phase: str, details: dict[str, int]) -> None:
        collected.append(details["generation"])

    lists = image(1, b"[]," * 600_000 + b"[]")
    waits: list[float] = []
    done = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url) as other:
            while not done.is_set():
                began = time.perf_counter()
                assert other.get("/v2/health/live").status_code == 200
                waits.append(time.perf_counter() - began)

    with client.listening() as address:
        thread = threading.Thread(target=ask, args=(f"http://{address}",))
        thread.start()
        gc.callbacks.append(note)
        try:
            answer = httpx.post(f"http://{address}{PATH}", content=lists)
        finally:
            gc.callbacks.remove(note)
            done.set()
            thread.join()
    assert "nested otherwise than its shape" in error_of(answer, 400)
    assert collected.count(2) == 0
    assert max(waits) < 1
    assert gc.isenabled()
