"""Whatever a client sends, the answer is a reply or a 400 that says why: never a failure of the server."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from runtime.protocol.datatypes import DATATYPES
from runtime.server.infer import Infer
from runtime.session import Session
from tests.runtime.conftest import SaveModel

QUICK = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y", ""]) | JSON,
        "datatype": st.sampled_from(sorted(DATATYPES.values())) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "data": st.lists(SCALARS, max_size=8) | st.lists(st.lists(SCALARS, max_size=3), max_size=4) | JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data", "binary_data_size"]), JSON) | JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "inputs": st.lists(TENSORS, max_size=3) | JSON,
        "outputs": st.lists(TENSORS, max_size=3) | JSON,
        "parameters": JSON,
    },
)


def of_shape(shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}


@pytest.fixture(params=[TensorProto.FLOAT, TensorProto.INT8, TensorProto.STRING, TensorProto.BOOL])
def infer(request: pytest.FixtureRequest, save_echo: SaveModel) -> Iterator[Infer]:
    with ThreadPoolExecutor(1) as workers:
        yield Infer(Session(save_echo(request.param), "cpu", threads=1), "m", workers, 10_000)


def check(answer: tuple[int, bytes]) -> None:
    status, body = answer
    reply = orjson.loads(body)
    assert status in (200, 400), reply
    assert "outputs" in reply if status == 200 else reply["error"]


@QUICK
@given(body=st.binary(max_size=200))
def test_noise(infer: Infer, body: bytes) -> None:
    check(infer.answer(body))


@QUICK
@given(request=REQUESTS)
@example(request=of_shape([1] * 65, [1]))
@example(request=of_shape([0, 2**30, 2**30, 2**30], []))
def test_requests_of_wrong_parts(infer: Infer, request: Any) -> None:
    check(infer.answer(json.dumps(request).encode()))


@pytest.mark.parametrize("shape", [None, ("a", "b", "c", "d")])
@given(request=REQUESTS)
@example(request=of_shape([1] * 65, [1]))
@example(request=of_shape([0, 2**30, 2**30, 2**30], []))
@QUICK
def test_requests_to_a_model_that_says_little_of_its_shape(save_echo: SaveModel, shape: Any, request: Any) -> None:
    with ThreadPoolExecutor(1) as workers:
        infer = Infer(Session(save_echo(shape=shape), "cpu", threads=1), "m", workers, 10_000)
        check(infer.answer(json.dumps(request).encode()))


@QUICK
@given(
    rows=st.integers(0, 3), scalars=st.lists(SCALARS, max_size=6), datatype=st.sampled_from(list(DATATYPES.values()))
)
def test_requests_that_are_nearly_right(infer: Infer, rows: int, scalars: list[Any], datatype: str) -> None:
    tensor = {"name": "x", "shape": [rows, 2], "datatype": datatype, "data": (scalars * 6)[: rows * 2]}
    check(infer.answer(json.dumps({"inputs": [tensor]}).encode()))


@QUICK
@given(position=st.integers(0, 10_000), replacement=st.binary(max_size=3))
def test_a_right_request_with_one_place_changed(infer: Infer, position: int, replacement: bytes) -> None:
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[0.5, 1], [-3, 1e9]]}
    body = json.dumps({"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}]}).encode()
    at = position % len(body)
    check(infer.answer(body[:at] + replacement + body[at + 1 :]))
