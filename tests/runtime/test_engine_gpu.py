"""What only a GPU can show: bound tensors, CUDA graphs, bounds of memory, TensorRT. Held against the CPU's answers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from runtime.engine import load
from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError, RunError
from runtime.session import Session
from tests.runtime.conftest import SaveModel
from tests.runtime.test_engine_options import product

pytestmark = pytest.mark.gpu("onnxruntime")


def check(path: Path, options: EngineOptions, rows: int = 64, dtype: type = np.float32) -> None:
    """The session's answers, asked by several threads, are the CPU's."""
    session, reference = Session(path, options), Session(path, EngineOptions("cpu"))
    assert session.device == options.device
    inputs = [np.random.default_rng(i).normal(size=(rows, 256)).astype(dtype) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda x: session.run({"x": x})["y"], inputs))
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, reference.run({"x": x})["y"], rtol=3e-2, atol=0.3)


def test_the_whole_model_is_the_gpus_as_it_was_asked(save_model: SaveModel) -> None:
    """By what ONNX Runtime itself says of the session."""
    options = EngineOptions("cuda", device_id=0, gpu_memory=2**30, cuda_graph=True)
    session = load(product(save_model), options).session
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {"CUDAExecutionProvider"}
    told = session.get_provider_options()["CUDAExecutionProvider"]
    assert (told["device_id"], told["gpu_mem_limit"], told["enable_cuda_graph"]) == ("0", str(2**30), "1")


def test_bound_tensors(save_model: SaveModel) -> None:
    check(product(save_model, rows="n"), EngineOptions("cuda", instances=4, device_id=0, gpu_memory=2**30), rows=7)


def test_half_precision(save_model: SaveModel) -> None:
    check(product(save_model, TensorProto.FLOAT16), EngineOptions("cuda"), dtype=np.float16)


def test_a_cuda_graph(save_model: SaveModel) -> None:
    check(product(save_model), EngineOptions("cuda", cuda_graph=True))


def test_a_cuda_graph_of_free_shapes(classifier: Path) -> None:
    with pytest.raises(DeviceError, match="needs fixed shapes"):
        Session(classifier, EngineOptions("cuda", cuda_graph=True))


def test_too_little_memory(save_model: SaveModel) -> None:
    session = Session(product(save_model, rows="n"), EngineOptions("cuda", gpu_memory=2**21))
    with pytest.raises(RunError):
        session.run({"x": np.ones((2**16, 256), np.float32)})


def test_tensorrt_keeps_its_engines(save_model: SaveModel, tmp_path: Path) -> None:
    path, options = product(save_model), EngineOptions("tensorrt", engine_cache=tmp_path / "cache", fp16=True)
    try:
        Session(path, options)
    except DeviceError as error:
        pytest.skip(f"needs TensorRT: {error.message}")
    check(path, options)
    assert list((tmp_path / "cache").glob("*.engine"))
    told = load(path, options).session.get_provider_options()["TensorrtExecutionProvider"]
    assert (told["trt_fp16_enable"], told["trt_engine_cache_enable"]) == ("1", "1")
    check(path, EngineOptions("tensorrt", cuda_graph=True))
