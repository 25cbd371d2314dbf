"""Detectors and segmentation networks trained as a user does it, on digit scenes: what is left, told and measured."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

import compiler.training as training
from compiler.batches import Batch, Data
from compiler.errors import CompilerError
from compiler.module import build
from netspec import load

Run = Callable[..., subprocess.CompletedProcess[str]]

YOLO = """
netspec: 1
name: tiny_yolo
inputs: {image: {shape: [N, 3, 48, 48]}}
net:
  conv1: {conv: 16, kernel: 5, stride: 2, padding: 2}
  relu1: relu
  conv2: {conv: 32, kernel: 5, stride: 2, padding: 2}
  relu2: relu
  rows: {conv: 30, kernel: 1}
  head: {yolo: 10, anchors: [[12, 18], [20, 28]], stride: 4, scores: sigmoid}
outputs: {raw: head.raw}
train:
  data: {scenes: 24, test: 8, size: 64, clutter: 0, scale: [0.3, 0.6]}
  loss: yolov3
  optimizer: {adamw: 1e-2}
  epochs: 2
  batch_size: 4
deploy:
  preprocess: {fit: letterbox}
  net: {found: {nms: 0.45, score: 0.001, detections: 100, from: [head.boxes, head.scores]}}
  outputs: found
"""

# Its samples of anchors and regions are drawn from the random state, and its images are varied.
FASTER_RCNN = """
netspec: 1
name: tiny_faster_rcnn
inputs: {image: {shape: [N, 3, 64, 64]}}
net:
  conv: {conv: 16, kernel: 3, stride: 8, padding: 1}
  features: relu
  objects: {conv: 2, kernel: 1}
  offsets: {conv: 8, kernel: 1, from: features}
  objectness: {per_box: 1, from: objects}
  deltas: {per_box: 4, from: offsets}
  anchors: {anchors: [[16, 32]], ratios: [1.4], strides: [8], from: features}
  decoded: {decode_boxes: [deltas, anchors]}
  clipped: {clip_boxes: [decoded, image]}
  proposals: {proposals: 10, training: 20, from: [objectness, clipped]}
  pooled: {roi_align: 3, strides: [8], from: [features, proposals]}
  flat: {reshape: [0, -1]}
  hidden: {linear: 16}
  class_scores: {linear: 11}
  box_deltas: {linear: 44, from: hidden}
outputs:
  {objectness: objectness, deltas: deltas, anchors: anchors, class_scores: class_scores, box_deltas: box_deltas,
   proposals: proposals}
train:
  data: {scenes: 24, test: 8, size: 64, scale: [0.3, 0.6]}
  augment: {rotate: 10, scale: [0.8, 1.2], brightness: 0.1}
  loss: {faster_rcnn: 8, rpn_samples: 16}
  optimizer: {sgd: 1e-3, momentum: 0.9}
  epochs: 4
  batch_size: 4
deploy:
  preprocess: {fit: stretch}
  net:
    moved: {decode_boxes: [box_deltas, proposals], offset_weights: [10, 10, 5, 5]}
    boxes: {clip_boxes: [moved, image]}
    shares: {softmax: -1, from: class_scores}
    found: {nms: 0.5, score: 0.05, detections: 20, background: true, from: [boxes, shares]}
  outputs: found
"""

MASKS = """
netspec: 1
name: tiny_fcn
inputs: {image: {shape: [N, 3, 64, 64]}}
net:
  conv: {conv: 16, kernel: 5, stride: 2, padding: 2}
  act: relu
  scores: {conv: 11, kernel: 3, padding: 1}
  up: {upsample: 2, mode: bilinear}
train:
  data: {scenes: 24, test: 8, size: 64, scale: [0.3, 0.6]}
  loss: cross_entropy
  optimizer: {adamw: 1e-2}
  epochs: 2
  evaluate: 2
  batch_size: 8
