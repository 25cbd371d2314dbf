"""Whatever a client sends, it gets a result or a 4xx that says why: never a failure, never what another client sent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.protocol.datatypes import DATATYPES
from tests.runtime.conftest import save
from tests.runtime.rest_server import Served

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
PARAMETERS = (
    st.dictionaries(
        st.sampled_from(
            ["binary_data", "binary_data_size", "binary_data_output", "classification", "timeout", "priority"]
        ),
        st.integers(-1, 40) | st.booleans() | JSON,
        max_size=2,
    )
    | JSON
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", ""]) | JSON,
        "datatype": st.sampled_from(sorted(DATATYPES.values())) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "data": st.lists(SCALARS, max_size=8) | st.lists(st.lists(SCALARS, max_size=3), max_size=4) | JSON,
        "parameters": PARAMETERS,
    },
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "inputs": st.lists(TENSORS, max_size=3) | JSON,
        "outputs": st.lists(TENSORS, max_size=3) | JSON,
        "parameters": PARAMETERS,
    },
)
MODELS = {
    "floats": TensorProto.FLOAT,
    "bytes": TensorProto.INT8,
    "texts": TensorProto.STRING,
    "flags": TensorProto.BOOL,
}
SHAPES = {"anything": None, "four": ("a", "b", "c", "d")}
NAMES = st.sampled_from([*MODELS, *SHAPES])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Echoes x → y of several types and shapes."""
    folder = tmp_path_factory.mktemp("echoes")

    def echo(name: str, element: int, shape: Any) -> Path:
        node = helper.make_node("Identity", ["x"], ["y"])
        return save(folder / f"{name}.onnx", [node], [("x", element, shape)], [("y", element, shape)])

    models = {name: echo(name, element, ("n", 2)) for name, element in MODELS.items()}
    models |= {name: echo(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()}
    one = Served(models)
    yield one
    one.close()


def check(served: Served, model: str, body: bytes, **headers: str) -> None:
    status, told, answer = served.infer_raw(f"/v2/models/{model}/infer", body, headers)
    size = int(told.get(b"inference-header-content-length", len(answer)))
    reply = orjson.loads(answer[:size])
    assert status in (200, 400), reply
    assert "outputs" in reply if status == 200 else reply["error"]


def of_shape(shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}


@QUICK
@given(model=NAMES, body=st.binary(max_size=200))
def test_noise(served: Served, model: str, body: bytes) -> None:
    check(served, model, body)


@QUICK
@given(model=NAMES, request=REQUESTS)
@example(model="anything", request=of_shape([1] * 65, [1]))
@example(model="anything", request=of_shape([0, 2**30, 2**30, 2**30], []))
@example(model="four", request=of_shape([0, 2**30, 2**30, 2**30], []))
@example(model="four", request=of_shape([1, 2**30, 2**30, 2**30], []))
def test_requests_of_wrong_parts(served: Served, model: str, request: Any) -> None:
    check(served, model, json.dumps(request).encode())


@QUICK
@given(
    model=NAMES,
    rows=st.integers(0, 3),
    scalars=st.lists(SCALARS, max_size=6),
    datatype=st.sampled_from(list(DATATYPES.values())),
)
def test_requests_that_are_nearly_right(
    served: Served, model: str, rows: int, scalars: list[Any], datatype: str
) -> None:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": datatype, "data": (scalars * 6)[: rows * 2]}
    check(served, model, json.dumps({"inputs": [tensor]}).encode())


@QUICK
@given(position=st.integers(0, 10_000), replacement=st.binary(max_size=3))
def test_a_right_request_with_one_place_changed(served: Served, position: int, replacement: bytes) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[0.5, 1], [-3, 1e9]]}
    body = json.dumps({"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}]}).encode()
    at = position % len(body)
    check(served, "floats", body[:at] + replacement + body[at + 1 :])


@QUICK
@given(
    model=st.sampled_from([*MODELS]),
    datatype=st.sampled_from(["FP32", "INT8", "BYTES", "BOOL"]),
    rows=st.integers(0, 3),
    told=st.integers(-2, 40) | JSON,
    raw=st.binary(max_size=40),
    off=st.integers(-60, 60) | st.just(0),
    binary=st.booleans(),
)
def test_framing(
    served: Served, model: str, datatype: str, rows: int, told: Any, raw: bytes, off: int, binary: bool
) -> None:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": datatype, "parameters": {"binary_data_size": told}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary}}).encode()
    check(served, model, head + raw, **{"inference-header-content-length": str(len(head) + off)})


@QUICK
@given(
    model=NAMES,
    body=st.binary(max_size=60),
    size=st.just("0") | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=8),
)
def test_raw_requests_and_lengths_of_any_kind(served: Served, model: str, body: bytes, size: str) -> None:
    check(served, model, body, **{"inference-header-content-length": size})


@QUICK
@given(model=st.sampled_from([*MODELS]), body=st.binary(max_size=100), encoding=st.sampled_from(["gzip", "deflate"]))
def test_noise_that_is_said_to_be_compressed(served: Served, model: str, body: bytes, encoding: str) -> None:
    check(served, model, body, **{"content-encoding": encoding})


@QUICK
@given(rows=st.lists(st.integers(1, 3), min_size=2, max_size=8), spoilt=st.sets(st.integers(0, 7), max_size=3))
def test_every_client_gets_its_own_answer(served: Served, rows: list[int], spoilt: set[int]) -> None:
    bodies = []
    for client, count in enumerate(rows):
        data = [client + place / 16 for place in range(2 * count)]
        sent = data[:-1] if client in spoilt else data
        bodies.append(json.dumps({"id": str(client), **of_shape([count, 2], sent)}).encode())
    for client, (status, _, answer) in enumerate(served.infer_together("/v2/models/floats/infer", bodies)):
        reply = orjson.loads(answer)
        if client in spoilt:
            assert status == 400
        else:
            expected = [client + place / 16 for place in range(2 * rows[client])]
            assert (reply["id"], reply["outputs"][0]["data"]) == (str(client), expected)
