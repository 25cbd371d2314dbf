"""What is exported is what `netspec predict` reads: boxes, masks and regions of real files, as PyTorch has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from compiler.export import export
from compiler.module import build
from netspec import load
from netspec.cli.main import cli
from netspec.deployed import deployed

DETECTOR = """
netspec: 1
inputs: {image: {shape: [N, 3, H, W], sizes: {H: 64, W: 64}}}
net:
  conv: {conv: 16, kernel: 3, stride: 16, padding: 1}
  grid: {yolo: 3, anchors: [[20, 20], [40, 40]], stride: 16, from: conv}
outputs: {raw: grid}
deploy:
  preprocess: {fit: letterbox, size: 64}
  net: {found: {nms: 0.45, score: 0.12, detections: 10, from: [grid.boxes, grid.scores]}}
  outputs: found
"""
SEGMENTER = """
netspec: 1
inputs: {image: {shape: [N, 3, H, W], sizes: {H: 64, W: 64}}}
net:
  scores: {conv: 4, kernel: 3, padding: 1}
deploy:
  preprocess: {fit: stretch, size: 64}
  net: {mask: {argmax: 1, from: scores}}
  outputs: {mask: mask}
"""
REGIONS = """
netspec: 1
inputs:
  image: {shape: [N, 3, H, W], sizes: {H: 64, W: 64}}
  proposals: {shape: [N, P, 4], sizes: {P: 5}}
net:
  conv: {conv: 8, kernel: 3, stride: 8, padding: 1, from: image}
  pooled: {roi_align: 3, strides: [8], from: [conv, proposals]}
  rows: fold_batch
  flat: flatten
  fc: {linear: 4}
  class_scores: {unfold_batch: , from: [fc, proposals]}
deploy:
  preprocess: {fit: shortest, shortest: 64, longest: 128, multiple: 8}
  net:
    probabilities: {softmax: 2, from: class_scores}
    found: {nms: 0.5, score: 0.2, detections: 10, min_size: 0.01, background: true, from: [proposals, probabilities]}
  outputs: found
"""


def exported(text: str, tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """The served form as a file and as a module."""
    (tmp_path / "net.yaml").write_text(text, encoding="utf-8")
    network = load(tmp_path / "net.yaml")
    module = build(network, seed=3).eval()
    export(network, module, tmp_path / "model.onnx")
    return tmp_path / "model.onnx", build(deployed(network), weights=module.state_dict()).eval()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three images, two of one size."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for path, size in zip(paths, ((60, 90), (60, 90), (41, 30)), strict=True):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def predicted(*arguments: object) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, ["predict", *map(str, arguments), "--format", "json"])
    assert done.exit_code == 0, done.stderr
    predictions: list[dict[str, Any]] = json.loads(done.stdout)["predictions"]
    return predictions


def pixels(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path)))[None]


def check_objects(told: dict[str, Any], expected: tuple[Tensor, ...]) -> None:
    boxes, scores, labels, counts = (part[0] for part in expected)
    count = int(counts)
    assert [one["index"] for one in told["objects"]] == labels[:count].tolist()
    np.testing.assert_allclose([one["score"] for one in told["objects"]], scores[:count], atol=1e-4)
    np.testing.assert_allclose([one["box"] for one in told["objects"]], boxes[:count], atol=1e-3)


def test_boxes_of_images_of_any_size(files: list[Path], tmp_path: Path) -> None:
    model, module = exported(DETECTOR, tmp_path)
    told = predicted(model, *files, "--draw", tmp_path / "drawn")
    assert sum(len(one["objects"]) for one in told) > 3
    for one, file in zip(told, files, strict=True):
        with torch.inference_mode():
            check_objects(one, module(pixels(file)))
        assert Image.open(one["picture"]).width >= one["width"]


def test_masks_of_images_of_any_size(files: list[Path], tmp_path: Path) -> None:
    model, module = exported(SEGMENTER, tmp_path)
    told = predicted(model, *files)
    for one, file in zip(told, files, strict=True):
        with torch.inference_mode():
            counts = torch.bincount(module(pixels(file)).flatten(), minlength=4)
        assert sum(counts.tolist()) == one["height"] * one["width"]
        found = {region["index"]: region["pixels"] for region in one["classes"]}
        # the last bits of a score decide between classes that are as good as equal
        assert all(abs(found.get(index, 0) - count) <= 3 for index, count in enumerate(counts.tolist()))


def test_regions_in_pixels_of_each_image(files: list[Path], tmp_path: Path) -> None:
    model, module = exported(REGIONS, tmp_path)
    regions = {"a.png": [[5, 5, 40, 50], [10, 3, 80, 30.5]], "b.png": [[1, 2, 30, 40]], "c.png": [[0, 0, 30, 41]]}
    np.savez(tmp_path / "regions.npz", **{name: np.array(boxes) for name, boxes in regions.items()})
    for batch in (1, 8):
        told = predicted(model, *files, "--proposals", tmp_path / "regions.npz", "--batch-size", batch, "--score", 0.25)
        for one, file in zip(told, files, strict=True):
            boxes = {tuple(round(edge, 2) for edge in found["box"]) for found in one["objects"]}
            assert boxes <= {tuple(map(float, box)) for box in regions[file.name]}  # none of those that fill up
            if batch == 1:
                with torch.inference_mode():
                    parts = module(pixels(file), torch.tensor(regions[file.name])[None])
                kept = int((parts[1][0] >= 0.25).sum())
                check_objects(one, (*parts[:3], torch.tensor([kept])))


def test_the_greatest_of_a_vector_is_no_mask(tmp_path: Path) -> None:
    text = "netspec: 1\ninputs: {x: {shape: [N, 8]}}\nnet: {fc: {linear: 4}, best: {argmax: 1}}\n"
    model, module = exported(text, tmp_path)
    rows = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    with torch.inference_mode():
        expected = module(torch.from_numpy(rows)).tolist()
    assert [one["outputs"]["best"]["data"] for one in predicted(model, tmp_path / "rows.npy")] == expected
