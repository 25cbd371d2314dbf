"""The options of an engine: what each does, and that one which the device has no use for is refused."""

import contextlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from runtime.binding import BoundRun, FixedBuffers
from runtime.complaints import run_error
from runtime.engine import Engine
from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError, InputError, RunError
from runtime.session import Session
from tests.runtime.conftest import SaveModel

ALL_PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def product(save_model: SaveModel, element: int = TensorProto.FLOAT, rows: int | str = 64) -> Path:
    """Saves x [rows, 256] @ w → y [rows, 256], then ReLU."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    weight = np.random.default_rng(3).normal(size=(256, 256)).astype(dtype)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Relu", ["xw"], ["y"])]
    return save_model(
        nodes, [("x", element, [rows, 256])], [("y", element, [rows, 256])], {"w": weight}, name="product.onnx"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "there is no device 'gpu'; there are auto, cpu, cuda, tensorrt"),
        ({"threads": 0}, "threads is 0, and must be in 1…1024"),
        ({"threads": 1025}, "threads is 1025, and must be in 1…1024"),
        ({"instances": 0}, "instances is 0, and must be in 1…1024"),
        ({"device": "cuda", "device_id": -1}, "device_id is -1, and must be at least 0"),
        ({"device": "cuda", "gpu_memory": 0}, "gpu_memory is 0, and must be at least 1"),
        ({"device": "cpu", "device_id": 0}, "device_id has no meaning on the device cpu"),
        ({"device": "auto", "device_id": 1}, "device_id has no meaning on the device auto"),
        ({"device": "cpu", "gpu_memory": 2**30}, "gpu_memory has no meaning on the device cpu"),
        ({"device": "tensorrt", "gpu_memory": 2**30}, "gpu_memory has no meaning on the device tensorrt"),
        ({"device": "cpu", "cuda_graph": True}, "cuda_graph has no meaning on the device cpu"),
        ({"device": "cuda", "fp16": True}, "fp16 has no meaning on the device cuda"),
        ({"device": "cuda", "engine_cache": Path("cache")}, "engine_cache has no meaning on the device cuda"),
        ({"device": "cuda", "cuda_graph": True, "instances": 2}, "2 instances would share it"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        EngineOptions(**options)
    assert message in caught.value.message


def threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@on_linux
@pytest.mark.parametrize(
    ("options", "own"),
    [
        (EngineOptions("cpu", threads=1), 0),
        (EngineOptions("cpu", threads=3), 2),  # the thread that calls is the third
        (EngineOptions("cpu", threads=1, instances=4), 0),
        (EngineOptions("cpu", threads=3, instances=2), 4),
    ],
)
def test_a_session_has_the_threads_that_its_runs_need(save_model: SaveModel, options: EngineOptions, own: int) -> None:
    path = product(save_model)
    before = threads_now()
    session = Session(path, options)
    assert threads_now() - before == own, session.device


def test_idle_threads_spin_only_where_they_are_to(save_model: SaveModel) -> None:
    path, feeds = product(save_model), {"x": np.ones((64, 256), np.float32)}

    def cpu_seconds(options: EngineOptions) -> float:
        session = Session(path, options)
        session.run(feeds)
        began = time.process_time()
        for _ in range(10):
            session.run(feeds)
            time.sleep(0.01)
        return time.process_time() - began

    busy = cpu_seconds(EngineOptions("cpu", threads=4, spinning=True))
    assert cpu_seconds(EngineOptions("cpu", threads=4, spinning=False)) < busy / 2
    assert cpu_seconds(EngineOptions("cpu", threads=2, instances=3)) < busy / 2


def test_one_session_answers_several_threads_at_once(save_model: SaveModel) -> None:
    path = product(save_model, rows="n")
    session = Session(path, EngineOptions("cpu", threads=1, instances=4))
    bare = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [np.random.default_rng(i).normal(size=(i % 7 + 1, 256)).astype(np.float32) for i in range(80)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda x: session.run({"x": x})["y"], inputs))
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, bare.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4)


def test_a_model_in_half_precision(save_model: SaveModel) -> None:
    path = product(save_model, TensorProto.FLOAT16)
    session = Session(path, EngineOptions("cpu"))
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == [np.float16, np.float16]
    x = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float16)
    y = session.run({"x": x})["y"]
    (expected,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, expected, rtol=2e-2, atol=0.1)


def test_an_engine_cache_that_cannot_be_written(classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(DeviceError, match=r"TensorRT's engines cannot be kept in .*file") as caught:
            Session(classifier, EngineOptions("tensorrt", engine_cache=folder))
        assert "engine_cache" in str(caught.value.help)


@pytest.mark.parametrize(("count", "found"), [(0, "no GPU"), (1, "one, number 0"), (2, "2, numbered from 0")])
def test_a_gpu_that_is_not_there(classifier: Path, count: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL_PROVIDERS)
    monkeypatch.setattr("runtime.providers._loader_error", lambda provider: None)
    monkeypatch.setattr("runtime.providers._gpu_count", lambda: count)
    with pytest.raises(DeviceError, match=f"no GPU with the number 2; the driver finds {found}"):
        Session(classifier, EngineOptions("cuda", device_id=2))


def test_a_cuda_graph_needs_fixed_shapes(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = onnxruntime.InferenceSession(classifier, providers=["CPUExecutionProvider"])
    monkeypatch.setattr("runtime.engine.load", lambda path, options, cancellation: Engine(bare, "cuda", "as asked"))
    with pytest.raises(DeviceError, match=r"fixed shapes, and 'image' of .* is float32 \[batch, 1, 4, 4\]"):
        Session(classifier, EngineOptions("cuda", cuda_graph=True))


def test_a_model_that_no_cuda_graph_can_be_made_of(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = onnxruntime.InferenceSession

    def only_on_the_cpu(path: Path, options: Any, providers: list[tuple[str, Any]], **more: Any) -> Any:
        if len(providers) > 1:
            raise RuntimeError("This session cannot use the graph capture feature as requested: it has control flow")
        return bare(path, options, providers=providers, **more)

    monkeypatch.setattr("runtime.engine.check_works", lambda device, options: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", only_on_the_cpu)
    with pytest.raises(DeviceError, match=r"model\.onnx cannot be run as a CUDA graph: .* control flow") as caught:
        Session(classifier, EngineOptions("cuda", cuda_graph=True))
    assert caught.value.help == "leave cuda_graph out"


def test_tensorrt_is_asked_in_words_that_it_takes(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime reads TensorRT's switches as `True` and `False` alone, and fails on any other word, as on `1`."""
    asked: dict[str, dict[str, str]] = {}
    bare = onnxruntime.InferenceSession

    def noted(path: Path, options: Any, providers: list[tuple[str, Any]], **more: Any) -> Any:
        asked.update(providers)
        return bare(path, options, providers=["CPUExecutionProvider"], **more)

    monkeypatch.setattr("runtime.engine.check_works", lambda device, options: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    with pytest.raises(DeviceError, match="fell back to the CPU"):
        Session(classifier, EngineOptions("tensorrt", fp16=True, cuda_graph=True, engine_cache=tmp_path, device_id=1))
    switches = ("trt_fp16_enable", "trt_cuda_graph_enable", "trt_engine_cache_enable", "trt_timing_cache_enable")
    folders = {f"trt_{kind}_cache_path": str(tmp_path) for kind in ("engine", "timing")}
    assert asked["TensorrtExecutionProvider"] == {"device_id": "1", **dict.fromkeys(switches, "True"), **folders}
    assert asked["CUDAExecutionProvider"] == {"device_id": "1"}


def test_standard_output_is_there_when_several_models_were_loaded_at_once(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, came = threading.Barrier(2), iter(range(2))

    def preload() -> None:
        late = next(came)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        time.sleep(0.1 * late)  # who came first goes first

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL_PROVIDERS)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    before = sys.stdout
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: Session(classifier), range(2)))
    assert sys.stdout is before


