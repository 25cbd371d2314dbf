"""Real clients of the protocol, tritonclient's over HTTP, against a server on the loopback."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.runtime.conftest import LABELS, save
from tests.runtime.rest_server import Served

# A client that is closed already closes itself again when it is collected, in whatever thread that happens.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*InferenceServerClient.__del__:pytest.PytestUnraisableExceptionWarning"
)

ELEMENTS = [
    (TensorProto.BOOL, np.bool_, [True, False]),
    (TensorProto.UINT8, np.uint8, [0, 255]),
    (TensorProto.UINT16, np.uint16, [0, 2**16 - 1]),
    (TensorProto.UINT32, np.uint32, [0, 2**32 - 1]),
    (TensorProto.UINT64, np.uint64, [0, 2**64 - 1]),
    (TensorProto.INT8, np.int8, [-128, 127]),
    (TensorProto.INT16, np.int16, [-(2**15), 2**15 - 1]),
    (TensorProto.INT32, np.int32, [-(2**31), 2**31 - 1]),
    (TensorProto.INT64, np.int64, [-(2**63), 2**63 - 1]),
    (TensorProto.FLOAT16, np.float16, [-65504.0, 0.5]),
    (TensorProto.FLOAT, np.float32, [1.5, -3.25]),
    (TensorProto.DOUBLE, np.float64, [0.1, 1e300]),
    (TensorProto.STRING, np.object_, ["", "grüße\0 🙂"]),
]
IDS = [np.dtype(dtype).name for _, dtype, _ in ELEMENTS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An echo for every datatype."""
    folder = tmp_path_factory.mktemp("echoes")
    saved = {}
    for element, _, _ in ELEMENTS:
        node = helper.make_node("Identity", ["x"], ["y"])
        path = folder / f"echo{element}.onnx"
        saved[path.stem] = save(path, [node], [("x", element, ["n", 2])], [("y", element, ["n", 2])])
    return saved


