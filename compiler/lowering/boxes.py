"""Boxes that a head's numbers lead to, and what of them lies in the image."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from compiler.detection.boxes import TINY, decode
from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.boxes import ClipBoxes, DecodeBoxes
from netspec.tensor import TensorType

# From left, top, right, bottom to x and y of the centre, width and height; and back.
TO_CENTRED = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
TO_SIDES = TO_CENTRED[:, 2:].copy()
TO_CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)


def box_sides(node: Emitter, boxes: str) -> str:
    """Width and height of boxes … × 4: … × 2."""
    return node.emit("MatMul", [boxes, node.array("to_sides", TO_SIDES)], "sides")


class BoxesFrom(nn.Module):
    """Decodes N × B × (C·)4 numbers against N × B × 4 boxes; with `several` there is a box for each class."""

    def __init__(self, weights: tuple[float, ...], clip: float, several: bool = False) -> None:
        super().__init__()
        self.weights = weights
        self.clip = clip
        self.several = several

    def forward(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        if self.several:
            deltas, boxes = deltas.reshape(*deltas.shape[:2], -1, 4), boxes[:, :, None]
        return decode(deltas, boxes, self.weights, self.clip)


@lowers(DecodeBoxes)
class DecodeBoxesLowering(Lowering):
    @staticmethod
    def torch(op: DecodeBoxes, inputs: tuple[TensorType, ...]) -> nn.Module:
        return BoxesFrom(op.offset_weights, op.clip, op.classes(inputs[0]) is not None)

    @staticmethod
    def onnx(op: DecodeBoxes, node: Emitter) -> None:
        """Centres and sides, and corners in the end, come out of products with a matrix, which round nothing."""
        deltas, boxes = node.inputs
        classes = op.classes(node.types[0])
        if classes is not None:
            deltas = node.emit("Reshape", [deltas, node.constant("each", [0, 0, classes, 4])], "of_classes")
            boxes = node.emit("Unsqueeze", [boxes, node.constant("axis", [2])], "of_all")
        if set(op.offset_weights) != {1.0}:
            deltas = node.emit("Div", [deltas, node.constant("weights", op.offset_weights)], "offsets")
        pairs = node.constant("pairs", [2, 2])
        centred = node.emit("MatMul", [boxes, node.array("to_centred", TO_CENTRED)], "centred")
        middle, span = node.emit_several("Split", [centred, pairs], ["middle", "span"], axis=-1)
        move, grow = node.emit_several("Split", [deltas, pairs], ["move", "grow"], axis=-1)
        size = node.emit("Max", [span, node.scalar("least", TINY)], "size")
        centre = node.emit("Add", [middle, node.emit("Mul", [move, size], "way")], "centre")
        growth = node.emit("Exp", [node.emit("Min", [grow, node.scalar("clip", op.clip)], "clipped")], "growth")
        moved = node.emit("Concat", [centre, node.emit("Mul", [size, growth], "grown")], "moved", axis=-1)
        node.emit("MatMul", [moved, node.array("to_corners", TO_CORNERS)])


class ClippedTo(nn.Module):
    """Boxes N × … × 4 cut off at the borders of an image."""

    def forward(self, boxes: Tensor, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
        return torch.stack((x, y), -1).flatten(-2)


@lowers(ClipBoxes)
class ClipBoxesLowering(Lowering):
    @staticmethod
    def torch(op: ClipBoxes, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ClippedTo()

    @staticmethod
    def onnx(op: ClipBoxes, node: Emitter) -> None:
        height, width = node.types[1].spatial
        inside = node.emit("Max", [node.inputs[0], node.scalar("border", 0.0)], "inside")
        if isinstance(height, int) and isinstance(width, int):
            most = node.constant("borders", [float(side) for side in (width, height, width, height)])
        else:
            most = node.emit("Gather", [node.size(1, 2), node.constant("order", [1, 0, 1, 0])], "whole")
            most = node.emit("Cast", [most], "borders", to=TensorProto.FLOAT)
        node.emit("Min", [inside, most])
