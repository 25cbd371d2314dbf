"""SSD's postprocessing as people write it in PyTorch, and as the tracing exporter brings it to ONNX.

For each image and each class: the boxes above a threshold, the best 400 of them, suppression, and then the best 200 of
all classes (Liu et al. 2016, section 2). Loops over images and classes are Python's, so tracing unrolls them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rival_exports import quiet

SCORE, OVERLAP, CANDIDATES, DETECTIONS = 0.01, 0.45, 400, 200
SIZE = 300.0
OPSET = 17


@torch.library.custom_op("benchmarks::suppressed", mutates_args=())
def suppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """The indices of the boxes that greedy suppression leaves, the best first."""
    order = scores.argsort(descending=True)
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        best = order[0]
        kept.append(int(best))
        corners = torch.maximum(boxes[best, :2], boxes[order, :2]), torch.minimum(boxes[best, 2:], boxes[order, 2:])
        common = (corners[1] - corners[0]).clamp(min=0).prod(1)
        order = order[common / (areas[best] + areas[order] - common).clamp(min=1e-12) <= overlap]
        order = order[order != best]
    return torch.tensor(kept, dtype=torch.int64)


def _suppressed_in_onnx(graph: Any, boxes: Any, scores: Any, overlap: Any) -> Any:
    """What exporters make of it: ONNX's own operator."""

    def numbers(values: list[int]) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))

    limit = graph.op("Constant", value_t=torch.tensor([2**31 - 1], dtype=torch.int64))
    several = graph.op("Unsqueeze", boxes, numbers([0]))
    by_class = graph.op("Unsqueeze", graph.op("Unsqueeze", scores, numbers([0])), numbers([0]))
    found = graph.op("NonMaxSuppression", several, by_class, limit, graph.op("Cast", overlap, to_i=1))
    return graph.op("Squeeze", graph.op("Gather", found, numbers([2]), axis_i=1), numbers([1]))


class Postprocessing(nn.Module):
    """Detections of every image.

    In: offsets N × B × 4, class scores N × B × C with the background first, anchors B × 4.
    """

    def forward(self, deltas: Tensor, scores: Tensor, anchors: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for index in range(deltas.shape[0]):
            boxes = self.boxes(deltas[index], anchors)
            probabilities = scores[index].softmax(1)
            all_boxes, all_scores, all_labels = [], [], []
            for label in range(1, probabilities.shape[1]):
                own = probabilities[:, label]
                keep = own > SCORE
                best, places = own[keep].topk(_at_most(own[keep], CANDIDATES))
                all_boxes.append(boxes[keep][places])
                all_scores.append(best)
                all_labels.append(torch.full_like(best, label, dtype=torch.int64))
            boxes, best, labels = torch.cat(all_boxes), torch.cat(all_scores), torch.cat(all_labels)
            apart = boxes + (labels * (SIZE + 1))[:, None]  # classes far apart, so that none suppresses another
            kept = suppressed(apart, best, OVERLAP)[:DETECTIONS]
            found += [boxes[kept], best[kept], labels[kept]]
        return found

    @staticmethod
    def boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
        size, centre = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
        middle = deltas[:, :2] / 10 * size + centre
        half = (deltas[:, 2:] / 5).clamp(max=math.log(1000 / 16)).exp() * size / 2
        return torch.cat([middle - half, middle + half], 1).clamp(0, SIZE)


def _at_most(values: Tensor, limit: int) -> Any:
    """The smaller of a count and a limit; while tracing as a tensor, so that the count stays free."""
    if not torch.jit.is_tracing():
        return min(len(values), limit)
    return torch.minimum(torch.tensor(limit), torch._shape_as_tensor(values)[0])


def traced(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path) -> None:
    """The file that the tracing exporter writes."""
    torch.onnx.register_custom_op_symbolic("benchmarks::suppressed", _suppressed_in_onnx, OPSET)
    with quiet():
        torch.onnx.export(module, inputs, str(path), dynamo=False, input_names=names, opset_version=OPSET)
