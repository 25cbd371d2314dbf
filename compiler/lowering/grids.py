"""Heads that predict boxes at every place of a map: what its channels mean, and the boxes that follow from them."""

from __future__ import annotations

import math

import torch
from onnx import TensorProto
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.grids import Distances, Yolo, YoloGrid
from netspec.tensor import TensorType

LARGEST = math.log(1000 / 16)  # a box is at most so many times its anchor, so that no size is infinite


def places(x: Tensor) -> Tensor:
    """Column and row of every place of a map, row by row: h·w × 2."""
    rows, columns = (torch.arange(size, device=x.device, dtype=x.dtype) for size in x.shape[2:])
    return torch.cartesian_prod(rows, columns).flip(1)


def _places(node: Emitter) -> str:
    """The same of the first input, as an ONNX value."""
    height, width = (node.emit("Shape", [node.inputs[0]], f"{n}", start=a, end=a + 1) for n, a in (("h", 2), ("w", 3)))
    count = node.emit("Squeeze", [node.emit("Mul", [height, width], "hw")], "count")
    numbers = node.emit("Range", [node.whole("first", 0), count, node.whole("step", 1)], "numbers")
    last = node.constant("last", [1])
    parts = [
        node.emit("Unsqueeze", [node.emit(op_type, [numbers, width], name), last], f"{name}s")
        for op_type, name in (("Mod", "column"), ("Div", "row"))
    ]
    joined = node.emit("Concat", parts, "whole_places", axis=1)
    return node.emit("Cast", [joined], "places", to=TensorProto.FLOAT)


def by_place(x: Tensor, groups: int) -> Tensor:
    """N × groups·k × h × w as N × h·w × groups × k."""
    return x.reshape(len(x), groups, -1, x.shape[2] * x.shape[3]).permute(0, 3, 1, 2)


def _by_place(node: Emitter, groups: int, numbers: int) -> str:
    """The same of the first input, as an ONNX value."""
    shape = node.constant("groups", [0, groups, numbers, -1])
    grouped = node.emit("Reshape", [node.inputs[0], shape], "grouped")
    return node.emit("Transpose", [grouped], "by_place", perm=[0, 3, 1, 2])


def _box(node: Emitter, centre: str, half: str, shape: list[int]) -> None:
    """The part `boxes`: from centres and half sizes, … × 2 each."""
    corners = [node.emit("Sub", [centre, half], "left_top"), node.emit("Add", [centre, half], "right_bottom")]
    joined = node.emit("Concat", corners, "corners", axis=-1)
    node.emit_part("Reshape", [joined, node.constant("boxes_shape", shape)], "boxes")


def anchored_boxes(numbers: Tensor, places: Tensor, anchors: Tensor, strides: Tensor | int) -> Tensor:
    """The boxes, … × 4, of numbers that begin with tx, ty, tw, th.

    Args:
        places: … × 2, column and row.
        anchors: … × 2, width and height in pixels.
        strides: … × 1, or one for all.
    """
    centre = (numbers[..., :2].sigmoid() + places) * strides
    half = numbers[..., 2:4].clamp(max=LARGEST).exp() * (anchors / 2)
    return torch.cat([centre - half, centre + half], -1)


def cell_boxes(numbers: Tensor, places: Tensor, grid: int, size: Tensor) -> Tensor:
    """The boxes, … × 4, of numbers that begin with x, y, √w, √h.

    Args:
        places: … × 2, column and row of the cell.
        size: 2, width and height of the image.
    """
    centre = (numbers[..., :2] + places) * (size / grid)
    half = numbers[..., 2:4].square() * (size / 2)
    return torch.cat([centre - half, centre + half], -1)


def distance_boxes(numbers: Tensor, places: Tensor, strides: Tensor | int) -> Tensor:
    """The boxes, … × 4, of the numbers of each side, … × 4 × bins.

    Args:
        places: … × 2, column and row.
        strides: … × 1, or one for all.
    """
    bins = numbers.shape[-1]
    if bins > 1:
        steps = torch.arange(bins, device=numbers.device, dtype=numbers.dtype)
        distances = (numbers.softmax(-1) @ steps) * strides
    else:
        distances = numbers[..., 0].relu() * strides
    centre = (places + 0.5) * strides
    return torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], -1)


