"""Inference over REST in JSON: every datatype, and every way in which a request can be wrong."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from runtime.errors import RunError
from runtime.session import Session
from tests.runtime.conftest import SaveModel, classifier_weights
from tests.runtime.rest_server import Served, error_of

Connect = Callable[..., Served]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Serves a model."""
    served: list[Served] = []

    def to(path: Path, name: str = "m", **options: Any) -> Served:
        served.append(Served({name: path}, **options))
        return served[-1]

    yield to
    for one in served:
        one.close()


@pytest.fixture
def client(connect: Connect, classifier: Path) -> Served:
    return connect(classifier, "digits")


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1, 1, 4, 4], "datatype": "FP32", "data": [0.5] * 16} | changes


@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/digits/versions/1/infer"])
@pytest.mark.parametrize("nested", [True, False])
def test_inference(client: Served, path: str, nested: bool) -> None:
    images = np.random.default_rng(1).normal(size=(2, 1, 4, 4)).astype(np.float32)
    data = (images if nested else images.ravel()).tolist()
    body = {"id": "request 7", "inputs": [image(shape=[2, 1, 4, 4], data=data)]}
    reply = client.post(path, json=body).json()
    assert (reply["model_name"], reply["model_version"], reply["id"]) == ("digits", "1", "request 7")
    (fc,) = reply["outputs"]
    assert (fc["name"], fc["datatype"], fc["shape"]) == ("fc", "FP32", [2, 3])
    weight, bias = classifier_weights()
    expected = images.reshape(2, 16) @ weight + bias
    np.testing.assert_allclose(np.array(fc["data"]).reshape(2, 3), expected, rtol=1e-4, atol=1e-5)


def test_no_id_is_echoed_where_none_was_given(client: Served) -> None:
    assert "id" not in client.infer(image(), model="digits").json()


def test_only_the_outputs_asked_for(connect: Connect, adder: Path) -> None:
    client = connect(adder)
    inputs = [{"name": name, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} for name in ("b", "a")]
    names = [output["name"] for output in client.infer(*inputs).json()["outputs"]]
    assert names == ["sum", "double"]
    reply = client.infer(*inputs, outputs=[{"name": "double", "parameters": {"binary_data": False}}]).json()
    assert reply["outputs"] == [{"name": "double", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]}]
    assert "no output 'triple'" in error_of(client.infer(*inputs, outputs=[{"name": "triple"}]), 400)


ECHOED = [
    ("BOOL", TensorProto.BOOL, [True, False]),
    ("UINT8", TensorProto.UINT8, [0, 255]),
    ("UINT16", TensorProto.UINT16, [0, 2**16 - 1]),
    ("UINT32", TensorProto.UINT32, [0, 2**32 - 1]),
    ("UINT64", TensorProto.UINT64, [0, 2**64 - 1]),
    ("INT8", TensorProto.INT8, [-128, 127]),
    ("INT16", TensorProto.INT16, [-(2**15), 2**15 - 1]),
    ("INT32", TensorProto.INT32, [-(2**31), 2**31 - 1]),
    ("INT64", TensorProto.INT64, [-(2**63), 2**63 - 1]),
    ("FP16", TensorProto.FLOAT16, [-65504.0, 0.5]),
    ("FP32", TensorProto.FLOAT, [1.5, -3.25]),
    ("FP64", TensorProto.DOUBLE, [0.1, 1e300]),
    ("BYTES", TensorProto.STRING, ["", "grüße\0 🙂"]),
]


