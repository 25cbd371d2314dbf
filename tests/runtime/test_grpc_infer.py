"""Requests as messages: elements in typed fields, and everything that can be wrong with a request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from tritonclient.grpc import InferResult, service_pb2

from tests.runtime.conftest import SaveModel
from tests.runtime.grpc_server import Served, request, tensor

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND

TYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "UINT16": TensorProto.UINT16,
    "UINT64": TensorProto.UINT64,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@pytest.fixture
def served(save_echo: SaveModel, adder: Path, picker: Path) -> Iterator[Served]:
    """Models that give back what they are given, by their datatypes; ``m`` is FP32's; and some others."""
    echoes = {name: save_echo(element) for name, element in TYPES.items()}
    server = Served({**echoes, "m": save_echo(TensorProto.FLOAT), "adder": adder, "picker": picker})
    yield server
    server.close()


CONTENTS: list[tuple[str, dict[str, list[Any]]]] = [
    ("BOOL", {"bool_contents": [True, False]}),
    ("INT8", {"int_contents": [-128, 127]}),
    ("UINT16", {"uint_contents": [0, 65_535]}),
    ("UINT64", {"uint64_contents": [0, 2**64 - 1]}),
    ("INT64", {"int64_contents": [-(2**63), 1]}),
    ("FP32", {"fp32_contents": [0.5, float("inf")]}),
    ("FP64", {"fp64_contents": [1e300, -0.0]}),
    ("BYTES", {"bytes_contents": [b"", "½".encode()]}),
]


@pytest.mark.parametrize(("datatype", "contents"), CONTENTS)
def test_elements_in_typed_fields(served: Served, datatype: str, contents: dict[str, list[Any]]) -> None:
    answer = served.stub.ModelInfer(request(datatype, tensor(datatype=datatype, **contents)))
    assert list(answer.outputs[0].shape) == [1, 2]
    assert InferResult(answer).as_numpy("y").tolist() == [next(iter(contents.values()))]


RAW = np.array([[1, 2]], np.float32).tobytes()
Parameter = service_pb2.InferParameter


def with_parameters(made: Any, **parameters: Any) -> Any:
    for name, parameter in parameters.items():
        made.parameters[name].CopyFrom(parameter)
    return made


def asked(name: str = "y", **parameters: Any) -> Any:
    return with_parameters(service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name), **parameters)