"""


def lines_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_detector_is_trained_measured_and_shown(netspec: Run, tmp_path: Path) -> None:
    """One run, looked at from all sides: what is left of it, and that its exported file is measured to be as good."""
    (tmp_path / "net.yaml").write_text(YOLO)
    longer = ("--set", "train.data.scenes=64", "--set", "train.evaluate=3", "--epochs", 6)
    done = netspec("train", "net.yaml", "--out", "run", *longer)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    parts = {"train_boxes", "train_objects", "train_background", "train_classes"}
    metrics = lines_of(run)
    for line in metrics:
        assert parts < line.keys()
        assert sum(line[part] for part in parts) == pytest.approx(line["train_loss"], rel=1e-5)
    assert ["test_map" in line for line in metrics] == [False, False, True] * 2
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    last = metrics[-1]
    assert f"held-out mAP {last['test_map']:.2%} (last epoch)" in done.stdout
    assert "background" in done.stdout.splitlines()[1]
    assert sorted(file.name for file in (run / "pictures").iterdir()) == ["epoch_003.png", "epoch_006.png"]
    report = (run / "report.md").read_text()
    assert "| class | objects | AP | AP50 |" in report
    assert "(pictures/epoch_006.png)" in report
    assert Image.open(run / "pictures/epoch_006.png").width > 600

    export = ("export", "run", "--weights", "run/last.safetensors", "-o", "model.onnx")
    assert netspec(*export).returncode == 0
    weights = ("--weights", "run/last.safetensors")
    done = netspec(
        "evaluate", "run", *weights, "--format", "json", "--coco", "found.json", "--coco-truth", "truth.json"
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["map50"] > 0.001  # it has found some of them
    assert measured["map"] == pytest.approx(last["test_map"], abs=1e-6)
    assert measured["loss"] == pytest.approx(last["test_loss"], rel=1e-5)
    assert sum(one["objects"] for one in measured["classes"]) > 8
    done = netspec("evaluate", "run", "--model", "model.onnx", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["map"] == pytest.approx(measured["map"], abs=1e-4)
    truth = COCO(str(tmp_path / "truth.json"))
    theirs = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    assert theirs.stats[0] == pytest.approx(measured["map"], abs=1e-6)
    assert theirs.stats[1] == pytest.approx(measured["map50"], abs=1e-6)

    # On other data, whose classes stand in the run's order, and whose faults are told or left out.
    assert netspec("data", "net.yaml", "--out", "scenes", "--limit", 6).returncode == 0
    file = tmp_path / "scenes/annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    other = ("evaluate", "run", "--set", "train.data={coco: scenes/annotations.json, images_in: scenes/images}")
    done = netspec(*other)
    assert done.returncode == 1
    assert "has no area\n  = help: mend it, or leave out what can't be used: `--on-error skip`" in done.stderr
    done = netspec(*other, "--on-error", "skip")
    assert done.returncode == 0, done.stderr
    assert "left out:" in done.stderr
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], reversed(names), strict=True):
        category["name"] = name
    file.write_text(json.dumps(content))
    done = netspec(*other, "--on-error", "skip")
    assert done.returncode == 1
    assert f"class 0 of the data is `{names[-1]}`, which is class {len(names) - 1} of" in done.stderr


def test_a_detector_that_was_stopped_ends_with_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(FASTER_RCNN)

    def start(out: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "netspec", "train", "net.yaml", "--device", "cpu", "--out", out, *options]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole, stopped = start("whole"), start("stopped")
    end = time.monotonic() + 120
    while not (tmp_path / "stopped" / "checkpoint.pt").exists():
        assert time.monotonic() < end, stopped.communicate()[1]
        time.sleep(0.005)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate()
    assert stopped.returncode == 130, err
    assert "Go on with" in out
    again = start("stopped", "--resume")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert whole.wait() == 0
    assert "from epoch" in out
    a, b = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    for first, second in zip(lines_of(tmp_path / "whole"), lines_of(tmp_path / "stopped"), strict=True):
        for line in (first, second):
            del line["seconds"], line["samples_per_second"]
        assert first == second


FAST_RCNN = """
netspec: 1
name: tiny_fast_rcnn
inputs:
  image: {shape: [N, 3, 64, 64]}
  proposals: {shape: [N, P, 4], sizes: {P: 8}}
net:
  conv: {conv: 16, kernel: 3, stride: 4, padding: 1, from: image}
  features: relu
  pooled: {roi_align: 3, strides: [4], from: [features, proposals]}
  flat: {reshape: [0, -1]}
  hidden: {linear: 16}
  class_scores: {linear: 11}
  box_deltas: {linear: 44, from: hidden}
outputs: {class_scores: class_scores, box_deltas: box_deltas}
train:
  data: {coco: scenes/annotations.json, images_in: scenes/images, proposals: proposals.npz}
  loss: {fast_rcnn: 8}
  optimizer: {sgd: 1e-3, momentum: 0.9}
  epochs: 2
  batch_size: 4
deploy:
  preprocess: {fit: letterbox}
  net:
    moved: {decode_boxes: [box_deltas, proposals], offset_weights: [10, 10, 5, 5]}
    boxes: {clip_boxes: [moved, image]}
    shares: {softmax: -1, from: class_scores}
    found: {nms: 0.5, score: 0.05, detections: 20, background: true, min_size: 1, from: [boxes, shares]}
  outputs: found
