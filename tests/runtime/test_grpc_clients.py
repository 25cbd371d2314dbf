"""The clients that people have work unchanged, with every call that makes sense without shared memory."""

import asyncio
import queue
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from onnx import TensorProto
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.runtime.conftest import LABELS, SaveModel
from tests.runtime.grpc_server import Served


@pytest.fixture
def served(tmp_path: Path, classifier: Path, adder: Path) -> Iterator[Served]:
    """A repository of the classifier, in two versions, and the adder."""
    for model, version, file in (("classifier", 1, classifier), ("classifier", 2, classifier), ("adder", 1, adder)):
        target = tmp_path / "repository" / model / str(version) / "model.onnx"
        target.parent.mkdir(parents=True)
        shutil.copy(file, target)
    config = tmp_path / "repository" / "classifier" / "config.pbtxt"
    config.write_text("max_batch_size: 4 version_policy { all { } }")
    server = Served(tmp_path / "repository")
    yield server
    server.close()


def given(kind: Any, name: str, array: np.ndarray, datatype: str | None = None) -> Any:
    made = kind.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


IMAGES = np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)


def test_what_the_server_and_its_models_say_of_themselves(served: Served) -> None:
    client = served.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("classifier")
    assert client.is_model_ready("classifier", "2")
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "netspec"
    assert "model_repository" in server["extensions"]
    model = client.get_model_metadata("classifier", as_json=True)
    assert (model["versions"], model["platform"]) == (["1", "2"], "onnxruntime_onnx")
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "1", "4", "4"]}]
    assert model["outputs"] == [{"name": "fc", "datatype": "FP32", "shape": ["-1", "3"]}]
    config = client.get_model_config("classifier").config
    assert (config.max_batch_size, list(config.input[0].dims)) == (4, [1, 4, 4])


def test_inference_is_what_onnx_runtime_computes(served: Served, classifier: Path) -> None:
    expected = onnxruntime.InferenceSession(classifier, providers=["CPUExecutionProvider"]).run(None, {"image": IMAGES})
    result = served.client.infer("classifier", [given(tritonclient.grpc, "image", IMAGES)], request_id="mine")
    assert np.allclose(result.as_numpy("fc"), expected[0], atol=1e-6)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("classifier", "2", "mine")
    older = served.client.infer("classifier", [given(tritonclient.grpc, "image", IMAGES)], model_version="1")
    assert older.get_response().model_version == "1"


def test_outputs_asked_for_are_the_outputs_given(served: Served) -> None:
    rows = np.array([[1, 2]], np.float32)
    inputs = [given(tritonclient.grpc, name, rows) for name in ("a", "b")]
    asked = [tritonclient.grpc.InferRequestedOutput(name) for name in ("double",)]
    result = served.client.infer("adder", inputs, outputs=asked)
    assert result.as_numpy("double").tolist() == [[2, 4]]
    assert result.as_numpy("sum") is None
    assert served.client.infer("adder", inputs).as_numpy("sum").tolist() == [[2, 4]]


def test_classification(served: Served) -> None:
    inputs = [given(tritonclient.grpc, "image", IMAGES)]
    scores = served.client.infer("classifier", inputs).as_numpy("fc")
    asked = [tritonclient.grpc.InferRequestedOutput("fc", class_count=2)]
    ranked = served.client.infer("classifier", inputs, outputs=asked).as_numpy("fc")
    assert ranked.shape == (3, 2)
    for row, texts in zip(scores, ranked, strict=True):
        best = np.argsort(-row)[:2]
        assert [text.decode() for text in texts] == [f"{row[i]:f}:{i}:{LABELS[i]}" for i in best]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(served: Served, algorithm: str) -> None:
    inputs = [given(tritonclient.grpc, "image", np.zeros((4, 1, 4, 4), np.float32))]
    result = served.client.infer("classifier", inputs, compression_algorithm=algorithm)
    assert result.as_numpy("fc").shape == (4, 3)


def test_statistics(served: Served) -> None:
    for _ in range(3):
        served.client.infer("classifier", [given(tritonclient.grpc, "image", IMAGES)])
    (told,) = served.client.get_inference_statistics("classifier", "2").model_stats
    assert (told.inference_count, told.inference_stats.success.count) == (9, 3)
    assert told.inference_stats.compute_infer.ns > 0
    assert told.last_inference > 1_600_000_000_000
    assert sum(batch.compute_infer.count for batch in told.batch_stats) == told.execution_count == 3
    versions = served.client.get_inference_statistics("classifier").model_stats
    assert {(each.name, each.version) for each in versions} == {("classifier", "1"), ("classifier", "2")}
    assert len(served.client.get_inference_statistics().model_stats) == 3