WRONG: list[tuple[Any, grpc.StatusCode, str]] = [
    (request("nobody"), NOT_FOUND, "no model 'nobody'"),
    (request("x" * 100_000), NOT_FOUND, "no model 'xxx"),
    (request("m", model_version="7"), NOT_FOUND, "no version '7'"),
    (request("m"), INVALID, "input 'x' is missing"),
    (request("m", tensor("z"), raw=(RAW,)), INVALID, "no input 'z'"),
    (request("m", tensor(), tensor(), raw=(RAW, RAW)), INVALID, "'x' is given twice"),
    (request("m", tensor(), raw=(RAW, RAW)), INVALID, "'raw_input_contents' has 2 tensors"),
    (request("m", raw=(RAW,)), INVALID, "'raw_input_contents' has 1 tensors"),
    (request("m", tensor(fp32_contents=[1, 2]), raw=(RAW,)), INVALID, "beside 'raw_input_contents'"),
    (request("m", tensor(datatype="FP64"), raw=(RAW,)), INVALID, "expects datatype FP32"),
    (request("m", tensor(datatype=""), raw=(RAW,)), INVALID, "expects datatype FP32"),
    (request("m", tensor(shape=(1, 3)), raw=(RAW,)), INVALID, "expects float32 [n, 2]"),
    (request("m", tensor(shape=(-1, 2)), raw=(RAW,)), INVALID, "'shape'"),
    (request("m", tensor(shape=(2**40, 2)), raw=(RAW,)), INVALID, "'shape'"),
    (request("m", tensor(shape=(1,) * 1000), raw=(RAW,)), INVALID, "1000 dimensions"),
    (request("m", tensor(shape=(0, 2)), raw=(b"",)), INVALID, "empty batch"),
    (request("m", tensor(), raw=(RAW[:-1],)), INVALID, "'x': 7 bytes"),
    (request("m", tensor(), raw=(RAW + b"x",)), INVALID, "'x': 9 bytes"),
    (request("m", tensor()), INVALID, "'fp32_contents' has 0 elements"),
    (request("m", tensor(fp32_contents=[1] * 3)), INVALID, "'fp32_contents' has 3 elements"),
    (request("m", tensor(fp64_contents=[1, 2])), INVALID, "those of FP32 belong in 'fp32_contents'"),
    (request("m", tensor(fp32_contents=[1, 2], int_contents=[1])), INVALID, "belong in 'fp32_contents'"),
    (request("FP16", tensor(datatype="FP16", fp32_contents=[1, 2])), INVALID, "sent in 'raw_input_contents'"),
    (request("INT8", tensor(datatype="INT8", int_contents=[1, 128])), INVALID, "128, which INT8 cannot hold"),
    (request("UINT16", tensor(datatype="UINT16", uint_contents=[65_536, 0])), INVALID, "65536, which UINT16 cannot"),
    (request("BOOL", tensor(datatype="BOOL"), raw=(b"\0\2",)), INVALID, "neither 0 nor 1"),
    (request("BYTES", tensor(datatype="BYTES"), raw=(b"\1\0\0\0",)), INVALID, "cannot hold 2 BYTES"),
    (request("BYTES", tensor(datatype="BYTES"), raw=(b"\xff\xff\xff\xff\0\0\0\0",)), INVALID, "BYTES element 0"),
    (request("BYTES", tensor(datatype="BYTES"), raw=(b"\0\0\0\0" * 3,)), INVALID, "behind the last"),
    (request("BYTES", tensor(datatype="BYTES", bytes_contents=[b"\xff", b""])), INVALID, "not UTF-8"),
    (request("m", tensor(), raw=(RAW,), outputs=[asked("z")]), INVALID, "no output 'z'"),
    (request("m", tensor(), raw=(RAW,), outputs=[asked(), asked()]), INVALID, "'y' is asked for twice"),
    (
        request("m", tensor(), raw=(RAW,), outputs=[asked(classification=Parameter(string_param="1"))]),
        INVALID,
        "'classification'",
    ),
    (
        request(
            "BYTES",
            tensor(datatype="BYTES", bytes_contents=[b"", b""]),
            outputs=[asked(classification=Parameter(int64_param=1))],
        ),
        INVALID,
        "can't rank",
    ),
    (
        request("m", tensor(), raw=(RAW,), outputs=[asked(shared_memory_region=Parameter(string_param="r"))]),
        UNIMPLEMENTED,
        "output 'y': the parameter 'shared_memory_region'",
    ),
    (
        request("m", with_parameters(tensor(), shared_memory_region=Parameter(string_param="r"))),
        UNIMPLEMENTED,
        "input 'x': the parameter 'shared_memory_region'",
    ),
    (with_parameters(request("m"), timeout=Parameter(int64_param=-1)), INVALID, "input 'x' is missing"),
    (
        with_parameters(request("m", tensor(), raw=(RAW,)), timeout=Parameter(int64_param=-1)),
        INVALID,
        "'timeout' is -1",
    ),
    (
        with_parameters(request("m", tensor(), raw=(RAW,)), priority=Parameter(uint64_param=1)),
        UNIMPLEMENTED,
        "'priority'",
    ),
    (
        with_parameters(request("m", tensor(), raw=(RAW,)), sequence_id=Parameter(int64_param=5)),
        UNIMPLEMENTED,
        "'sequence_id'",
    ),
    (
        request("picker", tensor("index", "INT64", (1,), int64_contents=[99])),
        INVALID,
        "out of data bounds",
    ),
]


def test_what_is_wrong_with_a_request_is_said_by_the_name_of_the_field(served: Served) -> None:
    for message, code, words in WRONG:
        found, text = served.refused(message)
        assert (found, words in text) == (code, True), text
    assert served.client.is_server_ready()


def test_a_request_that_is_no_message(served: Served) -> None:
    call = served.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff")
    assert caught.value.code() is INVALID
    assert "inference.ModelInferRequest" in caught.value.details()


