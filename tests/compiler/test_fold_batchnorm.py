"""Batch norms folded into convolutions: the numbers by hand, which ones are, and in which files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compiler.export import export
from compiler.module import build
from compiler.passes.fold_batchnorm import fold_batch_norms
from netspec import Network
from netspec.deployed import deployed
from netspec.loading import check_source
from netspec.source import Source

INPUT = "netspec: 1\ninputs: {image: {shape: [N, 2, H, W], sizes: {H: 6, W: 5}}}\n"


def network_of(net: str, rest: str = "") -> Network:
    network = check_source(Source("net.yaml", f"{INPUT}net: {net}\n{rest}")).network
    assert network is not None
    return network


def lively(network: Network) -> torch.nn.Module:
    module = build(network, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else drawn)
    return module


def test_the_weights_by_hand() -> None:
    """W = 2, b = 1; γ = 3, β = 0.5, μ = 4, σ² + eps = 4: s = 3/√4 = 1.5, W·s = 3, (1 − 4)·1.5 + 0.5 = −4."""
    network = network_of("{conv: {conv: 1, kernel: 1}, bn: {batchnorm: 0.25}}")
    values = {
        "conv.weight": [[[[2.0]], [[-2.0]]]], "conv.bias": [1.0],
        "bn.weight": [3.0], "bn.bias": [0.5], "bn.running_mean": [4.0], "bn.running_var": [3.75],
    }  # fmt: skip
    weights = {key: np.array(value, np.float32) for key, value in values.items()}
    folded, found = fold_batch_norms(network, weights)
    assert [path for path, _ in folded.layers()] == ["bn"]
    assert found["conv.folded.weight"].ravel().tolist() == [3, -3]
    assert found["conv.folded.bias"].tolist() == [-4]


@pytest.mark.parametrize(
    ("net", "left"),
    [
        ("{conv: {conv: 4, kernel: 3, bias: false}, bn: batchnorm, relu: relu}", 0),
        ("{conv: {conv: 4, kernel: [3, 1], stride: 2, groups: 2}, bn: {batchnorm: , affine: false}}", 0),
        ("{conv: {conv: 4, kernel: 1}, bn: batchnorm, sum: {add: [bn, conv]}}", 1),  # the map itself is read
        ("{relu: relu, bn: batchnorm, conv: {conv: 4, kernel: 1}}", 1),  # the norm stands before
        ("{a: {repeat: 2, net: {conv: {conv: 2, kernel: 1}, bn: batchnorm}}}", 0),
        ("{a: {conv: 2, kernel: 1}, bn: batchnorm, b: {conv: 2, kernel: 1}, again: {share: bn}}", 2),
    ],
)
def test_what_is_folded_gives_the_same(net: str, left: int, tmp_path: Path) -> None:
    served = "deploy: {net: {probabilities: {softmax: 1}}}\n"
    network = network_of(net, served)
    module = lively(network)
    export(network, module, tmp_path / "net.onnx")
    nodes = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert nodes.count("BatchNormalization") == left
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    image = torch.randn(2, 2, 7, 9)
    with torch.inference_mode():
        expected = build(deployed(network), weights=module.state_dict()).eval()(image)
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_map_that_is_an_output_is_left() -> None:
    network = network_of("{conv: {conv: 4, kernel: 1}, bn: batchnorm}", "outputs: [conv, bn]\n")
    folded, _ = fold_batch_norms(network, {key: np.ones(weight.shape) for key, weight in network.state_dict()})
    assert folded.nodes == network.nodes


def test_what_is_exported_as_trained_keeps_its_keys(tmp_path: Path) -> None:
    network = network_of("{conv: {conv: 4, kernel: 1}, bn: batchnorm}", "deploy: {net: {relu: relu}}\n")
    module = lively(network)
    keys = {key for key in module.state_dict() if not key.endswith("tracked")}
    for served, expected in ((False, keys), (True, {"conv.folded.weight", "conv.folded.bias"})):
        export(network, module, tmp_path / "net.onnx", served=served)
        assert {tensor.name for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer} == expected
