"""Sessions: devices chosen openly, signatures, runs, and every way in which a model or its input is wrong."""

import ctypes.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime.engine_options import Device, EngineOptions
from runtime.errors import DeviceError, InputError, ModelError
from runtime.session import Session
from tests.runtime.conftest import SaveModel, classifier_weights


def test_runs_and_names_its_outputs(classifier: Path) -> None:
    session = Session(classifier, EngineOptions("cpu", threads=1))
    image = np.random.default_rng(1).normal(size=(5, 1, 4, 4)).astype(np.float32)
    weight, bias = classifier_weights()
    outputs = session.run({"image": image})
    assert list(outputs) == ["fc"]
    np.testing.assert_allclose(outputs["fc"], image.reshape(5, 16) @ weight + bias, rtol=1e-4, atol=1e-5)


def test_signature(classifier: Path) -> None:
    session = Session(classifier, EngineOptions("cpu"))
    (image,) = session.inputs
    assert (image.name, image.dtype, image.shape) == ("image", np.float32, ("batch", 1, 4, 4))
    assert [(spec.name, spec.shape) for spec in session.outputs] == [("fc", ("batch", 3))]
    assert (session.device, session.device_reason) == ("cpu", "as asked")


def test_an_input_of_unsaid_rank_takes_any_shape(save_echo: SaveModel) -> None:
    session = Session(save_echo(shape=None), EngineOptions("cpu"))
    for shape in ((), (3,), (2, 3)):
        assert session.run({"x": np.ones(shape, np.float32)})["y"].shape == shape


def test_only_the_outputs_asked_for(adder: Path) -> None:
    session = Session(adder, EngineOptions("cpu"))
    ones = np.ones((1, 2), np.float32)
    assert list(session.run({"a": ones, "b": ones}, ["double"])) == ["double"]
    with pytest.raises(InputError, match="no output 'triple'; it has 'sum', 'double'"):
        session.run({"a": ones, "b": ones}, ["triple"])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'image' is missing; the model expects float32 [batch, 1, 4, 4]"),
        ({"img": np.zeros((1, 1, 4, 4), np.float32)}, "no input 'img'; it has 'image'"),
        (
            {"image": np.zeros((1, 1, 4, 4), np.float32), "more": np.zeros(1)},
            "no input 'more'; it has 'image'",
        ),
        (
            {"image": np.zeros((1, 1, 4, 5), np.float32)},
            "input 'image': the model expects float32 [batch, 1, 4, 4], given float32 [1, 1, 4, 5]",
        ),
        (
            {"image": np.zeros((1, 4, 4), np.float32)},
            "input 'image': the model expects float32 [batch, 1, 4, 4], given float32 [1, 4, 4]",
        ),
        (
            {"image": np.zeros((1, 1, 4, 4))},
            "input 'image': the model expects float32 [batch, 1, 4, 4], given float64 [1, 1, 4, 4]",
        ),
    ],
)
def test_wrong_feeds_are_told_exactly(classifier: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Session(classifier, EngineOptions("cpu")).run(feeds)
    assert message in caught.value.message


def test_values_that_the_model_cannot_compute_on(picker: Path) -> None:
    with pytest.raises(InputError, match=r"cannot compute on this input: .*7") as caught:
        Session(picker, EngineOptions("cpu")).run({"index": np.array([7])})
    assert "[ONNXRuntimeError]" not in caught.value.message
    assert "\n" not in caught.value.message


def test_an_input_that_asks_for_more_memory_than_there_is(save_model: SaveModel) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], ["y"])]
    path = save_model(nodes, [("sizes", TensorProto.INT64, ["rank"])], [("y", TensorProto.FLOAT, None)])
    with pytest.raises(InputError, match="the model would need 8,192 GiB for this input"):
        Session(path, EngineOptions("cpu")).run({"sizes": np.array([2**40, 2])})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model at .*nothing\.onnx"):
        Session(tmp_path / "nothing.onnx")


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(ModelError, match=r"'a\\x00b' is no path of a file"):
        Session("a\0b")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory"):
        Session(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match=r"empty.onnx is empty"):
        Session(tmp_path / "empty.onnx")


