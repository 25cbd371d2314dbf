"""Decoding and suppression of SSD's 8,732 boxes of 90 classes, in our graph and as the tracing exporter unrolls it.

Both files are run by ONNX Runtime with one thread, in turns, on the same outputs of a head: of a net that is sure of
few boxes, and of one that is hardly trained, whose scores lie above the threshold nearly everywhere.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.measuring import Result, alternate, medians, paired_ratio, publish, worst
from benchmarks.traced_ssd import CANDIDATES, DETECTIONS, OVERLAP, SCORE, Postprocessing, traced
from compiler.export import export
from compiler.module import build
from netspec.loading import check_source
from netspec.source import Source

BOXES, COLUMNS = 8732, 91
ROUNDS = 10
SPEC = f"""
netspec: 1
inputs:
  deltas: {{shape: [N, {BOXES}, 4]}}
  scores: {{shape: [N, {BOXES}, {COLUMNS}]}}
  anchors: {{shape: [N, {BOXES}, 4]}}
  image: {{shape: [N, 3, 300, 300]}}
net:
  decoded: {{decode_boxes: [deltas, anchors], offset_weights: [10, 10, 5, 5]}}
  boxes: {{clip_boxes: [decoded, image]}}
  probabilities: {{softmax: 2, from: scores}}
  found:
    nms: {OVERLAP}
    score: {SCORE}
    candidates: {CANDIDATES}
    detections: {DETECTIONS}
    background: true
    from: [boxes, probabilities]
"""


def head_outputs(sure: bool) -> dict[str, np.ndarray]:
    """Offsets, scores and anchors of one image.

    Args:
        sure: whether nearly every box is background, as of a trained net.
    """
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((1, BOXES, COLUMNS)).astype(np.float32)
    if sure:
        scores[..., 0] += 12  # the background
        objects = generator.choice(BOXES, 200, replace=False)
        scores[0, objects, generator.integers(1, COLUMNS, 200)] += 14
    corners = generator.uniform(0, 300, (BOXES, 2)).astype(np.float32)
    sizes = generator.uniform(10, 150, (BOXES, 2)).astype(np.float32)
    anchors = np.concatenate([corners - sizes / 2, corners + sizes / 2], axis=1)
    deltas = generator.standard_normal((1, BOXES, 4)).astype(np.float32)
    return {"deltas": deltas, "scores": scores, "anchors": anchors}


def open_file(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_equal(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Both find the same boxes, best first; those of as good as equal scores may change places."""
    boxes, scores, labels, counts = ours
    assert counts[0] == len(theirs[1])
    np.testing.assert_allclose(scores[0][: counts[0]], theirs[1], atol=1e-5)
    same = (labels[0][: counts[0]] == theirs[2] - 1) & (np.abs(boxes[0][: counts[0]] - theirs[0]).max(1) < 1e-2)
    assert same.mean() > 0.97


def measure() -> Result:
    checked = check_source(Source("postprocessing", SPEC))
    assert checked.network is not None, [diagnostic.message for diagnostic in checked.diagnostics]
    image = np.zeros((1, 3, 300, 300), np.float32)
    ratios, times = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.onnx", Path(folder) / "traced.onnx"
        export(checked.network, build(checked.network), ours)
        example = head_outputs(sure=False)
        traced(Postprocessing(), tuple(torch.from_numpy(array) for array in example.values()), list(example), theirs)
        nodes = {"netspec": len(onnx.load(ours).graph.node), "traced": len(onnx.load(theirs).graph.node)}
        sessions = {"netspec": open_file(ours), "traced": open_file(theirs)}
        for case, sure in (("sure of 200 boxes", True), ("sure of none", False)):
            feeds = head_outputs(sure)
            own = feeds | {"anchors": feeds["anchors"][None], "image": image}
            names = {given.name for given in sessions["netspec"].get_inputs()}
            own = {name: array for name, array in own.items() if name in names}
            check_equal(sessions["netspec"].run(None, own), sessions["traced"].run(None, feeds))
            calls = {
                "netspec": partial(sessions["netspec"].run, None, own),
                "traced": partial(sessions["traced"].run, None, feeds),
            }
            found = alternate(calls, ROUNDS, warm_up=1)
            ratios[case] = paired_ratio(found, "netspec", "traced")
            times |= {f"{case}, {side}": value for side, value in medians(found).items()}
    what = "decoding and suppression of SSD300's boxes in our graph over the traced one, ONNX Runtime, 1 thread"
    return worst("detection_postprocessing", what, ratios, 1 / 3, True, times, {"nodes": nodes})


if __name__ == "__main__":
    publish(measure)