@pytest.mark.parametrize(
    "said",
    [
        "Available memory of 1048576 is smaller than requested bytes of 8388608",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h ; expr=cublasCreate(&handle);",
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "TensorRT EP execution context enqueue failed.",
    ],
)
def test_a_device_that_fails_is_no_fault_of_the_input(said: str) -> None:
    assert isinstance(run_error(RuntimeError(said)), RunError)
    assert isinstance(run_error(RuntimeError("Got invalid dimensions for CUDA")), InputError)


def test_bound_tensors_give_what_a_plain_run_gives(adder: Path) -> None:
    bare = onnxruntime.InferenceSession(adder, providers=["CPUExecutionProvider"])
    bound = BoundRun(bare)
    for rows in (1, 5):
        a, b = np.random.default_rng(rows).normal(size=(2, rows, 2)).astype(np.float32)
        feeds = {"a": a, "b": np.asfortranarray(b)}
        for names in (["sum"], ["double", "sum"]):
            for found, expected in zip(bound(names, feeds), bare.run(names, feeds), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_buffers_that_stay_give_what_a_plain_run_gives(save_model: SaveModel) -> None:
    class Watched(onnxruntime.InferenceSession):
        threads: ClassVar[set[int]] = set()

        def run_with_iobinding(self, *arguments: Any) -> None:
            self.threads.add(threading.get_ident())
            super().run_with_iobinding(*arguments)

    path = product(save_model)
    session = Session(path, EngineOptions("cpu", threads=1))
    bare = Watched(path, providers=["CPUExecutionProvider"])
    fixed = FixedBuffers(bare, session.inputs, session.outputs, "cpu", 0)
    inputs = [np.random.default_rng(i).normal(size=(64, 256)).astype(np.float32) for i in range(12)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda x: fixed(["y"], {"x": x})[0], inputs))
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, session.run({"x": x})["y"], rtol=1e-4, atol=1e-4)
    assert len(bare.threads) == 1  # ONNX Runtime records a CUDA graph for each thread that runs
