"""``netspec deploy triton``: the repository means to Triton what the model means, and a real Triton serves it."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from click.testing import CliRunner
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from runtime.cli.deploy import command
from runtime.engine_options import EngineOptions
from runtime.protocol.model_config import read_config
from runtime.serving.options import ModelOptions
from runtime.serving.repository import Repository
from runtime.serving.sources import Folder
from runtime.session import Session
from tests.runtime.engines import engines, free_ports

SaveModel = Callable[..., Path]


def deploy(folder: Path, *arguments: str | Path) -> None:
    done = CliRunner().invoke(command, ["triton", *map(str, arguments), "-o", str(folder)])
    assert done.exit_code == 0, done.output


def config_of(folder: Path) -> Any:
    """A model's configuration, read by the client's own definition of it."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_the_configuration_is_the_models(classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    options = ("--max-batch", "16", "--max-delay", "0.002", "--instances", "2", "--threads", "3", "--device", "cuda")
    deploy(folder, classifier, "--name", "digits", *options)
    config = config_of(folder / "digits")
    assert (config.name, config.backend, config.platform) == ("digits", "onnxruntime", "onnxruntime_onnx")
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("image", model_config_pb2.TYPE_FP32, [1, 4, 4])
    ]
    assert [(one.name, list(one.dims), one.label_filename) for one in config.output] == [("fc", [3], "labels.txt")]
    assert (folder / "digits" / "labels.txt").read_text() == "zero\none\ntwo\n"
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, model_config_pb2.ModelInstanceGroup.KIND_GPU)
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert [(one.batch_size, list(one.inputs["image"].dims)) for one in config.model_warmup] == [
        (1, [1, 4, 4]),
        (16, [1, 4, 4]),
    ]
    assert (folder / "digits" / "1" / "model.onnx").read_bytes() == classifier.read_bytes()


def test_a_model_of_a_fixed_batch_is_not_batched(save_classifier: SaveModel, tmp_path: Path) -> None:
    deploy(tmp_path / "repository", save_classifier(2))
    config = config_of(tmp_path / "repository" / "model")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(one.dims) for one in (*config.input, *config.output)] == [[2, 1, 4, 4], [2, 3]]


def test_our_own_server_reads_the_repository(classifier: Path, save_classifier: SaveModel, tmp_path: Path) -> None:
    fixed = save_classifier(2, name="fixed.onnx")
    deploy(tmp_path / "repository", classifier, fixed, "--max-batch", "4")

    async def start() -> dict[str, int]:
        repository = Repository(Folder(tmp_path / "repository", ModelOptions(), read_config), lambda *_: ModelOptions())
        assert await repository.start() == []
        found = {model.name: model.max_batch for model in repository.models()}
        await repository.close()
        return found

    assert asyncio.run(start()) == {"model": 4, "fixed": 0}


def vector(save_model: SaveModel) -> Path:
    """A model whose tensors have no dimension but the batch: x [n] → y [n]."""
    signature = [("n",)]
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    x, y = (((name, TensorProto.FLOAT, shape)) for name, shape in zip("xy", signature * 2, strict=True))
    return save_model(nodes, [x], [y], name="vector.onnx")


@pytest.fixture
def triton(tmp_path: Path) -> Iterator[Callable[[Path], tuple[str, str]]]:
    """Starts the tritonserver that comes with nvidia-pytriton; returns where it takes HTTP and gRPC.

    It has the Python backend alone. In the place of the missing backend `onnxruntime` stands the file that `--backend
    python` writes, so that configurations are served as they were written.
    """
    python = os.environ.get("PYTRITON_PYTHON")
    if not python:
        pytest.skip("needs PYTRITON_PYTHON, a Python with nvidia-pytriton and onnxruntime")
    probe = "import sys, sysconfig as s; print(s.get_path('purelib'), s.get_config_var('LIBDIR'), sys.version_info[1])"
    site, libraries, minor = subprocess.check_output([python, "-c", probe], text=True).split()
    home = tmp_path / "triton"
    shutil.copytree(Path(site) / "pytriton" / "tritonserver" / "backends", home)
    stub = (
        Path(site) / "pytriton" / "tritonserver" / "python_backend_stubs" / f"3.{minor}" / "triton_python_backend_stub"
    )
    shutil.copy(stub, home / "python")
    own = {
        "LD_LIBRARY_PATH": f"{libraries}:{site}/nvidia_pytriton.libs",
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
        "PYTHONPATH": site,
    }

    def start(repository: Path) -> tuple[str, str]:
        (home / "onnxruntime").mkdir()
        deploy(tmp_path / "stand-in", next(repository.glob("*/1/model.onnx")), "--backend", "python", "--name", "any")
        shutil.copy(tmp_path / "stand-in" / "any" / "1" / "model.py", home / "onnxruntime")
        http, grpc = free_ports(2)
        options = {
            "--model-repository": repository,
            "--backend-directory": home,
            "--http-port": http,
            "--grpc-port": grpc,
            "--allow-metrics": "false",
            "--exit-timeout-secs": 5,
        }
        call = [f"{site}/pytriton/tritonserver/bin/tritonserver", *(f"{key}={value}" for key, value in options.items())]
        call.append("--disable-auto-complete-config")
        run(call, own, lambda: triton_http.InferenceServerClient(f"127.0.0.1:{http}").is_server_ready())
        return f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"

    with engines(tmp_path / "log") as run:
        yield start


