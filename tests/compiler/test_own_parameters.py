"""The tensor of a `parameter` is its container's own: its key is the layer's path, wherever it stands."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from test_source import assert_the_same
from torch.nn import functional

from compiler.export import export
from compiler.module import build
from netspec import Network
from netspec.loading import check_source
from netspec.source import Source

Run = Callable[..., subprocess.CompletedProcess[str]]

# L2 normalisation with a learned scale for each channel, as SSD has it: Liu et al. 2016, section 3.1.
SCALED = """netspec: 1
inputs: {image: {shape: [N, 3, H, W], sizes: {H: 8, W: 8}}}
net:
  backbone:
    net:
      features: [{conv: 4, kernel: 3, padding: 1}, relu]
      norm: {l2norm: 1}
      scale_weight: {parameter: [4], mean: 20, std: 0}
      scale: {reshape: [4, 1, 1]}
      scaled: {multiply: [norm, scale]}
  head: {conv: 2, kernel: 1}
"""

PLACES = """netspec: 1
inputs: {x: {shape: [N, T, 6], sizes: {T: 3}}}
blocks:
  shifted:
    args: {width: int, mean: 0.5}
    net:
      fc: {linear: width}
      bias: {parameter: [1, width], mean: mean}
      sum: {subtract: [fc, bias]}
net:
  type: {parameter: [1, 6], from: x}        # a name that a module has for something else
  first: {subtract: [x, type]}
  two: {repeat: 2, shifted: 6}
  other: {shifted: 4, mean: 2.0}
  inner:
    net:
      only: {net: [{parameter: [1, 4]}]}
      again: {share: two.0.bias, from: other}
  sum: {subtract: [other, inner.only]}
  moved: {multiply: [first, inner]}
  both: {concat: [sum, moved], axis: 2}
"""


def network_of(text: str) -> Network:
    checked = check_source(Source("spec.yaml", text))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def drawn_input(network: Network) -> torch.Tensor:
    (name,) = network.inputs
    return torch.randn(
        [size if isinstance(size, int) else 2 for size in network.concrete(network.layer(name)["output"].shape)]
    )


@pytest.mark.parametrize("text", [SCALED, PLACES], ids=["scaled", "places"])
def test_the_keys_are_those_of_the_module_in_its_order(text: str) -> None:
    network = network_of(text)
    module = build(network)
    keys = [key for key, _ in network.state_dict()]
    assert keys == list(module.state_dict())
    assert sorted(keys) == sorted(name for name, _ in module.named_parameters())
    assert network.parameters() == sum(parameter.numel() for parameter in module.parameters())


def test_the_key_is_the_path_and_stands_before_those_of_the_modules_beside_it() -> None:
    network = network_of(SCALED)
    assert [key for key, _ in network.state_dict()][:2] == ["backbone.scale_weight", "backbone.features.0.weight"]
    module = build(network)
    assert torch.equal(module.backbone.scale_weight, torch.full((4,), 20.0))
    assert [key for key, _ in network_of(PLACES).state_dict()][:2] == ["type", "two.0.bias"]


def test_a_learned_scale_for_each_channel_is_ssds() -> None:
    module = build(network_of(SCALED)).eval()
    module.load_state_dict({key: torch.rand_like(value) for key, value in module.state_dict().items()}, strict=True)
    x = torch.randn(2, 3, 8, 8)
    features = module.backbone.features(x)
    expected = module.head(functional.normalize(features) * module.backbone.scale_weight.view(1, -1, 1, 1))
    torch.testing.assert_close(module(x), expected)
    module(x).sum().backward()
    assert module.backbone.scale_weight.grad.abs().sum() > 0


@pytest.mark.parametrize("text", [SCALED, PLACES], ids=["scaled", "places"])
def test_a_state_dict_is_taken_however_it_is_given(text: str) -> None:
    network = network_of(text)
    state = {key: torch.randn(weight.shape) for key, weight in network.state_dict()}
    x = drawn_input(network)
    results = []
    for assign in (False, True):
        module = build(network).eval()
        module.load_state_dict(state, strict=True, assign=assign)
        results += [module(x), copy.deepcopy(module)(x), module.double()(x.double()).float()]
    results.append(build(network, weights=state).eval()(x))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])
    moved = copy.deepcopy(module)
    for parameter in moved.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(module(x.double()).float(), results[0])


@pytest.mark.parametrize("text", [SCALED, PLACES], ids=["scaled", "places"])
def test_written_source_has_it_as_a_parameter_of_its_class(text: str) -> None:
    source = assert_the_same(network_of(text), {"H": 8, "W": 8, "T": 3})
    if text is SCALED:
        assert "self.scale_weight = drawn_parameter((4,), mean=20.0, std=0.0)" in source


@pytest.mark.parametrize("text", [SCALED, PLACES], ids=["scaled", "places"])
def test_the_exported_file_gives_the_same(text: str, tmp_path: Path) -> None:
    network = network_of(text)
    module = build(network).eval()
    export(network, module, tmp_path / "net.onnx")
    x = drawn_input(network)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {network.inputs[0]: x.numpy()})[0]
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-5)
    names = {tensor.name for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert {"backbone.scale_weight/tensor"} <= names or text is PLACES


def test_weights_are_given_by_the_path(tmp_path: Path, netspec: Run) -> None:
    (tmp_path / "net.yaml").write_text(SCALED)
    state = {key: torch.ones(weight.shape) for key, weight in network_of(SCALED).state_dict()}
    save_file(state, tmp_path / "w.safetensors")
    assert netspec("export", "net.yaml", "--weights", "w.safetensors", "--verify").returncode == 0
    save_file(
        {key.replace("scale_weight", "scale_weight.weight"): value for key, value in state.items()},
        tmp_path / "old.safetensors",
    )
    refused = netspec("export", "net.yaml", "--weights", "old.safetensors")
    assert refused.returncode == 1
    assert "backbone.scale_weight.weight" in refused.stderr