@pytest.mark.parametrize(("datatype", "element", "values"), ECHOED, ids=[row[0] for row in ECHOED])
def test_every_datatype_comes_back_as_it_went(
    connect: Connect, save_echo: SaveModel, datatype: str, element: int, values: list[Any]
) -> None:
    client = connect(save_echo(element))
    (signature,) = client.get("/v2/models/m").json()["inputs"]
    assert signature == {"name": "x", "datatype": datatype, "shape": [-1, 2]}
    tensor = {"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}
    assert client.infer(tensor).json()["outputs"] == [tensor | {"name": "y"}]
    empty = {"name": "x", "shape": [0, 2], "datatype": datatype, "data": []}
    assert error_of(client.infer(empty), 400) == "input 'x': shape [0, 2] is an empty batch, which has no result"


@pytest.mark.parametrize(
    ("element", "datatype", "values", "message"),
    [
        (TensorProto.BOOL, "BOOL", [1, 0], "BOOL takes true or false, given 1"),
        (TensorProto.UINT8, "UINT8", [0, 256], "holds a number that UINT8 cannot hold"),
        (TensorProto.UINT8, "UINT8", [0, -1], "holds a number that UINT8 cannot hold"),
        (TensorProto.INT64, "INT64", [0, 2**63], "holds a number that INT64 cannot hold"),
        (TensorProto.UINT64, "UINT64", [0, 2**64], "holds a number that UINT64 cannot hold"),
        (TensorProto.INT64, "INT64", [0, -(2**63) - 1], "holds a number that INT64 cannot hold"),
        (TensorProto.INT64, "INT64", [0, 10**30], "a number that INT64 cannot hold"),
        (TensorProto.INT64, "INT64", [0, 1.0], "INT64 takes whole numbers, given 1.0"),
        (TensorProto.INT64, "INT64", [0, True], "INT64 takes whole numbers, given true"),
        (TensorProto.INT64, "INT64", [0, None], "INT64 takes whole numbers, given null"),
        (TensorProto.FLOAT16, "FP16", [0, 70000], "holds a number that FP16 cannot hold"),
        (TensorProto.FLOAT, "FP32", [0, 1e300], "holds a number that FP32 cannot hold"),
        (TensorProto.FLOAT, "FP32", [0, "1.5"], 'FP32 takes numbers, given "1.5"'),
        (TensorProto.FLOAT, "FP32", [0, True], "FP32 takes numbers, given true"),
        (TensorProto.FLOAT, "FP32", [0, None], "FP32 takes numbers, given null"),
        (TensorProto.FLOAT, "FP32", [0, {}], "FP32 takes numbers, given {}"),
        (TensorProto.STRING, "BYTES", ["a", 1], "BYTES takes strings, given 1"),
        (TensorProto.FLOAT, "FP32", [0, "long" * 100], "…"),
    ],
)
def test_values_that_are_not_of_the_datatype(
    connect: Connect, save_echo: SaveModel, element: int, datatype: str, values: list[Any], message: str
) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": datatype, "data": values}
    error = error_of(connect(save_echo(element)).infer(tensor), 400)
    assert message in error
    assert "input 'x'" in error
    assert len(error) < 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "img"}, "no input 'img'; it has 'image'"),
        ({"name": 3}, "inputs[0]: 'name' is 3, not a string"),
        ({"datatype": "FP64"}, "input 'image': the model expects datatype FP32, given \"FP64\""),
        ({"datatype": None}, "input 'image': the model expects datatype FP32, given null"),
        ({"datatype": ["FP32"]}, 'the model expects datatype FP32, given ["FP32"]'),
        ({"shape": [1, 1, 4, 5], "data": [0] * 20}, "expects float32 [batch, 1, 4, 4], given float32 [1, 1, 4, 5]"),
        ({"shape": [16]}, "expects float32 [batch, 1, 4, 4], given float32 [16]"),
        ({"shape": [2, 1, 4, 4]}, "'data' has 16 elements, but shape [2, 1, 4, 4] has 32"),
        ({"shape": [10**6] * 4, "data": []}, "expects float32 [batch, 1, 4, 4], given float32 [1000000, 1000000, "),
        ({"shape": [10**6, 1, 4, 4]}, "'data' has 16 elements"),
        ({"shape": [1] * 65, "data": [0]}, "'shape' has 65 dimensions, more than 32"),
        ({"shape": [0, 2**30, 2**30, 2**30], "data": []}, "expects float32 [batch, 1, 4, 4], given float32 [0, "),
        ({"shape": None}, "'shape' is null, not a list of whole numbers"),
        ({"shape": [0, 10**30]}, "'shape' is [0,1e+30], not a list of whole numbers"),
        ({"shape": [2**31, 1, 4, 4]}, "'shape' has the size 2147483648, more than 2147483647"),
        ({"shape": [2**63, 1, 4, 4]}, "'shape' has the size 9223372036854775808, more than 2147483647"),
        ({"shape": [-1, 1, 4, 4]}, "'shape' has the size -1, which is negative"),
        ({"shape": [True, 1, 4, 4]}, "'shape' is [true,1,4,4], not a list of whole numbers"),
        ({"shape": [1.0, 1, 4, 4]}, "'shape' is [1.0,1,4,4], not a list of whole numbers"),
        ({"shape": "1"}, "'shape' is \"1\", not a list of whole numbers"),
        ({"data": 3}, "'data' is not a list"),
        ({"data": [[0] * 16]}, "nested otherwise than its shape"),
        ({"data": [[[[0] * 4, [0] * 4, [0] * 4, [0] * 3]]]}, "nested otherwise than its shape"),
        ({"data": [[[[0] * 4, [0] * 4, [0] * 4, 0]]]}, "nested otherwise than its shape"),
        ({"data": [[[[[0]] * 4] * 4]]}, "FP32 takes numbers, given [0]"),
        ({"data": [0] * 15 + [[0]]}, "FP32 takes numbers, given [0]"),
        ({"parameters": {"binary_data_size": 64}}, "input 'image' has 'data' and the parameter 'binary_data_size'"),
        ({"parameters": []}, "the parameters of input 'image' are not an object"),
        ({"parameters": {"shared_memory_region": "r"}}, "input 'image': the parameter 'shared_memory_region'"),
        ({"shape": [0, 1, 4, 4], "data": []}, "input 'image': shape [0, 1, 4, 4] is an empty batch"),
    ],
)
def test_inputs_that_are_wrong(client: Served, changes: dict[str, Any], message: str) -> None:
    assert message in error_of(client.infer(image(**changes), model="digits"), 400)