@pytest.mark.parametrize("content", [b"\x00" * 100, b"not a model", b"\x89PNG\r\n\x1a\n" * 50, b"\x08"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"noise\.onnx"):
        Session(path)


def test_a_model_cut_short(classifier: Path) -> None:
    content = classifier.read_bytes()
    for size in range(1, len(content), 37):
        classifier.write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"model\.onnx") as caught:
            Session(classifier)
        assert "\n" not in caught.value.message


def test_too_new_an_opset(save_classifier: SaveModel) -> None:
    with pytest.raises(ModelError, match=r"has opset 99, too new for ONNX Runtime") as caught:
        Session(save_classifier(opset=99))
    assert "older opset" in str(caught.value.help)


def test_too_new_an_ir_version(save_classifier: SaveModel) -> None:
    with pytest.raises(ModelError, match=r"has IR version 99, too new for ONNX Runtime"):
        Session(save_classifier(ir=99))


def test_missing_external_data(classifier: Path) -> None:
    model = onnx.load(classifier)
    onnx.save(model, classifier, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert Session(classifier, EngineOptions("cpu")).outputs[0].name == "fc"
    (classifier.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights of .* are missing: there is no .*weights\.bin"):
        Session(classifier)


def test_an_unknown_operator(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"])]
    path = save_model(nodes, [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.FLOAT, [1])])
    with pytest.raises(ModelError, match="Frobnicate"):
        Session(path)


def test_an_element_type_without_arrays(save_echo: SaveModel) -> None:
    with pytest.raises(ModelError, match=r"'x' is a tensor\(bfloat16\), which NumPy has no arrays for"):
        Session(save_echo(TensorProto.BFLOAT16), EngineOptions("cpu"))


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_does_not_work_says_why(
    classifier: Path, device: Device, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = "libcublasLt.so.13: cannot open shared object file"
    monkeypatch.setattr("runtime.providers._loader_error", lambda provider: missing)
    monkeypatch.setattr("runtime.engine.finds_nvidia", lambda: True)
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    with pytest.raises(DeviceError, match=f"does not work here: {missing}"):
        Session(classifier, EngineOptions(device))
    session = Session(classifier)
    assert session.device == "cpu"
    assert session.device_reason == f"auto: CUDA does not work here: {missing}"
    assert capfd.readouterr() == ("", "")


NVIDIA = bool(ctypes.util.find_library("cuda") or ctypes.util.find_library("nvcuda") or [*Path("/dev").glob("nvidia*")])


@pytest.mark.skipif(NVIDIA, reason="NVIDIA's driver or a GPU is here")
def test_a_machine_without_a_gpu_has_nothing_wrong(classifier: Path) -> None:
    assert Session(classifier).device_reason == "auto: there is no CUDA device"
    with pytest.raises(DeviceError, match=r"^CUDA does not work here: "):
        Session(classifier, EngineOptions("cuda"))


def test_a_build_without_cuda(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="is without CUDAExecutionProvider"):
        Session(classifier, EngineOptions("cuda"))
    assert Session(classifier).device == "cpu"


NOISE = """
import sys
from runtime.engine_options import EngineOptions
from runtime.errors import DeviceError
from runtime.session import Session
for device in ("cpu", "cuda", "tensorrt", "auto"):
    try:
        Session(sys.argv[1], EngineOptions(device))
    except DeviceError as error:
        assert error.message
"""


def test_no_device_makes_noise(classifier: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NOISE, classifier], capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.gpu("onnxruntime")
@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_cuda_runs_where_it_works(classifier: Path, device: Device) -> None:
    session = Session(classifier, EngineOptions(device))
    assert session.device == "cuda"
    image = np.random.default_rng(1).normal(size=(5, 1, 4, 4)).astype(np.float32)
    expected = Session(classifier, EngineOptions("cpu")).run({"image": image})["fc"]
    np.testing.assert_allclose(session.run({"image": image})["fc"], expected, rtol=1e-2, atol=1e-2)
