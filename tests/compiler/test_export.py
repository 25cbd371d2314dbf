"""Export: what the ONNX file holds, that it is written whole, and that weights are checked."""

from __future__ import annotations

import json
import pickle
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

import compiler.verify
from compiler.errors import CompilerError
from compiler.export import export
from compiler.lowering.activation import PlainLowering
from compiler.module import build
from compiler.onnx_file import PIECE
from compiler.onnx_graph import IR_VERSION, OPSET
from compiler.weights import fitting_weights, save_weights
from netspec import Network, load
from netspec.loading import check_source
from netspec.source import Source

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Network, torch.nn.Module, Path]:
    network = load("resnet")
    module = build(network, 5).eval()
    export(network, module, tmp_path / "resnet.onnx", labels=[str(digit) for digit in range(10)])
    return network, module, tmp_path / "resnet.onnx"


def test_the_file_has_the_names_of_the_spec(exported: tuple[Network, torch.nn.Module, Path]) -> None:
    network, module, path = exported
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
    assert [node.name for node in model.graph.node] == [layer for layer, _ in network.layers()]
    assert [node.output[0] for node in model.graph.node] == [layer for layer, _ in network.layers()]
    trained = {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}
    assert {tensor.name for tensor in model.graph.initializer} == trained
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["N", 1, "H", "W"]


def test_free_dimensions_are_dynamic(exported: tuple[Network, torch.nn.Module, Path]) -> None:
    _, module, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((1, 1, 8, 8), (5, 1, 32, 20), (2, 1, 9, 31)):
        x = torch.randn(shape)
        with torch.inference_mode():
            expected = module(x).numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, rtol=1e-4, atol=1e-5)


def test_spec_labels_and_preprocessing_travel_in_the_metadata(
    exported: tuple[Network, torch.nn.Module, Path],
) -> None:
    network, _, path = exported
    found = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert found["netspec.spec"] == network.text
    assert json.loads(found["netspec.args"]) == {"classes": 10, "width": 16}
    assert json.loads(found["netspec.labels"]) == list("0123456789")
    assert json.loads(found["netspec.postprocess"]) == {"fc": "softmax"}
    steps = json.loads(found["netspec.preprocess"])["image"]
    assert steps == {
        "channels": 1, "size": [8, 8], "resize": "bilinear", "scale": 1 / 255, "mean": [0.3], "std": [0.38],
    }  # fmt: skip


WIDE = "netspec: 1\ninputs: {x: {shape: [N, 1024]}}\nnet:\n  a: {linear: 2100}\n  b: relu\n  c: {linear: 3}\n"


def test_large_weights_go_to_a_side_file(tmp_path: Path) -> None:
    network = check_source(Source("wide.yaml", WIDE)).network
    assert network is not None
    path = tmp_path / "wide.onnx"
    first = build(network, 1).eval()
    old = export(network, first, path)
    assert old is not None
    assert path.stat().st_size < 20_000 < 8_000_000 < old.stat().st_size
    module = build(network, 2).eval()
    side = export(network, module, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, side.name])
    x = torch.randn(2, 1024)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], module(x).numpy(), rtol=1e-4, atol=1e-5)


def test_the_side_file_is_called_by_its_content(tmp_path: Path) -> None:
    """Of a tensor that is written in several pieces; wherever a number changes, the name does."""
    text = "netspec: 1\ninputs: {x: {shape: [N, 2100]}}\nnet: [{linear: 2100, bias: false}]\n"
    network = check_source(Source("wide.yaml", text)).network
    assert network is not None
    module = build(network).eval()
    (weight,) = module.parameters()
    assert weight.numel() * 4 > PIECE
    names = set()
    for place in (None, (0, 0), (1050, 7), (2099, 2099)):
        if place is not None:
            with torch.no_grad():
                weight[place] += 1e-3
        side = export(network, module, tmp_path / "wide.onnx")
        assert side == export(network, module, tmp_path / "wide.onnx")
        assert np.array_equal(np.fromfile(side, np.float32)[: weight.numel()], weight.detach().numpy().ravel())
        names.add(side.name)
    assert len(names) == 4