def test_a_call_that_there_is_not(served: Served) -> None:
    call = served.channel.unary_unary("/inference.GRPCInferenceService/ModelGuess")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert caught.value.code() is UNIMPLEMENTED


NAMES = st.sampled_from(["m", "BYTES", "INT8", "adder", "x", "y", "a", ""]) | st.text(max_size=4)
NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 3)
PARAMETERS = st.dictionaries(
    st.sampled_from(["timeout", "priority", "sequence_id", "classification", "shared_memory_region", "binary_data"]),
    st.builds(Parameter, int64_param=NUMBERS)
    | st.builds(Parameter, string_param=st.text(max_size=3))
    | st.builds(Parameter, bool_param=st.booleans())
    | st.builds(Parameter, double_param=st.floats())
    | st.just(Parameter()),
    max_size=2,
)
ELEMENTS = st.builds(
    service_pb2.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=4),
    int_contents=st.just([]) | st.lists(NUMBERS, max_size=4),
    bytes_contents=st.just([]) | st.lists(st.binary(max_size=3), max_size=4),
)
TENSORS = st.builds(
    service_pb2.ModelInferRequest.InferInputTensor,
    name=NAMES,
    datatype=st.sampled_from([*TYPES, ""]) | st.text(max_size=5),
    shape=st.lists(st.integers(0, 3), max_size=3) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    parameters=st.just({}) | PARAMETERS,
    contents=st.none() | ELEMENTS,
)
OUTPUTS = st.builds(service_pb2.ModelInferRequest.InferRequestedOutputTensor, name=NAMES, parameters=PARAMETERS)
REQUESTS = st.builds(
    service_pb2.ModelInferRequest,
    model_name=NAMES,
    model_version=st.sampled_from(["", "1", "2", "x"]),
    id=st.text(max_size=3),
    parameters=st.just({}) | PARAMETERS,
    inputs=st.lists(TENSORS, max_size=2),
    outputs=st.just([]) | st.lists(OUTPUTS, max_size=2),
    raw_input_contents=st.just([]) | st.lists(st.binary(max_size=20), max_size=2),
)
REFUSALS = {INVALID, NOT_FOUND, UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED}
QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(served: Served, data: bytes) -> None:
    """Bytes are answered, or refused with a text; nothing is ever the server's fault."""
    call = served.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    try:
        answer = service_pb2.ModelInferResponse.FromString(call(data))
    except grpc.RpcError as error:
        assert error.code() in REFUSALS, error.details()
        assert error.details()
    else:
        assert len(answer.raw_output_contents) == len(answer.outputs) > 0


@QUICK
@given(message=REQUESTS)
@example(message=request("m", tensor(shape=(0, 2**30))))
def test_requests_of_wrong_parts(served: Served, message: Any) -> None:
    check(served, message.SerializeToString())


@QUICK
@given(name=st.sampled_from(list(TYPES)), element=ELEMENTS, rows=st.integers(0, 2), raw=st.binary(max_size=40))
def test_requests_that_are_nearly_right(served: Served, name: str, element: Any, rows: int, raw: bytes) -> None:
    made = tensor(datatype=name, shape=(rows, 2))
    check(served, request(name, made, raw=(raw,)).SerializeToString())
    made.contents.CopyFrom(element)
    check(served, request(name, made).SerializeToString())


@QUICK
@given(position=st.integers(0, 1000), replacement=st.binary(max_size=4))
def test_a_right_request_with_one_place_changed(served: Served, position: int, replacement: bytes) -> None:
    right = request("m", tensor(), raw=(RAW,), outputs=[asked()], id="a").SerializeToString()
    at = position % len(right)
    check(served, right[:at] + replacement + right[at + 1 :])


SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
METHODS = [name for name in sorted(SERVICE.methods_by_name) if "Infer" not in name]


@QUICK
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=30))
def test_noise_to_every_other_call(served: Served, method: str, data: bytes) -> None:
    try:
        answer = served.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(data)
    except grpc.RpcError as error:
        assert error.code() in REFUSALS | {grpc.StatusCode.UNAVAILABLE}, error.details()
    else:
        getattr(service_pb2, f"{method}Response").FromString(answer)
