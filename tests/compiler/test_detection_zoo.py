"""The detectors of the zoo: what their papers say of them, and small ones of them in PyTorch and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from test_source import module_of
from torch.nn import functional

from compiler.export import export
from compiler.lowering.base import Lowering
from compiler.lowering.boxes import DecodeBoxesLowering
from compiler.lowering.suppression import NmsLowering, ProposalsLowering
from compiler.module import build
from compiler.source.writing import python_source
from compiler.verify import agrees, compare
from netspec import Network, load
from netspec.deployed import deployed
from netspec.explain import explain_layer

# Small ones of each: the arguments, and the sizes at which they run.
SMALL: dict[str, tuple[dict[str, Any], list[str]]] = {
    "yolov1": ({"classes": 3, "size": 128, "width": 4, "hidden": 16}, []),
    "yolov2": ({"classes": 3, "width": 4}, ["image=1x3x64x96"]),
    "yolov3": ({"classes": 3, "width": 4, "depths": [1, 1, 1, 1, 1]}, ["image=1x3x64x96"]),
    "anchor_free": ({"classes": 3, "width": 4, "bins": 5}, ["image=1x3x64x96"]),
    "rcnn": ({"classes": 3, "width": 2, "dense": 16, "size": 67}, ["image=1x3x50x60", "proposals=1x5x4"]),
    "sppnet": ({"classes": 3, "width": 2, "dense": 16}, ["image=1x3x96x128", "proposals=1x5x4"]),
    "fast_rcnn": ({"classes": 3, "width": 4, "dense": 16, "cells": 3}, ["image=1x3x64x96", "proposals=1x5x4"]),
}
REGIONS = ("rcnn", "sppnet", "fast_rcnn")


def small(name: str) -> Network:
    arguments, sizes = SMALL[name]
    return load(name, inputs=sizes, **arguments)


def lively(network: Network) -> torch.nn.Module:
    """A module in use with weights large enough to tell scores apart, and normalisations that are not as they begin."""
    module = build(network)
    generator = torch.Generator().manual_seed(0)
    for key, tensor in module.state_dict().items():
        if key.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.dim() > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return module.eval()


def explained(network: Network, path: str) -> list[str]:
    return [str(line) for line in explain_layer(network, path)]


@pytest.mark.parametrize("name", SMALL)
def test_the_zoo_has_it_as_its_paper_says(name: str) -> None:
    """`expect` holds the published or hand-worked figures, and is checked by loading."""
    network = load(name)
    assert network.as_written
    assert network.origin
    assert network.sections["train"].loss.kind in (name, "fast_rcnn")
    assert {"boxes", "scores", "labels", "counts"} == {name.rpartition(".")[2] for name in deployed(network).outputs}


def test_the_arithmetic_of_the_heads() -> None:
    assert "7 × 7 × (2·5 + 20) = 1470" in explained(load("yolov1"), "head")
    assert "3 × (5 + 80) = 255" in explained(load("yolov3"), "head4")
    assert "5 × (5 + 20) = 125" in explained(load("yolov2"), "head")
    assert load("yolov1").layer("head.raw")["output"].shape[1:] == (49, 30)


def test_yolov1_has_24_convolutions_and_two_dense_layers() -> None:
    kinds = [layer["op"].kind for _, layer in load("yolov1").layers() if layer["op"] is not None]
    assert (kinds.count("conv"), kinds.count("linear")) == (24, 2)


def test_darknet_53_has_52_convolutions_before_its_classifier() -> None:
    network = load("yolov3")
    backbone = [path for path, layer in network.layers() if path.startswith("st") and layer["arguments"].get("kernel")]
    assert len(backbone) == 52


def test_the_weights_file_of_yolov3_has_as_many_numbers() -> None:
    """248,007,048 bytes: five whole numbers of four bytes, and the net with its running means and variances."""
    weights = load("yolov3").state_dict()
    assert sum(weight.size for key, weight in weights if not key.endswith("tracked")) * 4 + 20 == 248_007_048


def test_a_head_on_the_wrong_level_is_refused_with_both_strides(tmp_path: Path) -> None:
    text = "netspec: 1\nextends: yolov3\nnet: {head5: {yolo: classes, anchors: coarse, stride: 32, from: predict4}}\n"
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(Exception, match="has stride 16 and is read as a level of stride 32"):
        load(tmp_path / "wrong.yaml")


@pytest.mark.parametrize("name", SMALL)
def test_a_small_one_trains_and_agrees_with_onnx_runtime(name: str, tmp_path: Path) -> None:
    network = small(name)
    module = lively(network)
    inputs = drawn_inputs(network)
    with torch.inference_mode():
        expected = module(*inputs)
    export(network, module, tmp_path / "trained.onnx", served=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "trained.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {key: x.numpy() for key, x in zip(network.inputs, inputs, strict=True)})
    for ours, theirs in zip(found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    given = module.train()(*inputs)
    sum(part.square().sum() for part in (given if isinstance(given, tuple) else (given,))).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def drawn_inputs(network: Network) -> list[torch.Tensor]:
    """A batch of two: images, and boxes of all sizes in them."""
    generator = torch.Generator().manual_seed(1)
    inputs = []
    for name in network.inputs:
        shape = [2 if isinstance(size, str) else size for size in network.concrete(network.layer(name)["output"].shape)]
        drawn = torch.rand(shape, generator=generator)
        if name == "proposals":
            corners = drawn.view(*shape[:2], 2, 2).sort(2).values * torch.tensor([60.0, 50.0])
            drawn = corners.flatten(2)
        inputs.append(drawn)
    return inputs


@pytest.mark.parametrize("name", SMALL)
def test_the_served_form_finds_the_same_boxes(name: str, tmp_path: Path) -> None:
    network = small(name)
    module = lively(network)
    export(network, module, tmp_path / "served.onnx")
    assert agrees(compare(network, module, tmp_path / "served.onnx"))


@pytest.mark.parametrize(
    ("name", "settings"), [("faster_rcnn_vgg16", {"features": 16}), ("yolov3", {"depths": [1, 1, 1, 1, 1]})]
)
def test_drawn_weights_that_score_all_boxes_alike_are_verified(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    network = load(name, width=4, **settings)
    module = build(network)
    export(network, module, tmp_path / "net.onnx")
    results = compare(network, module, tmp_path / "net.onnx")
    assert [result.detections for result in results] == [100, 300]
    assert agrees(results, 1e-5)


@pytest.mark.parametrize(
    ("lowering", "changed"),
    [(NmsLowering, {"iou": 0.9}), (ProposalsLowering, {"iou": 0.9}), (DecodeBoxesLowering, {"clip": 0.1})],
)
def test_verify_tells_a_wrong_choice_and_what_is_wrong_before_it(
    lowering: type[Lowering], changed: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = load("faster_rcnn_vgg16", width=4, features=16)
    module = build(network)
    right = lowering.onnx
    wrong = staticmethod(lambda op, node: right(op.model_copy(update=changed), node))
    monkeypatch.setattr(lowering, "onnx", wrong)
    export(network, module, tmp_path / "net.onnx")
    assert not agrees(compare(network, module, tmp_path / "net.onnx"), 1e-3)


@pytest.mark.parametrize("name", REGIONS)
def test_an_image_without_proposals_has_no_detections(name: str, tmp_path: Path) -> None:
    network = small(name)
    export(network, lively(network), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)
    for proposals in (np.zeros((2, 0, 4), np.float32), np.zeros((2, 3, 4), np.float32)):
        given = session.run(None, {"image": image, "proposals": proposals})
        found = dict(zip((output.name.rpartition(".")[2] for output in session.get_outputs()), given, strict=True))
        assert found["boxes"].shape == (2, 100, 4)
        assert found["counts"].tolist() == [0, 0]


def test_rcnn_warps_regions_with_their_context() -> None:
    """A box of 195 × 195 grows by 16 on each side to the 227 × 227 pixels that are read as they are."""
    network = load("rcnn", width=2, dense=16)
    network.outputs = {"warped": "warped"}
    image = torch.rand(1, 3, 260, 280)
    box = torch.tensor([[[26.0, 36.0, 221.0, 231.0]]])
    warped = build(network)(image, box)[0, 0]
    torch.testing.assert_close(warped, image[0, :, 20:247, 10:237], atol=2e-3, rtol=0)


def test_sppnet_pools_the_pyramid_of_each_region() -> None:
    """6×6 + 3×3 + 2×2 + 1×1 = 50 cells; of a region that is the whole map they are the adaptive poolings of it."""
    network = load("sppnet", width=2, dense=16)
    network.outputs = {"map": "relu5", "pyramid": "pyramid.concat"}
    features, vector = build(network).eval()(torch.rand(1, 3, 96, 96), torch.tensor([[[0.0, 0.0, 80.0, 80.0]]]))
    assert vector.shape == (1, 1, 50 * 16)
    wanted = torch.cat([functional.adaptive_max_pool2d(features, n).flatten(1) for n in (6, 3, 2, 1)], 1)
    torch.testing.assert_close(vector[0], wanted)


@pytest.mark.parametrize("name", SMALL)
def test_its_written_source_is_the_same_network(name: str) -> None:
    network = small(name)
    module, written = lively(network), module_of(python_source(network))
    written.load_state_dict(module.state_dict())
    inputs = drawn_inputs(network)
    with torch.inference_mode():
        results = [
            given if isinstance(given, tuple) else (given,) for given in (module(*inputs), written.eval()(*inputs))
        ]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))
