"""Detectors against torchvision, stage by stage: levels, heads, anchors, regions and detections of drawn weights."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.torchvision_reference import TOLERANCE, difference, drawn_input, drawn_weight, reference
from compiler.export import export
from compiler.module import build
from netspec import Network, load
from netspec.deployed import deployed
from netspec.loading import check_source
from netspec.source import Source
from netspec.zoo import zoo

LEVELS = ["p2", "p3", "p4", "p5", "p6"]
# The layer that gives what the reference calls so.
STAGES = {
    "ssd300_vgg16": {
        "backbone.0": "backbone.c4",
        "backbone.1": "backbone.extra.0.7.4",
        **{f"backbone.{i + 1}": f"backbone.extra.{i}.3" for i in range(1, 5)},
        "anchors": "anchors",
        "head.bbox_regression": "head.regression_head.rows",
        "head.cls_logits": "head.classification_head.rows",
    },
    "fasterrcnn_resnet50_fpn": {
        **{f"backbone.{i}": f"backbone.fpn.layer_blocks.{i}.0" for i in range(4)},
        "backbone.pool": "backbone.pool",
        **{f"rpn.objectness.{i}": f"rpn.head.{level}.cls_logits" for i, level in enumerate(LEVELS)},
        **{f"rpn.deltas.{i}": f"rpn.head.{level}.bbox_pred" for i, level in enumerate(LEVELS)},
        "rpn.anchors": "anchors",
        "roi.pooled": "roi_heads.pooled",
        "roi.class_logits": "roi_heads.box_predictor.cls_score",
        "roi.box_regression": "roi_heads.box_predictor.bbox_pred",
    },
}
OF_ONE_IMAGE = ("anchors", "rpn.anchors", "roi.pooled", "roi.class_logits", "roi.box_regression")

Outputs = dict[str, Tensor]


def drawn(network: Network) -> dict[str, Tensor]:
    return {key: drawn_weight(key, weight.shape) for key, weight in network.state_dict()}


class Runs:
    """A network with weights or new ones, and with other outputs, in PyTorch and in ONNX Runtime."""

    def __init__(
        self, network: Network, outputs: dict[str, str], folder: Path, weights: dict[str, Tensor] | None
    ) -> None:
        network = replace(network, outputs=outputs, serving=None)
        self.names = list(outputs)
        self.inputs = network.inputs
        self.module = build(network, weights=weights).eval()
        export(network, self.module, folder / "net.onnx", served=False)
        self.session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])

    def __call__(self, *inputs: Tensor) -> tuple[Outputs, Outputs]:
        with torch.inference_mode():
            ours = self.module(*inputs)
        fed = {name: tensor.numpy() for name, tensor in zip(self.inputs, inputs, strict=True)}
        served = [torch.from_numpy(array) for array in self.session.run(None, fed)]
        return dict(zip(self.names, ours, strict=True)), dict(zip(self.names, served, strict=True))


def assert_stages(found: Outputs, stages: dict[str, Any]) -> None:
    for name, expected in stages.items():
        if "values" in expected:
            output = found[name][0] if name in OF_ONE_IMAGE else found[name]
            assert difference(output.numpy(), expected) <= TOLERANCE, name


def seen(image: Tensor, network: Network) -> Tensor:
    """An image with values from 0 to 1 as the net reads it: less the mean, over the standard deviation."""
    steps = network.sections["deploy"].preprocess
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (steps.mean, steps.std))
    return (image.clip(-3, 3) / 6 + 0.5 - mean) / std


def with_all_detections(form: Network) -> Network:
    """The served form with room for every detection: of equal scores, the reference has some and leaves out others."""
    (path,) = (path for path, layer in form.layers() if layer["op"] is not None and layer["op"].kind == "nms")
    changed = {path: form.layer(path).copy()}
    op = form.layer(path)["op"]
    assert op is not None
    changed[path]["op"] = op = op.model_copy(update={"detections": 8732})
    for name, output in op.parts(*(form.layer(node)["output"] for node in form.layer(path)["inputs"])).items():
        changed[f"{path}.{name}"] = form.layer(f"{path}.{name}").copy()
        changed[f"{path}.{name}"]["output"] = output
    return replace(form, nodes=form.nodes | changed)


def assert_detections(found: Outputs, expected: dict[str, Any]) -> None:
    """Every detection of the reference, whose labels count the background, is among those found."""
    labels, boxes, scores = (found[name][0, : int(found["counts"][0])] for name in ("labels", "boxes", "scores"))
    assert len(labels) >= expected["count"]
    for label, box, score in zip(expected["labels"], expected["boxes"], expected["scores"], strict=True):
        there = (labels == label - 1) & ((scores - score).abs() <= 1e-4)
        assert ((boxes[there] - torch.tensor(box)).abs().amax(1) <= 5e-3).any(), (label, box)


def detection_outputs(form: Network) -> dict[str, str]:
    return {name.rpartition(".")[2]: node for name, node in form.outputs.items()}


def test_every_stage_of_ssd_is_the_reference(tmp_path: Path) -> None:
    network, expected = load("ssd300_vgg16"), reference("ssd300_vgg16")["stages"]
    form = with_all_detections(deployed(network, prepared=True))
    runs = Runs(form, STAGES["ssd300_vgg16"] | detection_outputs(form), tmp_path, drawn(network))
    image = drawn_input("image", (1, 3, 300, 300))
    for found in runs(image):
        assert_stages(found, expected)
    for found in runs(seen(image, network)):
        assert_detections(found, expected["detections"])


def with_given_proposals(name: str) -> Network:
    """A net of the zoo whose proposals are an input."""
    path = dict(zoo())[name]
    text = path.read_text()
    given = re.sub(r"^  proposals: \{proposals: .*", "  proposals: {identity: , from: rois}", text, flags=re.MULTILINE)
    given = given.replace("inputs:\n", "inputs:\n  rois: {shape: [N, P, 4], sizes: {P: 4}}\n")
    checked = check_source(Source(str(path), re.sub(r"^(expect|train):\n(  .*\n)+", "", given, flags=re.MULTILINE)))
    assert checked.network is not None, [d.message for d in checked.diagnostics]
    return checked.network


def test_every_stage_of_faster_rcnn_is_the_reference(tmp_path: Path) -> None:
    expected = reference("fasterrcnn_resnet50_fpn")["stages"]
    network = with_given_proposals("fasterrcnn_resnet50_fpn")
    runs = Runs(network, STAGES["fasterrcnn_resnet50_fpn"], tmp_path, drawn(network))
    rois = torch.tensor(expected["fixed_rois"])[None]
    for found in runs(rois, drawn_input("image", (1, 3, 256, 320))):
        assert_stages(found, expected)


def test_faster_rcnn_finds_what_the_reference_finds(tmp_path: Path) -> None:
    """Nothing, at 800 × 1000: the drawn weights move every box out of the image."""
    network, expected = load("fasterrcnn_resnet50_fpn"), reference("fasterrcnn_resnet50_fpn")["stages"]["detections"]
    form = deployed(network, prepared=True)
    runs = Runs(form, detection_outputs(form), tmp_path, drawn(network))
    image = functional.interpolate(seen(drawn_input("image", (1, 3, 256, 320)), network), (800, 1000), mode="bilinear")
    for found in runs(functional.pad(image, (0, 24))):
        assert found["counts"].tolist() == [expected["count"]]


# What the reference's last layers give is a thousand times what trained ones give: every score is 1, or no box is left.
DAMPED = {
    "ssd300_vgg16": {"head.classification_head": 0.01, "head.regression_head": 0.01},
    "fasterrcnn_resnet50_fpn": {
        "rpn.head.cls_logits": 0.01,
        "rpn.head.bbox_pred": 1e-4,
        "roi_heads.box_predictor.cls_score": 1.5e-3,
        "roi_heads.box_predictor.bbox_pred": 1e-3,
    },
}


@pytest.mark.parametrize(("name", "count"), [("ssd300_vgg16", 200), ("fasterrcnn_resnet50_fpn", 100)])
def test_the_exported_detections_of_the_references_are_pytorchs(name: str, count: int, tmp_path: Path) -> None:
    """Of the reference's weights with the last layers damped, so that scores differ: SSD from pixels on."""
    network = load(name)
    weights = drawn(network)
    for key in weights:
        weights[key] *= next((share for part, share in DAMPED[name].items() if key.startswith(part)), 1)
    pixels = name == "ssd300_vgg16"
    form = deployed(network, prepared=not pixels)
    runs = Runs(form, detection_outputs(form), tmp_path, weights)
    image = drawn_input("image", (1, 3, 256, 320))
    image = ((image.clip(-3, 3) / 6 + 0.5) * 255).byte().permute(0, 2, 3, 1) if pixels else seen(image, network)
    ours, served = runs(image.contiguous())
    assert ours["counts"].tolist() == served["counts"].tolist() == [count]
    assert len(ours["scores"].unique()) > 0.9 * count
    for own, other in ((ours, served), (served, ours)):
        same = own["labels"][0, :, None] == other["labels"][0]
        same &= (own["boxes"][0, :, None] - other["boxes"][0]).abs().amax(2) <= 1e-3
        same &= (own["scores"][0, :, None] - other["scores"][0]).abs() <= 1e-4
        assert same.any(1).all()


