"""Large JSON: what is read of it, and that meanwhile others are answered."""

import gc
import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from runtime.server.rest.bodies import BodyLimits
from runtime.server.rest.number_lists import read_numbers
from tests.runtime.conftest import SaveModel
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


def echo_request(datatype: str, data: str, count: int, more: str = "") -> bytes:
    head = f'"name": "x", "shape": [{count // 2}, 2], "datatype": "{datatype}"'
    return f'{{"inputs": [{{{head}, "data": {data}}}]{more}}}'.encode()


ELEMENTS = {
    "FP16": (TensorProto.FLOAT16, np.float16, np.random.default_rng(0).normal(size=20_000)),
    "FP32": (TensorProto.FLOAT, np.float32, np.random.default_rng(0).normal(size=100_000) * 1e30),
    "FP64": (TensorProto.DOUBLE, np.float64, np.random.default_rng(0).normal(size=20_000) * 1e300),
    "UINT8": (TensorProto.UINT8, np.uint8, np.arange(40_000) % 256),
    "INT16": (TensorProto.INT16, np.int16, np.arange(40_000) - 20_000),
    "INT64": (TensorProto.INT64, np.int64, np.arange(20_000) - 2**62),
    "UINT64": (TensorProto.UINT64, np.uint64, np.arange(20_000, dtype=np.uint64) + np.uint64(2**64 - 20_000)),
}


@pytest.mark.parametrize("datatype", ELEMENTS)
@pytest.mark.parametrize("nested", [False, True])
def test_long_lists_of_numbers_are_what_numpy_makes_of_them(save_echo: SaveModel, datatype: str, nested: bool) -> None:
    element, dtype, numbers = ELEMENTS[datatype]
    served = Served({"echo": save_echo(element)}, BodyLimits(16 * MIB, 32 * MIB))
    expected = numbers.astype(dtype)
    given = expected.reshape(-1, 2).tolist() if nested else expected.tolist()
    content = echo_request(datatype, json.dumps(given), len(expected), ', "parameters": {"binary_data_output": true}')
    reply = served.post("/v2/models/echo/infer", content=content)
    assert reply.status_code == 200, reply.text
    raw = reply.content[int(reply.headers["inference-header-content-length"]) :]
    np.testing.assert_array_equal(np.frombuffer(raw, dtype), expected)
    served.close()


@pytest.mark.parametrize(
    ("datatype", "odd", "message"),
    [
        ("FP32", "true", "FP32 takes numbers, given true"),
        ("FP32", '"1"', 'FP32 takes numbers, given "1"'),
        ("FP32", "null", "FP32 takes numbers, given null"),
        ("FP32", "[1]", "FP32 takes numbers, given [1]"),
        ("FP32", "1e39", "holds a number that FP32 cannot hold"),
        ("FP16", "65520", "holds a number that FP16 cannot hold"),
        ("UINT8", "256", "holds a number that UINT8 cannot hold"),
        ("UINT8", "-1", "holds a number that UINT8 cannot hold"),
        ("INT64", "1.0", "INT64 takes whole numbers, given 1.0"),
        ("FP32", "1, 1", "'data' has 40001 elements, but shape [20000, 2] has 40000"),
    ],
)
def test_one_odd_element_of_a_long_list_is_told(save_echo: SaveModel, datatype: str, odd: str, message: str) -> None:
    served = Served({"echo": save_echo(ELEMENTS[datatype][0])}, BodyLimits(16 * MIB, 32 * MIB))
    content = echo_request(datatype, f"[{'1,' * 39_999}{odd}]", 40_000)
    assert message in error_of(served.post("/v2/models/echo/infer", content=content), 400)
    served.close()


def test_plain_requests_alone_are_read_without_an_object_for_each_number() -> None:
    plain = echo_request("FP32", "[1, 2.5]", 2, ', "id": "a", "outputs": [{"name": "y"}]')
    read = read_numbers(memoryview(plain))
    assert read is not None
    numbers = read["inputs"][0].pop("data").packed(np.dtype(np.float32))
    assert numbers.tolist() == [1, 2.5]
    shape = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    assert read == {"inputs": [shape], "id": "a", "outputs": [{"name": "y"}]}
    others = [
        echo_request("FP32", "[[1, 2.5]]", 2),
        echo_request("FP32", "[[1], 2.5]", 2),
        echo_request("FP32", "[1, 2.5", 2),
        echo_request("FP32", '[1], "data": [2.5]', 2),
        echo_request("FP32", '[1, 2.5], "parameters": {"data": [3]}', 2),
        b'{"inputs": [{"name": "x", "parameters": {"data": [3]}, "d\\u0061ta": [0]}]}',
        b'{"inputs": [{"name": "x", "data": ["a]"]}]}',
        b"[1, 2]",
    ]
    assert [read_numbers(memoryview(other)) for other in others] == [None] * len(others)