def test_the_repository(served: Served) -> None:
    client = served.client
    index = {(each.name, each.version): each.state for each in client.get_model_repository_index().models}
    assert index == dict.fromkeys([("adder", "1"), ("classifier", "1"), ("classifier", "2")], "READY")
    client.unload_model("adder", unload_dependents=True)
    assert not client.is_model_ready("adder")
    with pytest.raises(InferenceServerException, match="not ready"):
        client.get_model_metadata("adder")
    client.load_model("adder")
    assert client.is_model_ready("adder")
    client.load_model("adder", config='{"max_batch_size": 2}')
    assert client.get_model_config("adder").config.max_batch_size == 2


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"model_name": "nobody"}, "no model 'nobody'"),
        ({"model_name": "../classifier"}, "no model"),
        ({"model_name": "adder", "config": "{"}, "'config'"),
        ({"model_name": "adder", "config": '{"platform": "x"}'}, "only ONNX models"),
        ({"model_name": "adder", "config": "{}", "files": {"file:1/model.onnx": b"evil"}}, "repository alone"),
    ],
)
def test_loads_that_are_refused_change_nothing(served: Served, load: dict[str, Any], words: str) -> None:
    with pytest.raises(InferenceServerException, match=words):
        served.client.load_model(**load)
    assert served.client.is_model_ready("adder")


def test_calls_without_a_meaning_here_answer_as_the_protocol_says(served: Served) -> None:
    client = served.client
    assert len(client.get_system_shared_memory_status().regions) == 0
    assert len(client.get_cuda_shared_memory_status().regions) == 0
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    for call in (
        lambda: client.register_system_shared_memory("region", "/region", 64),
        lambda: client.register_cuda_shared_memory("region", b"aGFuZGxl", 0, 64),
        lambda: client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
        client.get_trace_settings,
        lambda: client.update_log_settings({"log_info": True}),
        client.get_log_settings,
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(InferenceServerException, match="no region"):
        client.get_system_shared_memory_status("region")


def test_the_example_in_the_documentation(served: Served) -> None:
    page = Path(__file__).parents[2] / "docs" / "serving-grpc.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace("127.0.0.1:8001", served.address), found)
    assert (found["scores"].shape, found["best"].shape) == ((1, 3), (1, 2))


ARRAYS = {
    TensorProto.BOOL: np.array([[True, False]]),
    TensorProto.UINT8: np.array([[0, 255]], np.uint8),
    TensorProto.UINT16: np.array([[0, 65_535]], np.uint16),
    TensorProto.UINT32: np.array([[0, 2**32 - 1]], np.uint32),
    TensorProto.UINT64: np.array([[0, 2**64 - 1]], np.uint64),
    TensorProto.INT8: np.array([[-128, 127]], np.int8),
    TensorProto.INT16: np.array([[-32_768, 32_767]], np.int16),
    TensorProto.INT32: np.array([[-(2**31), 2**31 - 1]], np.int32),
    TensorProto.INT64: np.array([[-(2**63), 2**63 - 1]], np.int64),
    TensorProto.FLOAT16: np.array([[-0.5, 65_504]], np.float16),
    TensorProto.FLOAT: np.array([[np.nan, -np.inf]], np.float32),
    TensorProto.DOUBLE: np.array([[1e308, -5e-324]], np.float64),
    TensorProto.STRING: np.array([["", "½ \0 text"]], object),
}


@pytest.fixture
def echoes(save_echo: SaveModel) -> Iterator[Served]:
    """A model of each element type that gives back what it is given: ``echo1`` takes FP32."""
    server = Served({f"echo{element}": save_echo(element) for element in ARRAYS})
    yield server
    server.close()


def test_every_datatype(echoes: Served) -> None:
    for element, array in ARRAYS.items():
        sent = np.array([[text.encode() for text in row] for row in array], object) if array.dtype == object else array
        result = echoes.client.infer(f"echo{element}", [given(tritonclient.grpc, "x", sent)]).as_numpy("y")
        assert result.dtype == array.dtype
        assert np.array_equal(result, sent, equal_nan=array.dtype.kind == "f")


def test_the_asynchronous_call_of_the_synchronous_client(served: Served) -> None:
    done: queue.Queue[tuple[Any, Any]] = queue.Queue()
    inputs = [given(tritonclient.grpc, "image", IMAGES)]
    served.client.async_infer("classifier", inputs, lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=10)
    assert error is None
    assert result.as_numpy("fc").shape == (3, 3)


def test_the_asyncio_client(served: Served) -> None:
    async def ask() -> None:
        async with tritonclient.grpc.aio.InferenceServerClient(served.address) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("classifier")
            assert (await client.get_model_config("adder")).config.name == "adder"
            inputs = [given(tritonclient.grpc.aio, "image", IMAGES)]
            many = await asyncio.gather(*(client.infer("classifier", inputs, request_id=str(i)) for i in range(20)))
            assert [result.get_response().id for result in many] == [str(i) for i in range(20)]
            await client.unload_model("adder")
            assert not await client.is_model_ready("adder")

            async def requests() -> Any:
                for number in range(3):
                    yield {"model_name": "classifier", "inputs": inputs, "request_id": str(number)}

            seen = [result.get_response().id async for result, error in client.stream_infer(requests()) if not error]
            assert seen == ["0", "1", "2"]

    asyncio.run(ask())