@pytest.mark.parametrize(("name", "parameters"), [("faster_rcnn_vgg16", 137_078_239), ("retinanet", 37_968_692)])
def test_a_small_variant_finds_the_same_in_onnx_runtime(name: str, parameters: int, tmp_path: Path) -> None:
    assert load(name).parameters() == parameters
    settings = {"features": 16} if name == "faster_rcnn_vgg16" else {"channels": 16, "depths": [1, 1, 1, 1], "prior": 0}
    form = deployed(load(name, classes=3, width=4, **settings), prepared=True)
    runs = Runs(form, detection_outputs(form), tmp_path, None)
    for shape in ((2, 3, 128, 160), (1, 3, 96, 96)):
        ours, served = runs(torch.rand(shape, generator=torch.Generator().manual_seed(1)))
        assert ours["counts"].tolist() == served["counts"].tolist()
        assert int(ours["counts"].min()) > 0
        for mine, theirs in zip(rows_of(ours), rows_of(served), strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-3)


def rows_of(found: Outputs) -> list[Any]:
    """Label, box and score of every detection, in an order that nearly equal scores don't change."""
    rows = torch.cat((found["labels"][..., None], found["boxes"], found["scores"][..., None]), -1)
    return [sorted(image.round(decimals=3).tolist()) for image in rows]