"""


def test_a_net_that_is_given_its_regions_is_trained_and_measured_as_exported(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "yolo.yaml").write_text(YOLO)
    (tmp_path / "net.yaml").write_text(FAST_RCNN)
    assert netspec("data", "yolo.yaml", "--out", "scenes", "--split", "train", "--limit", 16).returncode == 0
    truth = json.loads((tmp_path / "scenes/annotations.json").read_text())
    generator, regions = np.random.default_rng(0), {}
    for image in truth["images"]:
        boxes = [one["bbox"] for one in truth["annotations"] if one["image_id"] == image["id"]]
        corners = np.array(boxes).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        near = np.repeat(corners, 2, axis=0)
        regions[image["file_name"]] = (near + generator.normal(0, 3, near.shape)).astype(np.float32)
    np.savez(tmp_path / "proposals.npz", **regions)
    done = netspec("train", "net.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    last = lines_of(tmp_path / "run")[-1]
    assert last["train_loss"] == pytest.approx(last["train_classes"] + last["train_boxes"], rel=1e-5)
    assert netspec("export", "run", "--weights", "run/last.safetensors").returncode == 0
    done = netspec("evaluate", "run", "--model", "run/model.onnx", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["map"] == pytest.approx(last["test_map"], abs=1e-4)


def test_masks_are_learnt_and_judged_by_their_intersection_over_union(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(MASKS)
    done = netspec("train", "net.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    first, last = lines_of(tmp_path / "run")
    assert "test_miou" not in first
    assert 0 < last["test_miou"] < last["test_pixel_accuracy"] <= 1
    assert f"held-out mIoU {last['test_miou']:.2%}" in done.stdout
    assert "| background |" in (tmp_path / "run" / "report.md").read_text()
    assert (tmp_path / "run" / "pictures" / "epoch_002.png").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adamw: 1e-2": "sgd: 1e18"}, ["the loss is", " is nan", "lower the learning rate"]),
        ({"yolo: 10": "yolo: 9", "conv: 30": "conv: 28"}, ["the data has 10 classes (0, 1, 2, 3, 4, …)", "for 9"]),
        (
            {"net:\n": "args: {classes: 9}\nnet:\n", "yolo: 10": "yolo: classes", "conv: 30": "conv: 2*(5 + classes)"},
            ["for 9", "`--set classes=10`"],
        ),
        ({"outputs: found": "outputs: {all: head.boxes}"}, ["finds no boxes", "end with `nms`"]),
    ],
    ids=["a learning rate too large", "other classes", "an argument for them", "no detections"],
)
def test_detectors_that_can_not_be_trained_are_told_why(
    changes: dict[str, str], words: list[str], netspec: Run, tmp_path: Path
) -> None:
    text = YOLO
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "net.yaml").write_text(text)
    done = netspec("train", "net.yaml", "--out", "run")
    assert done.returncode == 1
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr


def test_images_that_show_nothing_are_no_mistake(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(YOLO)
    done = netspec("train", "net.yaml", "--out", "run", "--set", "train.data.shown=[0, 0]")
    assert done.returncode == 0, done.stderr
    assert "held-out mAP – (last epoch)" in done.stdout
    last = lines_of(tmp_path / "run")[-1]
    assert last["test_map"] is None
    assert last["train_background"] > 0
    assert (tmp_path / "run" / "best.safetensors").is_file()


class Listed:
    """Samples of three numbers each; those in `broken` can't be read and are left out."""

    def __init__(self, count: int, broken: frozenset[int]) -> None:
        self.names = [str(index) for index in range(count)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: torch.Tensor, epoch: int | None = None) -> Batch:
        kept = [index for index in indices.tolist() if index not in self.broken]
        values = torch.tensor(np.array(kept, dtype=np.float32).reshape(-1, 1)).expand(-1, 3) / len(self)
        return Batch((values,), values[:, :1], tuple(self.names[index] for index in kept))


def test_samples_that_are_left_out_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "netspec: 1\ninputs: {x: {shape: [N, 3]}}\nnet: {fc: {linear: 1}}\n"
        "train: {data: {npz: none.npz}, loss: mse, batch_size: 2, epochs: 1}\n"
    )
    network = load(tmp_path / "net.yaml")

    def run_on(broken: frozenset[int]) -> training.Run:
        data = Data(Listed(8, broken), Listed(4, broken), ())
        run = training.Run(network, build(network), data, torch.device("cpu"))
        assert training.train(run, training.Hooks())
        return run

    run = run_on(frozenset({1, 2, 3}))
    assert run.state.history[0].train["loss"] > 0
    with pytest.raises(CompilerError, match="none of the held-out samples can be read"):
        run_on(frozenset(range(4)))
    with pytest.raises(CompilerError, match="none of the training samples can be read"):
        run_on(frozenset(range(8)))