@pytest.mark.parametrize("shape", [None, ("a", "b", "c", "d")])
def test_a_shape_that_no_array_can_have(connect: Connect, save_echo: SaveModel, shape: Any) -> None:
    x = {"name": "x", "shape": [0, 2**30, 2**30, 2**30], "datatype": "FP32", "data": []}
    assert "input 'x': shape [0, 1073741824, " in error_of(connect(save_echo(shape=shape)).infer(x), 400)


def test_a_long_text_among_many_numbers_takes_no_memory(connect: Connect, save_echo: SaveModel) -> None:
    text = "9" * 5_000
    x = {"name": "x", "shape": [1_000, 2], "datatype": "FP32", "data": [0] * 1_999 + [text]}
    body = json.dumps({"inputs": [x]}, separators=(",", ":")).encode()
    client = connect(save_echo())
    tracemalloc.start()
    error = error_of(client.post("/v2/models/m/infer", content=body), 400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "FP32 takes numbers" in error
    assert peak < 2_000_000  # as an array of texts it would be 40 MB


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b'{"inputs": [NaN]}', "the body is not JSON"),
        (b'{"inputs": [1e999]}', "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
        (b"[]", "the request is not a JSON object"),
        (b"{}", "'inputs' is missing"),
        (b'{"inputs": {}}', "'inputs' is not a list"),
        (b'{"inputs": [1]}', "inputs[0] is 1, not an object"),
        (b'{"inputs": [{"datatype": "FP32"}]}', "inputs[0]: 'name' is missing"),
        (b'{"inputs": [{"name": "image"}]}', "input 'image': the model expects datatype FP32, given null"),
        (b'{"inputs": [{"name": "image", "datatype": "FP32"}]}', "input 'image': 'shape' is missing"),
        (b'{"inputs": [{"name": "image", "data": [NaN]}]}', "neither NaN nor infinity (input 'image')"),
        (b'{"inputs": [{"name": "image", "data": [[1e400]]}]}', "neither NaN nor infinity (input 'image')"),
        (b'{"inputs": []}', "input 'image' is missing"),
        (b'{"id": 7, "inputs": []}', "'id' is not a string"),
        (b'{"inputs": [], "outputs": "fc"}', "'outputs' is not a list"),
        (b'{"inputs": [], "outputs": {}}', "'outputs' is not a list"),
        (b'{"inputs": [], "outputs": 0}', "'outputs' is not a list"),
        (b'{"inputs": [], "outputs": [{}]}', "outputs[0]: 'name' is missing"),
        (b'{"inputs": [], "parameters": 1}', "the parameters of the request are not an object"),
        (
            b'{"inputs": [], "parameters": {"binary_data_output": 1}}',
            "'binary_data_output' is 1, neither true",
        ),
        (b'{"inputs": [], "parameters": {"timeout": "1"}}', "the parameter 'timeout' is \"1\", not a number of micro"),
        (b'{"inputs": [], "parameters": {"timeout": -1}}', "the parameter 'timeout' is -1"),
        (b'{"inputs": [], "parameters": {"priority": 1}}', "the parameter 'priority'"),
        (b'{"inputs": [], "parameters": {"sequence_id": 5}}', "the parameter 'sequence_id'"),
        (b'{"inputs": [], "parameters": {"sequence_start": true}}', "the parameter 'sequence_id'"),
    ],
)
def test_bodies_that_are_no_requests(client: Served, body: bytes, message: str) -> None:
    assert message in error_of(client.post("/v2/models/digits/infer", content=body), 400)


