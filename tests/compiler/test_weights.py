"""Weights as people have them: wrapped, misnamed, in memory, broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.module import build
from netspec import load
from netspec.cli.main import cli


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return build(load("lenet5"), seed=5).state_dict()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def loaded(path: Path) -> dict[str, Tensor]:
    return dict(load("lenet5").torch(weights=path).state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_checkpoint_of_data_parallel_is_taken(weights: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped = nn.DataParallel(build(load("lenet5"), seed=5)).state_dict()
    assert all(key.startswith("module.") for key in wrapped)
    torch.save(wrapped, tmp_path / "wrapped.pth")
    assert same(loaded(tmp_path / "wrapped.pth"), weights)


def test_keys_of_which_some_are_wrapped_are_those_of_another_network(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    first, *_ = weights
    torch.save({f"module.{first}" if key == first else key: value for key, value in weights.items()}, tmp_path / "a.pt")
    with pytest.raises(CompilerError, match=rf"not in the spec \(1\):\n +module\.{first}"):
        loaded(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a"])
def test_a_file_is_what_it_holds_not_what_it_is_called(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / name
    torch.save(weights, path)
    assert same(loaded(path), weights)
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert same(loaded(path), weights)
    save_file(weights, path)
    assert same(loaded(path), weights)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "is not a safetensors file, or is damaged"),
        ("a.safetensors", b"\x40" + bytes(7) + b"{", "is not a safetensors file, or is damaged"),
        ("a.safetensors", b"PK\x03\x04", "can't be read as a PyTorch checkpoint"),
        ("a.pth", b"\x08" + bytes(7) + b"{notjson", "is not a safetensors file, or is damaged"),
        ("a.pth", b"noise", "or is no PyTorch checkpoint"),
    ],
)
def test_damaged_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CompilerError) as caught:
        loaded(tmp_path / name)
    assert message in str(caught.value)


def test_a_folder_says_which_files_are_in_it(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    given = run("export", "lenet5", "-o", tmp_path / "m.onnx", "--weights", tmp_path)
    assert given.exit_code == 1
    assert f"`{tmp_path}` is a folder, not a weights file" in given.stderr
    assert "name a file of weights" in given.stderr
    save_file(weights, tmp_path / "best.safetensors")
    given = run("export", "lenet5", "-o", tmp_path / "m.onnx", "--weights", tmp_path)
    assert f"name the file in it: {tmp_path / 'best.safetensors'}" in given.stderr


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_named(number: float, weights: dict[str, Tensor], tmp_path: Path) -> None:
    broken = {key: tensor.clone() for key, tensor in weights.items()}
    key = next(key for key in broken if key.endswith("weight"))
    broken[key].view(-1)[:3] = number
    save_file(broken, tmp_path / "broken.safetensors")
    output = tmp_path / "m.onnx"
    given = run("export", "lenet5", "-o", output, "--weights", tmp_path / "broken.safetensors", "--verify")
    assert given.exit_code == 1
    assert f"the weights hold NaN or infinity ({key}: 3 of {broken[key].numel()})" in given.stderr
    assert not output.exists()


class Foreign(nn.Module):
    """LeNet-5's layers by the same names, in a module of no spec's."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for key, tensor in tensors.items():
            owner, _, name = key.rpartition(".")
            if not hasattr(self, owner):
                self.add_module(owner, nn.Module())
            getattr(self, owner).register_parameter(name, nn.Parameter(tensor.clone()))


def answer(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    image = np.random.default_rng(0).normal(size=[2, *spec.shape[1:]]).astype(np.float32)
    return np.asarray(session.run(None, {spec.name: image})[0])


def test_modules_and_state_dicts_are_exported(weights: dict[str, Tensor], tmp_path: Path) -> None:
    net = load("lenet5")
    module = build(net, seed=5)
    foreign = Foreign(weights)
    assert foreign.training
    results = [answer(net.onnx(tmp_path / "m.onnx", weights=given)) for given in (module, foreign, weights)]
    assert all((result == results[0]).all() for result in results)
    assert not np.array_equal(results[0], answer(net.onnx(tmp_path / "m.onnx")))
    assert foreign.training
    assert module.training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (nn.Linear(3, 3), "the given Linear holds the weights of another network"),
        ({"fc.weight": torch.zeros(3)}, "the given dict holds the weights of another network"),
        ({"state_dict": {}}, "the weights are no state-dict"),
        ({1: torch.zeros(3)}, "the weights are no state-dict"),
    ],
)
def test_what_does_not_fit_is_told(given: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(CompilerError) as caught:
        load("lenet5").onnx(tmp_path / "m.onnx", weights=given)
    assert message in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda tensor: tensor.to_sparse(), "sparse"),
        (lambda tensor: tensor.to("meta"), "a shape without numbers, on the device `meta`"),
        (lambda tensor: tensor.to(torch.complex64), "complex64"),
        (lambda tensor: (100 * tensor).to(torch.int8), "int8"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_told(
    change: Callable[[Tensor], Tensor], what: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(weights | {"fc1.weight": change(weights["fc1.weight"])}, tmp_path / "odd.pth")
    done = run("export", "lenet5", "--weights", tmp_path / "odd.pth", "-o", tmp_path / "m.onnx")
    assert done.exit_code == 1
    assert f"odd.pth` holds weights that can't be computed with\n  fc1.weight: {what}\n" in done.output


def test_layers_whose_weights_are_one_tensor_in_a_checkpoint_train_each_its_own(tmp_path: Path) -> None:
    spec = tmp_path / "tied.yaml"
    layers = "{flatten: flatten, a: {linear: 64}, relu: relu, b: {linear: 64}, c: {linear: 10}}"
    train = "{data: digits, epochs: 1}"
    spec.write_text(f"netspec: 1\ninputs: {{image: {{shape: [N, 1, 8, 8]}}}}\nnet: {layers}\ntrain: {train}\n")
    state = build(load(spec)).state_dict()
    flat = state["a.weight"].flatten()
    state |= {"b.weight": state["a.weight"], "b.bias": flat[:64], "c.bias": flat[60:70]}
    torch.save(state, tmp_path / "tied.pth")
    module = load(spec).torch(weights=tmp_path / "tied.pth")
    assert same(dict(module.state_dict()), state)
    with torch.no_grad():
        module.get_parameter("a.weight").zero_()
    state["a.weight"] = torch.zeros(64, 64)
    assert same(dict(module.state_dict()), state)
    done = run("train", spec, "--weights", tmp_path / "tied.pth", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