class AnchoredBoxes(nn.Module):
    """Raw numbers, boxes and scores of anchors at every place of a map."""

    sizes: Tensor

    def __init__(self, classes: int, anchors: tuple[tuple[float, ...], ...], stride: int, scores: str) -> None:
        super().__init__()
        self.classes = classes
        self.anchors = anchors
        self.stride = stride
        self.scores = scores
        self.register_buffer("sizes", torch.tensor(anchors), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = by_place(x, len(self.anchors))
        boxes = anchored_boxes(found, places(x)[:, None], self.sizes, self.stride)
        classes = found[..., 5:].sigmoid() if self.scores == "sigmoid" else found[..., 5:].softmax(3)
        scores = found[..., 4:5].sigmoid() * classes
        return found.flatten(1, 2), boxes.flatten(1, 2), scores.flatten(1, 2)


@lowers(Yolo)
class YoloLowering(Lowering):
    @staticmethod
    def torch(op: Yolo, inputs: tuple[TensorType, ...]) -> nn.Module:
        return AnchoredBoxes(op.classes, op.anchors, op.stride, op.scores)

    @staticmethod
    def onnx(op: Yolo, node: Emitter) -> None:
        anchors, numbers = len(op.anchors), 5 + op.classes
        found = _by_place(node, anchors, numbers)
        raw = node.emit_part("Reshape", [found, node.constant("raw_shape", [0, -1, numbers])], "raw")
        sizes = node.constant("numbers_sizes", [2, 2, 1, op.classes])
        centre, size, objectness, classes = node.emit_several(
            "Split", [raw, sizes], ["centre", "size", "objectness", "classes"], axis=2
        )
        by_anchor = node.constant("by_anchor", [0, -1, anchors, 2])
        cell = node.emit("Unsqueeze", [_places(node), node.constant("anchor_axis", [1])], "cell")
        within = node.emit("Reshape", [node.emit("Sigmoid", [centre], "within"), by_anchor], "within_by_anchor")
        centre = node.emit(
            "Mul", [node.emit("Add", [within, cell], "in_places"), node.scalar("stride", op.stride)], "at"
        )
        times = node.emit("Exp", [node.emit("Min", [size, node.scalar("largest", LARGEST)], "bounded")], "times")
        halves = [float(side) / 2 for anchor in op.anchors for side in anchor]
        half_sizes = node.emit("Reshape", [node.constant("halves", halves), node.constant("pairs", [-1, 2])], "anchors")
        half = node.emit("Mul", [node.emit("Reshape", [times, by_anchor], "times_by_anchor"), half_sizes], "half")
        _box(node, centre, half, [0, -1, 4])
        objectness = node.emit("Sigmoid", [objectness], "objectness_probability")
        if op.scores == "sigmoid":
            classes = node.emit("Sigmoid", [classes], "class_probabilities")
        else:
            classes = node.emit("Softmax", [classes], "class_probabilities", axis=-1)
        node.emit_part("Mul", [objectness, classes], "scores")


class GridBoxes(nn.Module):
    """Raw numbers, boxes and scores of a grid's cells, each with several boxes and one class."""

    def __init__(self, classes: int, grid: int, boxes: int) -> None:
        super().__init__()
        self.classes = classes
        self.grid = grid
        self.boxes = boxes

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = x.reshape(len(x), self.grid * self.grid, -1)
        found = raw[..., : 5 * self.boxes].reshape(*raw.shape[:2], self.boxes, 5)
        cells = torch.arange(self.grid, device=x.device, dtype=x.dtype)
        cells = torch.cartesian_prod(cells, cells).flip(1)[:, None]
        size = x.new_tensor([image.shape[3], image.shape[2]])
        boxes = cell_boxes(found, cells, self.grid, size)
        scores = found[..., 4:] * raw[..., None, 5 * self.boxes :]
        return raw, boxes.flatten(1, 2), scores.flatten(1, 2)


@lowers(YoloGrid)
class YoloGridLowering(Lowering):
    @staticmethod
    def torch(op: YoloGrid, inputs: tuple[TensorType, ...]) -> nn.Module:
        return GridBoxes(op.classes, op.grid, op.boxes)

    @staticmethod
    def onnx(op: YoloGrid, node: Emitter) -> None:
        x, image = node.inputs
        cells = op.grid * op.grid
        raw = node.emit_part("Reshape", [x, node.constant("raw_shape", [0, cells, -1])], "raw")
        boxes, classes = node.emit_several(
            "Split", [raw, node.constant("raw_sizes", [5 * op.boxes, op.classes])], ["of_boxes", "of_classes"], axis=2
        )
        by_box = node.emit("Reshape", [boxes, node.constant("by_box_shape", [0, cells, op.boxes, 5])], "by_box")
        centre, root, confidence = node.emit_several(
            "Split", [by_box, node.constant("box_sizes", [2, 2, 1])], ["centre", "root", "confidence"], axis=3
        )
        width, height = (node.emit("Shape", [image], n, start=a, end=a + 1) for n, a in (("width", 3), ("height", 2)))
        size = node.emit("Concat", [width, height], "whole_size", axis=0)
        size = node.emit("Cast", [size], "size", to=TensorProto.FLOAT)
        numbers = [float(part) for cell in range(cells) for part in (cell % op.grid, cell // op.grid)]
        cell = node.emit("Reshape", [node.constant("cells", numbers), node.constant("cell_shape", [-1, 1, 2])], "cell")
        each = node.emit("Div", [size, node.scalar("grid", op.grid)], "cell_size")
        centre = node.emit("Mul", [node.emit("Add", [centre, cell], "in_cells"), each], "at")
        part = node.emit("Mul", [root, root], "part")
        half = node.emit("Mul", [part, node.emit("Div", [size, node.scalar("two", 2)], "half_size")], "half")
        _box(node, centre, half, [0, -1, 4])
        classes = node.emit("Unsqueeze", [classes, node.constant("box_axis", [2])], "classes")
        scores = node.emit("Mul", [confidence, classes], "scores_by_box")
        node.emit_part("Reshape", [scores, node.constant("scores_shape", [0, -1, op.classes])], "scores")


class DistanceBoxes(nn.Module):
    """Raw numbers of the four sides at every place of a map, and the boxes that they make."""

    def __init__(self, bins: int, stride: int) -> None:
        super().__init__()
        self.bins = bins
        self.stride = stride

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = by_place(x, 4)
        return found.flatten(2), distance_boxes(found, places(x), self.stride)


@lowers(Distances)
class DistancesLowering(Lowering):
    @staticmethod
    def torch(op: Distances, inputs: tuple[TensorType, ...]) -> nn.Module:
        return DistanceBoxes(op.bins, op.stride)

    @staticmethod
    def onnx(op: Distances, node: Emitter) -> None:
        found = _by_place(node, 4, op.bins)
        node.emit_part("Reshape", [found, node.constant("raw_shape", [0, -1, 4 * op.bins])], "raw")
        if op.bins > 1:
            shares = node.emit("Softmax", [found], "shares", axis=-1)
            steps = node.constant("steps", [float(step * op.stride) for step in range(op.bins)])
            distances = node.emit("MatMul", [shares, steps], "distances")
        else:
            number = node.emit("Squeeze", [node.emit("Relu", [found], "positive"), node.constant("bin", [3])], "number")
            distances = node.emit("Mul", [number, node.scalar("stride", op.stride)], "distances")
        before, after = node.emit_several("Split", [distances], ["before", "after"], axis=2, num_outputs=2)
        middle = node.emit("Add", [_places(node), node.scalar("half", 0.5)], "middle")
        centre = node.emit("Mul", [middle, node.scalar("pixels", op.stride)], "centre")
        corners = [node.emit("Sub", [centre, before], "left_top"), node.emit("Add", [centre, after], "right_bottom")]
        node.emit_part("Concat", corners, "boxes", axis=2)