def test_an_input_given_twice_or_not_at_all(connect: Connect, adder: Path) -> None:
    client = connect(adder)
    tensor = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    assert "input 'a' is given twice" in error_of(client.infer(tensor, tensor), 400)
    assert "input 'b' is missing" in error_of(client.infer(tensor), 400)
    del tensor["data"]
    assert "input 'a': 'data' is missing" in error_of(client.infer(tensor), 400)


@pytest.mark.parametrize("name", ["priority", "sequence_id", "sequence_start", "sequence_end"])
@pytest.mark.parametrize("unset", [0, "0", "", False])
def test_what_is_not_asked_for_is_no_priority_and_no_sequence(
    connect: Connect, adder: Path, name: str, unset: object
) -> None:
    tensors = [{"name": each, "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} for each in "ab"]
    assert connect(adder).infer(*tensors, parameters={name: unset}).status_code == 200


def test_sizes_that_fit_the_signature_but_not_each_other(connect: Connect, adder: Path) -> None:
    a = {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1] * 4}
    b = {"name": "b", "shape": [3, 2], "datatype": "FP32", "data": [1] * 6}
    assert "cannot compute on this input" in error_of(connect(adder).infer(a, b), 400)


def test_values_that_the_model_cannot_compute_on(connect: Connect, picker: Path) -> None:
    index = {"name": "index", "shape": [1], "datatype": "INT64", "data": [7]}
    assert "cannot compute on this input" in error_of(connect(picker).infer(index), 400)


def test_nan_and_infinity_in_outputs_become_null(connect: Connect, logarithm: Path) -> None:
    x = {"name": "x", "shape": [3], "datatype": "FP32", "data": [-1.0, 0.0, 1.0]}
    response = connect(logarithm).infer(x)
    assert response.status_code == 200
    assert response.json()["outputs"][0]["data"] == [None, None, 0.0]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RunError("the model could not be run: out of memory"), "the model could not be run: out of memory"),
        (ValueError("secret"), "internal error; the server's log says more"),
    ],
)
def test_failures_of_the_server_are_500(
    client: Served, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(Session, "run", fail)
    assert error_of(client.infer(image(), model="digits"), 500) == told
    assert str(failure) in caplog.text


def bytes_of(pixels: np.ndarray) -> dict[str, Any]:
    return {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.ravel().tolist()}


def test_a_detector_takes_bytes_and_gives_boxes(connect: Connect, detector: Path) -> None:
    client = connect(detector)
    told = client.get("/v2/models/m").json()
    assert told["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert told["outputs"] == [
        {"name": "boxes", "datatype": "FP32", "shape": [-1, 3, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "labels", "datatype": "INT64", "shape": [-1, 3]},
        {"name": "counts", "datatype": "INT64", "shape": [-1]},
    ]
    pixels = np.zeros((2, 20, 30, 3), np.uint8)
    pixels[1, 4:9, 2:17, 1] = 255
    reply = {output["name"]: output for output in client.infer(bytes_of(pixels)).json()["outputs"]}
    assert (reply["counts"]["datatype"], reply["counts"]["data"]) == ("INT64", [0, 1])
    assert reply["labels"]["data"] == [-1, -1, -1, 1, -1, -1]
    assert reply["boxes"]["shape"] == [2, 3, 4]
    assert reply["boxes"]["data"] == [0.0] * 12 + [2.0, 4.0, 17.0, 9.0] + [0.0] * 8
    only = client.infer(bytes_of(pixels[:, :7, :3]), outputs=[{"name": "counts"}]).json()["outputs"]
    assert [output["data"] for output in only] == [[0, 1]]


@pytest.mark.parametrize("value", [256, -1, 0.5])
def test_a_detector_takes_nothing_but_bytes(connect: Connect, detector: Path, value: float) -> None:
    request = bytes_of(np.zeros((1, 1, 1, 3), np.uint8)) | {"data": [0, 0, value]}
    assert "'image'" in error_of(connect(detector).infer(request), 400)


def test_a_mask_is_served_in_the_size_of_the_image(connect: Connect, segmenter: Path) -> None:
    pixels = np.zeros((1, 2, 3, 3), np.uint8)
    pixels[0, 1, 2, 2] = 200
    (mask,) = connect(segmenter).infer(bytes_of(pixels)).json()["outputs"]
    assert mask == {"name": "mask", "datatype": "INT64", "shape": [1, 2, 3], "data": [0, 0, 0, 0, 0, 3]}