def test_outputs_are_called_as_the_spec_calls_them(tmp_path: Path) -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 4]}}\nnet: {a: {linear: 3}, b: relu}\n"
    text += "outputs: {raw: a, cooked: b, same: x}\n"
    network = check_source(Source("named.yaml", text)).network
    assert network is not None
    module = build(network).eval()
    export(network, module, tmp_path / "named.onnx")
    assert compiler.verify.agrees(compiler.verify.compare(network, module, tmp_path / "named.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "named.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["raw", "cooked", "same"]


def test_verify_prints_the_difference_and_passes(netspec: Run, tmp_path: Path) -> None:
    done = netspec("export", "lenet5", "-o", "net.onnx", "--verify")
    assert done.returncode == 0, done.stderr
    assert "image 1 × 1 × 28 × 28: greatest difference" in done.stdout
    assert "image 3 × 1 × 28 × 28: greatest difference" in done.stdout
    assert (tmp_path / "net.onnx").is_file()


def test_programs_read_the_export_as_json(netspec: Run, tmp_path: Path) -> None:
    done = netspec("export", "resnet", "--verify", "--format", "json")
    facts = json.loads(done.stdout)
    assert (facts["file"], facts["side_file"], facts["weights"]) == ("resnet.onnx", None, None)
    assert facts["bytes"] == (tmp_path / "resnet.onnx").stat().st_size
    assert [result["shapes"]["image"] for result in facts["verified"]] == [[1, 1, 8, 8], [3, 1, 16, 16]]
    assert all(0 < result["difference"] < 1e-4 for result in facts["verified"])


def test_verify_fails_where_the_lowerings_differ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = load("lenet5")
    module = build(network).eval()
    monkeypatch.setattr(PlainLowering, "onnx", staticmethod(lambda op, node: node.emit("Sigmoid", [node.inputs[0]])))
    export(network, module, tmp_path / "wrong.onnx")
    results = compiler.verify.compare(network, module, tmp_path / "wrong.onnx")
    assert not compiler.verify.agrees(results)


def test_a_tolerance_that_is_not_met_ends_with_1(netspec: Run) -> None:
    done = netspec("export", "resnet", "--verify", "--tolerance", "1e-12")
    assert done.returncode == 1
    assert "differ by more than 1e-12" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--verify", "--tolerance", "nan"], "nan is no number"),
        (["--verify", "--tolerance", "inf"], "inf is no number"),
        (["--verify", "--tolerance", "-1"], "not in the range"),
        (["--tolerance", "1e-3"], "--tolerance is for --verify"),
    ],
)
def test_a_tolerance_without_use_is_wrong_usage(options: list[str], words: str, netspec: Run, tmp_path: Path) -> None:
    done = netspec("export", "lenet5", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_ending_that_says_another_format_is_wrong_usage(netspec: Run, tmp_path: Path) -> None:
    done = netspec("export", "lenet5", "-o", "lenet5.pt")
    assert done.returncode == 2
    assert ".pt says another format; name it lenet5.onnx" in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_link_stays_one_and_the_side_file_lies_beside_the_model(tmp_path: Path) -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 2100]}}\nnet: [{linear: 2100, bias: false}]\n"
    network = check_source(Source("wide.yaml", text)).network
    assert network is not None
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to(Path("models") / "wide.onnx")
    side = export(network, build(network), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert side is not None and side.parent == (tmp_path / "models").resolve()
    assert onnxruntime.InferenceSession(str(tmp_path / "models" / "wide.onnx"), providers=["CPUExecutionProvider"])


# -- weights


def test_weights_of_a_run_and_of_a_checkpoint_are_taken(tmp_path: Path, netspec: Run) -> None:
    network = load("lenet5")
    module = build(network, 9).eval()
    save_weights(module.state_dict(), tmp_path / "w.safetensors")
    torch.save(module.state_dict(), tmp_path / "w.pth")
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "wrapped.pth")
    x = torch.randn(2, 1, 28, 28)
    with torch.inference_mode():
        expected = module(x).numpy()
    for name in ("w.safetensors", "w.pth", "wrapped.pth"):
        done = netspec("export", "lenet5", "--weights", name, "-o", f"{name}.onnx")
        assert done.returncode == 0, done.stderr
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path: Path, netspec: Run) -> None:
    weights = {"conv1.weight": torch.zeros(6, 1, 3, 3), "head.weight": torch.zeros(2)}
    save_file(weights, tmp_path / "other.safetensors")
    done = netspec("export", "lenet5", "--weights", "other.safetensors")
    assert done.returncode == 1
    assert "conv1.weight: 6 × 1 × 3 × 3 given, 6 × 1 × 5 × 5 in the spec" in done.stderr
    assert "head.weight" in done.stderr
    assert "missing (9)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.onnx"))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("garbage.safetensors", b"\x00\x01garbage" * 40),
        ("empty.safetensors", b""),
        ("cut.safetensors", None),
        ("garbage.pth", b"not a checkpoint"),
        ("empty.pth", b""),
        ("bomb.pth", pickle.dumps({"fc1.weight": Bomb()})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_weights_are_refused(name: str, content: bytes | None, tmp_path: Path, netspec: Run) -> None:
    if content is None:
        save_file({"conv1.weight": torch.zeros(6, 1, 5, 5)}, tmp_path / "whole.safetensors")
        content = (tmp_path / "whole.safetensors").read_bytes()[:-50]
    (tmp_path / name).write_bytes(content)
    done = netspec("export", "lenet5", "--weights", name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: `{name}`")
    assert len(done.stderr.splitlines()) <= 2, "our own sentence, not what a library says"
    assert not re.search(r"Traceback|header|zip|Reader|weights_only|Unsupported", done.stderr)
    assert not (tmp_path / "exploded").exists()


def test_a_torch_checkpoint_that_holds_code_does_not_run_it(tmp_path: Path) -> None:
    torch.save({"fc1.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CompilerError, match="more than tensors"):
        fitting_weights(load("lenet5"), tmp_path / "bomb.pth")
    assert not Path("exploded").exists()


# -- nothing is lost


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, netspec: Run) -> None:
    assert netspec("export", "lenet5", "-o", "net.onnx").returncode == 0
    before = (tmp_path / "net.onnx").read_bytes()
    limit = 100_000  # bytes a file may have: the operating system refuses to write on, as on a full disk
    done = netspec(
        "export", "lenet5", "-o", "net.onnx", "--seed", "1",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "`net.onnx` can't be written: File too large" in done.stderr
    assert "unchanged" in done.stderr
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_an_unwritable_place_is_told(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = netspec("export", "lenet5", "-o", "file/net.onnx")
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no spec of that name"),
        (["."], "holds no training run"),
        (["lenet5", "--weights", "missing.safetensors"], "there is no weights file"),
        (["lenet5", "--set", "clases=3"], "did you mean `classes`?"),
    ],
)
def test_wrong_input_ends_with_1_and_says_why(arguments: list[str], words: str, netspec: Run) -> None:
    done = netspec("export", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_onnx_runtime_can_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = load("lenet5")
    module = build(network).eval()
    wrong = staticmethod(lambda op, node: node.emit("LRN", [node.inputs[0]], size=3))  # refuses what is not 4-d
    monkeypatch.setattr(PlainLowering, "onnx", wrong)
    export(network, module, tmp_path / "wrong.onnx")
    with pytest.raises(CompilerError, match="can't run the model"):
        compiler.verify.compare(network, module, tmp_path / "wrong.onnx")
