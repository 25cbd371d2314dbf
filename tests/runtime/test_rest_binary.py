"""Tensors as bytes behind the JSON: how they are framed, and every way in which the framing can lie."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.runtime.conftest import SaveModel
from tests.runtime.rest_server import Served, error_of

SIZE = "Inference-Header-Content-Length"
X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def echoes(save_echo: SaveModel, adder: Path) -> Iterator[Served]:
    elements = {"floats": TensorProto.FLOAT, "texts": TensorProto.STRING, "flags": TensorProto.BOOL}
    served = Served({name: save_echo(element) for name, element in elements.items()} | {"adder": adder})
    yield served
    served.close()


def packed(*texts: str) -> bytes:
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)


def tensor(raw: bytes, **changes: Any) -> dict[str, Any]:
    about = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    return about | changes


def ask(
    served: Served, *inputs: dict[str, Any], raw: bytes, model: str = "floats", size: Any = None, **fields: Any
) -> httpx.Response:
    head = json.dumps({"inputs": inputs, **fields}).encode()
    headers = {SIZE: str(len(head) if size is None else size)}
    return served.post(f"/v2/models/{model}/infer", content=head + raw, headers=headers)


def parts_of(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """The JSON of an answer and the bytes behind it."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    size = int(response.headers[SIZE])
    return json.loads(response.content[:size]), response.content[size:]


@pytest.mark.parametrize("pad", range(0, 20, 3))  # whatever the length of the JSON, the numbers are aligned
def test_bytes_in_and_out(echoes: Served, pad: int) -> None:
    raw = X.tobytes()
    reply, behind = parts_of(ask(echoes, tensor(raw), raw=raw, id="i" * pad, parameters={"binary_data_output": True}))
    assert behind == raw
    (output,) = reply["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}


def test_some_as_bytes_and_some_as_json(echoes: Served) -> None:
    b = {"name": "b", "shape": [2, 2], "datatype": "FP32", "data": [1, 1, 1, 1]}
    a = tensor(X.tobytes(), name="a")
    wanted = [{"name": "double", "parameters": {"binary_data": False}}, {"name": "sum"}]
    both = {"outputs": wanted, "parameters": {"binary_data_output": True}}
    reply, behind = parts_of(ask(echoes, b, a, raw=X.tobytes(), model="adder", **both))
    double, total = reply["outputs"]
    assert (double["name"], double["data"]) == ("double", [2.0, 4.0, 6.0, 8.0])
    assert (total["name"], total["parameters"]) == ("sum", {"binary_data_size": 16})
    np.testing.assert_array_equal(np.frombuffer(behind, np.float32).reshape(2, 2), X + 1)
    assert ask(echoes, b, a, raw=X.tobytes(), model="adder").headers["content-type"] == "application/json"


def test_two_inputs_lie_one_behind_the_other(echoes: Served) -> None:
    a, b = X.tobytes(), (X * 10).tobytes()
    inputs = tensor(b, name="b"), tensor(a, name="a")
    reply = ask(echoes, *inputs, raw=b + a, model="adder", outputs=[{"name": "double"}]).json()
    assert reply["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize(
    ("changes", "raw", "message"),
    [
        ({}, b"", "input 'x': the parameter 'binary_data_size' is 16, and 0 bytes are left"),
        ({}, X.tobytes()[:-1], "'binary_data_size' is 16, and 15 bytes are left"),
        ({}, X.tobytes() + b"!", "1 bytes of the body are behind the JSON and belong to no input"),
        ({"shape": [3, 2]}, X.tobytes(), "input 'x': 16 bytes of data, but FP32 [3, 2] has 24"),
        ({"shape": [1, 2]}, X.tobytes(), "input 'x': 16 bytes of data, but FP32 [1, 2] has 8"),
        ({"shape": [2**31 - 1, 2]}, X.tobytes(), "input 'x': 16 bytes of data, but FP32 [2147483647, 2] has"),
        ({"data": [1, 2, 3, 4]}, X.tobytes(), "input 'x' has 'data' and the parameter 'binary_data_size'"),
        ({"parameters": {"binary_data_size": -1}}, X.tobytes(), "'binary_data_size' is -1, not a number of bytes"),
        ({"parameters": {"binary_data_size": "16"}}, X.tobytes(), "'binary_data_size' is \"16\", not a number"),
        ({"parameters": {"binary_data_size": 16.0}}, X.tobytes(), "'binary_data_size' is 16.0, not a number"),
        ({"parameters": {"binary_data_size": True}}, X.tobytes(), "'binary_data_size' is true, not a number"),
        ({"parameters": {}}, X.tobytes(), "input 'x': 'data' is missing"),
        ({"parameters": None, "data": [1, 2, 3, 4]}, b"abc", "3 bytes of the body are behind the JSON"),
    ],
)
def test_framing_that_lies(echoes: Served, changes: dict[str, Any], raw: bytes, message: str) -> None:
    assert message in error_of(ask(echoes, tensor(X.tobytes(), **changes), raw=raw), 400)


@pytest.mark.parametrize("size", ["-1", "1.5", "", "0x10", "१", "9" * 30, "16 16", "+7"])
def test_a_length_of_the_json_that_is_no_number(echoes: Served, size: str) -> None:
    headers = [(SIZE.encode(), size.encode())]
    response = echoes.post("/v2/models/floats/infer", content=b"{}", headers=headers)
    assert f"{SIZE} is " in error_of(response, 400)
    assert "not a number of bytes" in error_of(response, 400)


def test_a_length_of_the_json_that_is_not_its(echoes: Served) -> None:
    raw = X.tobytes()
    assert "and the body has" in error_of(ask(echoes, tensor(raw), raw=raw, size=10_000), 400)
    assert "the body is not JSON" in error_of(ask(echoes, tensor(raw), raw=raw, size=5), 400)
    assert "the body is not JSON" in error_of(ask(echoes, tensor(raw), raw=raw, size=110), 400)


def test_bytes_without_a_length_of_the_json(echoes: Served) -> None:
    head = json.dumps({"inputs": [tensor(X.tobytes())]}).encode()
    assert "0 bytes are left behind the JSON" in error_of(echoes.post("/v2/models/floats/infer", content=head), 400)


def test_text_as_bytes(echoes: Served) -> None:
    raw = packed("", "grüße", "a\0b", "🙂")
    about = tensor(raw, datatype="BYTES")
    options = {"raw": raw, "model": "texts", "parameters": {"binary_data_output": True}}
    reply, behind = parts_of(ask(echoes, about, **options))
    assert behind == raw
    assert reply["outputs"][0]["parameters"]["binary_data_size"] == len(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (packed("a", "b", "c"), "input 'x': 15 bytes of data cannot hold 4 BYTES elements"),
        (packed("a", "b", "c", "d", "e"), "input 'x': 5 bytes of data behind the last of 4 BYTES elements"),
        (packed("abc", "b", "c") + b"\1", "input 'x': the data ends within BYTES element 3"),
        (packed("a", "b", "c") + b"\2\0\0\0d", "input 'x': the data ends within BYTES element 3"),
        (b"\xff\xff\xff\xff" + bytes(20), "input 'x': the data ends within BYTES element 0"),
        (packed("a", "b", "c") + b"\1\0\0\0\xff", "input 'x': BYTES element 3 is not UTF-8"),
    ],
)
def test_text_that_is_wrong(echoes: Served, raw: bytes, message: str) -> None:
    assert message in error_of(ask(echoes, tensor(raw, datatype="BYTES"), raw=raw, model="texts"), 400)