@pytest.fixture(scope="module", params=["direct", "asgi"])
def echoes(models: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[str]:
    served = Served(models)
    with served.listening(request.param == "direct") as address:
        yield address
    served.close()


@pytest.fixture(params=["direct", "asgi"])
def digits(classifier: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    served = Served({"digits": classifier})
    with served.listening(request.param == "direct") as address:
        yield address
    served.close()


def tensor(name: str, array: np.ndarray, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def same(found: np.ndarray, sent: np.ndarray) -> None:
    if sent.dtype.hasobject:  # the client gives bytes where they came as bytes
        found = np.array([text.decode() if isinstance(text, bytes) else text for text in found.flat], object)
        sent = sent.ravel()
    np.testing.assert_array_equal(found, sent)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize(("element", "dtype", "values"), ELEMENTS, ids=IDS)
def test_every_datatype_both_ways(
    echoes: str, element: int, dtype: Any, values: list[Any], binary_in: bool, binary_out: bool
) -> None:
    sent = np.array([values, values[::-1]], dtype)
    with triton.InferenceServerClient(echoes) as client:
        wanted = [triton.InferRequestedOutput("y", binary_data=binary_out)]
        result = client.infer(f"echo{element}", [tensor("x", sent, binary_in)], outputs=wanted, request_id="7")
    assert result.get_response()["id"] == "7"
    same(result.as_numpy("y"), sent)


@pytest.mark.parametrize("request_by", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_by", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression_both_ways(echoes: str, request_by: Any, response_by: Any, binary: bool) -> None:
    sent = np.arange(2000, dtype=np.float32).reshape(-1, 2)
    with triton.InferenceServerClient(echoes) as client:
        result = client.infer(
            "echo1",
            [tensor("x", sent, binary)],
            outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
            request_compression_algorithm=request_by,
            response_compression_algorithm=response_by,
        )
    same(result.as_numpy("y"), sent)


def test_every_other_call(digits: str) -> None:
    with triton.InferenceServerClient(digits) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.is_model_ready("digits", "1")
        assert not client.is_model_ready("digits", "2")
        assert not client.is_model_ready("other")
        assert "statistics" in client.get_server_metadata()["extensions"]
        assert client.get_model_metadata("digits", "1")["inputs"][0]["shape"] == [-1, 1, 4, 4]
        assert client.get_model_config("digits")["input"][0]["dims"] == [1, 4, 4]
        assert client.get_model_repository_index() == [
            {"name": "digits", "version": "1", "state": "READY", "reason": ""}
        ]
        assert client.get_inference_statistics()["model_stats"][0]["name"] == "digits"
        assert client.get_inference_statistics("digits", "1")["model_stats"][0]["inference_count"] == 0
        client.unload_model("digits")
        assert not client.is_model_ready("digits")
        client.load_model("digits", config=json.dumps({"max_batch_size": 2}))
        assert client.get_model_config("digits")["max_batch_size"] == 2
        with pytest.raises(InferenceServerException, match="models come from the repository alone"):
            client.load_model("digits", config="{}", files={"file:1/model.onnx": b"\0"})
        assert client.get_system_shared_memory_status() == []
        assert client.get_cuda_shared_memory_status() == []
        client.unregister_system_shared_memory()
        with pytest.raises(InferenceServerException, match="there is no shared memory here"):
            client.register_system_shared_memory("r", "/r", 16)
        for call in (client.get_trace_settings, client.get_log_settings, client.update_trace_settings):
            with pytest.raises(InferenceServerException, match=r"no trace settings|the server's log"):
                call()


def test_the_answers_are_those_of_onnx_runtime(digits: str, classifier: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(classifier).run(["fc"], {"image": images})
    with triton.InferenceServerClient(digits, concurrency=4) as client:
        result = client.infer("digits", [tensor("image", images)], model_version="1")
        np.testing.assert_allclose(result.as_numpy("fc"), expected, rtol=1e-5)
        pending = [client.async_infer("digits", [tensor("image", images[i : i + 1])]) for i in range(3)]
        for row, one in zip(expected, pending, strict=True):
            np.testing.assert_allclose(one.get_result().as_numpy("fc")[0], row, rtol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_classification_gives_the_greatest_with_their_labels(digits: str, classifier: Path, binary: bool) -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(classifier).run(["fc"], {"image": images})
    with triton.InferenceServerClient(digits) as client:
        wanted = [triton.InferRequestedOutput("fc", binary_data=binary, class_count=2)]
        classes = client.infer("digits", [tensor("image", images)], outputs=wanted).as_numpy("fc")
    assert classes.shape == (3, 2)
    for row, texts in zip(expected, classes, strict=True):
        best = np.argsort(-row)[:2]
        for index, text in zip(best, texts, strict=True):
            value, told, label = (text.decode() if isinstance(text, bytes) else text).split(":")
            assert (int(told), label) == (index, LABELS[index])
            assert float(value) == pytest.approx(row[index], abs=1e-5)


def test_parameters_of_a_request(digits: str) -> None:
    image = tensor("image", np.zeros((1, 1, 4, 4), np.float32))
    with triton.InferenceServerClient(digits) as client:
        client.infer("digits", [image], timeout=10_000_000, parameters={"my_own": "word"})
        for refused in ({"priority": 3}, {"sequence_id": 7, "sequence_start": True}):
            with pytest.raises(InferenceServerException, match=f"the parameter '{next(iter(refused))}'"):
                client.infer("digits", [image], **refused)
        image.set_shared_memory("region", 64)
        with pytest.raises(InferenceServerException, match="there is no shared memory"):
            client.infer("digits", [image])


def test_errors_have_their_text_and_status(digits: str) -> None:
    wrong = tensor("image", np.zeros((1, 1, 4, 5), np.float32))
    with triton.InferenceServerClient(digits) as client:
        with pytest.raises(InferenceServerException, match="input 'image': the model expects float32") as caught:
            client.infer("digits", [wrong])
        assert caught.value.status() == "400"
        with pytest.raises(InferenceServerException, match="there is no model 'other'") as caught:
            client.get_model_metadata("other")
        assert caught.value.status() == "404"


def test_text_that_is_not_utf_8_is_refused(echoes: str) -> None:
    sent = np.array([[b"\xff\xfe", b"a"]], np.object_)
    with triton.InferenceServerClient(echoes) as client:
        with pytest.raises(InferenceServerException, match="input 'x': BYTES element 0 is not UTF-8") as caught:
            client.infer(f"echo{TensorProto.STRING}", [tensor("x", sent)])
        assert caught.value.status() == "400"


def test_the_client_of_asyncio(digits: str) -> None:
    images = np.random.default_rng(0).normal(size=(200, 1, 4, 4)).astype(np.float32)

    async def talk() -> None:
        async with triton_aio.InferenceServerClient(digits) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("digits")
            assert (await client.get_server_metadata())["name"] == "netspec"
            assert (await client.get_model_metadata("digits"))["versions"] == ["1"]
            assert (await client.get_model_config("digits"))["name"] == "digits"
            assert (await client.get_model_repository_index())[0]["state"] == "READY"
            results = await asyncio.gather(
                *(
                    client.infer("digits", [tensor("image", images, binary)], response_compression_algorithm=packed)
                    for binary in (True, False)
                    for packed in (None, "gzip", "deflate")
                )
            )
            for result in results[1:]:
                np.testing.assert_array_equal(result.as_numpy("fc"), results[0].as_numpy("fc"))
            assert (await client.get_inference_statistics("digits"))["model_stats"][0]["inference_count"] == 1200
            await client.unload_model("digits")
            with pytest.raises(InferenceServerException, match="the model 'digits' is not ready"):
                await client.infer("digits", [tensor("image", images)])
            await client.load_model("digits")
            assert (await client.get_system_shared_memory_status()) == []

    asyncio.run(talk())