def asked(library: Any, asking: Any, model: str, feeds: dict[str, np.ndarray]) -> Any:
    """What a Triton answers."""
    types = {"float32": "FP32", "int64": "INT64", "object": "BYTES", "float16": "FP16"}
    tensors = []
    for name, array in feeds.items():
        tensors.append(library.InferInput(name, array.shape, types[str(array.dtype)]))
        tensors[-1].set_data_from_numpy(array)
    return asking.infer(model, tensors)


def check_answer(answer: Any, path: Path, feeds: dict[str, np.ndarray]) -> None:
    """Holds an answer against ONNX Runtime's own. Beside a batch alone Triton has a dim of 1."""
    session = Session(path, EngineOptions("cpu"))
    shaped = {spec.name: feeds[spec.name].ravel() for spec in session.inputs if len(spec.shape) == 1}
    for name, wanted in session.run(feeds | shaped).items():
        given = answer.as_numpy(name)
        if wanted.dtype.hasobject:
            given = np.array([element.decode() for element in given.ravel()], object)
        np.testing.assert_array_equal(given.reshape(wanted.shape), wanted, err_msg=path.stem)


def check_that_batch_mates_are_not_hurt(address: str, path: Path, text: np.ndarray) -> None:
    """A request that can't be read, and one that comes with it."""
    asking = triton_http.InferenceServerClient(address, concurrency=2)
    noise = np.array([[b"\xff", b""]], object)
    tensors = [triton_http.InferInput("x", x.shape, "BYTES").set_data_from_numpy(x) for x in (noise, text)]
    bad, good = [asking.async_infer("texts", [tensor]) for tensor in tensors]
    with pytest.raises(InferenceServerException, match="not UTF-8"):
        bad.get_result()
    check_answer(good.get_result(), path, {"x": text})


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_a_real_triton_gives_equal_answers(
    backend: str,
    triton: Callable[[Path], tuple[str, str]],
    classifier: Path,
    save_classifier: SaveModel,
    save_echo: SaveModel,
    save_model: SaveModel,
    adder: Path,
    picker: Path,
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(0)
    image, pairs = (draw.normal(size=shape).astype(np.float32) for shape in ((3, 1, 4, 4), (2, 2)))
    text = np.array([["a", "é"], ["", "日本"]], object)
    cases: dict[Path, dict[str, np.ndarray]] = {
        classifier: {"image": image},
        save_classifier(3, name="fixed.onnx"): {"image": image},
        adder: {"a": pairs, "b": pairs[::-1].copy()},
        save_echo(TensorProto.STRING): {"x": text},
        save_echo(TensorProto.FLOAT16): {"x": pairs.astype(np.float16)},
        picker: {"index": np.array([[2], [0]])},
        vector(save_model): {"x": np.array([[1.0], [2.0]], np.float32)},
    }
    deploy(tmp_path / "repository", *cases, "--backend", backend)
    texts = save_echo(TensorProto.STRING)
    deploy(tmp_path / "repository", texts, "--name", "texts", "--max-delay", "0.3", "--backend", backend)
    http, grpc = triton(tmp_path / "repository")
    for library, address in ((triton_http, http), (triton_grpc, grpc)):
        asking = library.InferenceServerClient(address)
        for path, feeds in cases.items():
            check_answer(asked(library, asking, path.stem, feeds), path, feeds)
        with pytest.raises(InferenceServerException, match="idx=7 must be within"):
            asked(library, asking, "picker", {"index": np.array([[7]])})
    check_that_batch_mates_are_not_hurt(http, texts, text)
    tensor = triton_http.InferInput("image", image.shape, "FP32").set_data_from_numpy(image)
    asking = triton_http.InferenceServerClient(http)
    wanted = [triton_http.InferRequestedOutput("fc", class_count=1)]
    best = asking.infer("model", [tensor], outputs=wanted).as_numpy("fc")
    scores = Session(classifier, EngineOptions("cpu")).run({"image": image})["fc"]
    assert [row[0].decode().split(":")[2] for row in best] == [("zero", "one", "two")[k] for k in scores.argmax(1)]