def test_a_flag_that_is_neither_true_nor_false(echoes: Served) -> None:
    about = tensor(b"\0\1\2\1", datatype="BOOL")
    assert "a byte of BOOL data is neither 0 nor 1" in error_of(ask(echoes, about, raw=b"\0\1\2\1", model="flags"), 400)


def raw_request(served: Served, model: str, body: bytes) -> httpx.Response:
    return served.post(f"/v2/models/{model}/infer", content=body, headers={SIZE: "0"})


def test_raw_requests(echoes: Served) -> None:
    reply, behind = parts_of(raw_request(echoes, "floats", X.tobytes()))
    assert (reply["outputs"][0]["shape"], behind) == ([2, 2], X.tobytes())
    assert "input 'x': 15 bytes of data, but FP32 [1, 2] has 8" in error_of(
        raw_request(echoes, "floats", X.tobytes()[1:]), 400
    )
    assert "is an empty batch" in error_of(raw_request(echoes, "floats", b""), 400)
    assert "a raw request has one input, and the model has 2: 'a', 'b'" in error_of(
        raw_request(echoes, "adder", X.tobytes()), 400
    )


def test_raw_requests_to_models_of_other_shapes(save_echo: SaveModel, save_model: SaveModel) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]

    def echo(name: str, element: int, shape: list[int | str] | None) -> Path:
        return save_model(nodes, [("x", element, shape)], [("y", element, shape)], name=f"{name}.onnx")

    fixed = echo("fixed", TensorProto.INT16, [2, 3])
    sequence = echo("sequence", TensorProto.INT16, ["n", "length"])
    picture = echo("picture", TensorProto.UINT8, ["n", "height", "width", 3])
    words = echo("words", TensorProto.STRING, ["n"])
    served = Served({"fixed": fixed, "sequence": sequence, "picture": picture, "words": words})
    try:
        for model, shape, body in (
            ("fixed", [2, 3], bytes(12)),
            ("sequence", [1, 4], bytes(8)),
            ("words", [1], "grüße".encode()),
        ):
            reply, behind = parts_of(raw_request(served, model, body))
            assert reply["outputs"][0]["shape"] == shape
            assert behind.endswith(body)
        told = error_of(raw_request(served, "picture", bytes(12)), 400)
        assert "input 'x': the shape of uint8 [n, height, width, 3] can't be told" in told
    finally:
        served.close()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"binary_data": "yes"}, "output 'y': the parameter 'binary_data' is \"yes\", neither true nor false"),
        ({"classification": -1}, "output 'y': the parameter 'classification' is -1, not a number of classes"),
        ({"classification": "2"}, "output 'y': the parameter 'classification' is \"2\""),
        ({"shared_memory_region": "r"}, "output 'y': the parameter 'shared_memory_region'"),
        ([], "the parameters of output 'y' are not an object"),
    ],
)
def test_wishes_for_outputs_that_are_wrong(echoes: Served, parameters: Any, message: str) -> None:
    raw = X.tobytes()
    wanted = [{"name": "y", "parameters": parameters}]
    assert message in error_of(ask(echoes, tensor(raw), raw=raw, outputs=wanted), 400)


def test_outputs_that_cannot_be_given(echoes: Served) -> None:
    raw = packed("a", "b", "c", "d")
    wanted = [{"name": "y", "parameters": {"classification": 1}}]
    told = error_of(ask(echoes, tensor(raw, datatype="BYTES"), raw=raw, model="texts", outputs=wanted), 400)
    assert "output 'y' is BYTES, which the parameter 'classification' can't rank" in told
    twice = ask(echoes, tensor(X.tobytes()), raw=X.tobytes(), outputs=[{"name": "y"}, {"name": "y"}])
    assert "output 'y' is asked for twice" in error_of(twice, 400)
