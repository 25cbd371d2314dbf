"""How many nodes exported graphs have, and what their values are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compiler.export import export
from compiler.module import build
from compiler.onnx_graph import emit_graph
from compiler.passes.fold_batchnorm import fold_batch_norms
from netspec import Network, load
from netspec.deployed import deployed
from netspec.loading import check_source
from netspec.source import Source


def network_of(text: str) -> Network:
    checked = check_source(Source("net.yaml", f"netspec: 1\n{text}"))
    assert checked.network is not None, [found.message for found in checked.diagnostics]
    return checked.network


def ops_of(network: Network, tmp_path: Path) -> list[str]:
    export(network, build(network).eval(), tmp_path / "net.onnx")
    return [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]


@pytest.mark.parametrize(
    ("name", "traced"),
    [("ssd300_vgg16", 3281), ("fasterrcnn_resnet50_fpn", 1984)],
)
def test_a_detector_has_a_fifth_of_the_nodes_that_tracing_leads_to(name: str, traced: int) -> None:
    network = load(name)
    weights = {key: np.zeros(weight.shape, np.float32) for key, weight in network.state_dict()}
    model, _ = emit_graph(*fold_batch_norms(deployed(network), weights))
    assert len(model.graph.node) * 5 <= traced


def test_a_size_that_several_layers_need_is_asked_once(tmp_path: Path) -> None:
    """Both boxes are clipped to one image: its shape, turned and as floats, is worked out for the first."""
    inputs = (
        "inputs: {image: {shape: [N, 3, H, W], sizes: {H: 9, W: 8}}, a: {shape: [N, P, 4]}, b: {shape: [N, P, 4]}}\n"
    )
    one = network_of(inputs + "net: {c: {clip_boxes: [a, image]}}\n")
    two = network_of(inputs + "net: {c: {clip_boxes: [a, image]}, d: {clip_boxes: [b, image]}}\noutputs: [c, d]\n")
    assert ops_of(one, tmp_path) == ["Max", "Shape", "Gather", "Cast", "Min"]
    assert ops_of(two, tmp_path) == ["Max", "Shape", "Gather", "Cast", "Min", "Max", "Min"]


@pytest.mark.parametrize(
    ("outputs", "copies"),
    [
        ("{first: a, second: b, all: c}", 0),
        ("{a: a, also: a, all: c}", 1),
        ("{one: b, two: b, all: c}", 1),
        ("{given: x, all: c}", 1),
        ("{left: s.left, s: s.right, all: c}", 0),
    ],
)
def test_outputs_have_the_names_that_the_spec_gives_them(outputs: str, copies: int, tmp_path: Path) -> None:
    network = network_of(
        "inputs: {x: {shape: [N, 4]}}\nnet:\n  a: {scale: 2.0}\n  b: {scale: 3.0}\n  s: {split: [left, right]}\n"
        f"  c: {{concat: [a, b, s.left, s.right], axis: 1}}\noutputs: {outputs}\n"
    )
    module = build(network).eval()
    export(network, module, tmp_path / "net.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node].count("Identity") == copies
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(network.outputs)
    x = torch.randn(3, 4)
    for ours, theirs in zip(session.run(None, {"x": x.numpy()}), module(x), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
