"""Boxes that stand at every place of a map, and what a head predicts for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.anchors import Anchors, Cell, DefaultBoxes, PerBox
from netspec.tensor import TensorType

FLOAT = TensorProto.FLOAT
# Which of left, top, right and bottom lie along an axis.
_X = (1.0, 0.0, 1.0, 0.0)
_Y = (0.0, 1.0, 0.0, 1.0)


def every_place(cells: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """The boxes of a map of a size, h·w·A × 4: row by row, in a place as the cells A × 4 stand."""
    rows, columns = (torch.arange(length, dtype=torch.float32) * stride for length in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return (torch.stack((x, y, x, y), -1)[:, :, None] + cells).reshape(-1, 4)


class BoxesAtPlaces(nn.Module):
    """The boxes of all levels, N × B × 4; those of the last sizes and device are kept.

    The boxes of a place are given for each level, with `parts` of the sides of the image, which is then read last.
    """

    def __init__(
        self,
        cells: tuple[tuple[tuple[float, ...], ...], ...],
        strides: tuple[int, ...],
        parts: tuple[tuple[tuple[float, ...], ...], ...] | None = None,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.strides = strides
        self.parts = parts
        self.kept: dict[tuple[object, ...], Tensor] = {}

    def boxes(self, sizes: Sequence[Sequence[int]]) -> Tensor:
        """The boxes B × 4 on maps of these heights and widths, the last of which is the image's where it is read."""
        levels = []
        for index, stride in enumerate(self.strides):
            cells = torch.tensor(self.cells[index])
            if self.parts is not None:
                height, width = sizes[-1]
                cells = cells + torch.tensor(self.parts[index]) * torch.tensor([width, height, width, height])
            levels.append(every_place(cells, stride, sizes[index]))
        return torch.cat(levels)

    def forward(self, *inputs: Tensor) -> Tensor:
        first = inputs[0]
        sizes = tuple(tuple(x.shape[2:]) for x in inputs)
        key = (sizes, first.device, first.dtype)
        if key not in self.kept:
            self.kept = {key: self.boxes(sizes).to(first)}
        return self.kept[key].expand(len(first), -1, -1)


class _AtPlacesLowering(Lowering):
    @staticmethod
    def torch(op: Anchors | DefaultBoxes, inputs: tuple[TensorType, ...]) -> BoxesAtPlaces:
        cells = tuple(tuple(cell.offset for cell in level) for level in op.cells())
        if isinstance(op, Anchors):
            return BoxesAtPlaces(cells, op.strides)
        return BoxesAtPlaces(cells, op.strides, tuple(tuple(cell.part for cell in level) for level in op.cells()))

    @staticmethod
    def onnx(op: Anchors | DefaultBoxes, node: Emitter) -> None:
        """Numbers where all sizes are fixed; else worked out from the sizes, level by level."""
        sizes = [[size for size in x.spatial if isinstance(size, int)] for x in node.types]
        if all(len(known) == 2 for known in sizes):
            boxes = node.array("boxes", _AtPlacesLowering.torch(op, node.types).boxes(sizes).numpy())
        else:
            boxes = _from_sizes(node, op)
        samples = node.size(0, 0, 1, "samples")
        shape = node.emit("Concat", [samples, node.constant("ones", [1, 1])], "shape", axis=0)
        node.emit("Expand", [boxes, shape])


lowers(Anchors)(_AtPlacesLowering)
lowers(DefaultBoxes)(_AtPlacesLowering)


def _from_sizes(node: Emitter, op: Anchors | DefaultBoxes) -> str:
    """The boxes of all levels: of each, a row for each place with the boxes of it side by side."""
    sides = _sides(node) if isinstance(op, DefaultBoxes) else ""
    found = [_level(node, index, cells, op.strides[index], sides) for index, cells in enumerate(op.cells())]
    four = node.constant("four", [-1, 4])
    if len({len(cells) for cells in op.cells()}) > 1:
        found = [node.emit("Reshape", [level, four], f"level{index}") for index, level in enumerate(found)]
    joined = node.emit("Concat", found, "levels", axis=0) if len(found) > 1 else found[0]
    return node.emit("Reshape", [joined, four], "boxes")


def _sides(node: Emitter) -> str:
    """Width and height of the image, which is read last: 1 × 2 numbers."""
    size = node.size(len(node.inputs) - 1, 2, name="image_size")
    turned = node.emit("Gather", [size, node.array("turned", np.array([[1, 0]]))], "image_turned")
    return node.emit("Cast", [turned], "image_sides", to=FLOAT)


def _level(node: Emitter, index: int, cells: Sequence[Cell], stride: int, sides: str) -> str:
    """The boxes of a level, h·w × A·4: row and column of every place times what they move, plus the boxes of one."""

    def part(name: str) -> str:
        return f"{name}{index}"

    own = node.array(part("offsets"), np.array([cell.offset for cell in cells], np.float32).reshape(-1))
    if sides:
        parts = np.array([cell.part for cell in cells], np.float32).reshape(-1)
        by_side = node.array(part("parts"), np.stack((parts * _corners(_X, cells), parts * _corners(_Y, cells))))
        own = node.emit("Gemm", [sides, by_side, own], part("own"))
    size = node.size(index, 2, name=part("size"))
    one = helper.make_tensor("one", TensorProto.BOOL, [1], [True])
    places = node.emit("NonZero", [node.emit("ConstantOfShape", [size], part("map"), value=one)], part("places"))
    numbers = node.emit("Cast", [places], part("rows_and_columns"), to=FLOAT)
    moves = node.array(part("moves"), np.stack((_corners(_Y, cells), _corners(_X, cells))) * np.float32(stride))
    return node.emit("Gemm", [numbers, moves, own], part("of_places"), transA=1)


def _corners(which: Sequence[float], cells: Sequence[Cell]) -> NDArray[np.float32]:
    """For the corners of all boxes of a place, 1 where they are of an axis and 0 elsewhere."""
    return np.tile(np.array(which, np.float32), len(cells))


class RowsPerBox(nn.Module):
    """Maps N × A·k × h × w as rows N × B × k, one level after another."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, *maps: Tensor) -> Tensor:
        rows = [x.permute(0, 2, 3, 1).reshape(len(x), -1, self.numbers) for x in maps]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)


@lowers(PerBox)
class PerBoxLowering(Lowering):
    @staticmethod
    def torch(op: PerBox, inputs: tuple[TensorType, ...]) -> nn.Module:
        return RowsPerBox(op.numbers)

    @staticmethod
    def onnx(op: PerBox, node: Emitter) -> None:
        """Levels of as many channels are brought together before their places and channels change places."""
        shape = node.constant("shape", [0, -1, op.numbers])
        channels = {x.shape[1] for x in node.types}
        if len(channels) == 1 and len(node.inputs) > 1:
            flat = node.constant("flat", [0, 0, -1])
            maps = [node.emit("Reshape", [x, flat], f"flat{index}") for index, x in enumerate(node.inputs)]
            rows = node.emit("Transpose", [node.emit("Concat", maps, "places", axis=2)], "places_first", perm=[0, 2, 1])
            node.emit("Reshape", [rows, shape])
            return
        alone = len(node.inputs) == 1
        levels = []
        for index, x in enumerate(node.inputs):
            places_first = node.emit("Transpose", [x], f"places_first{index}", perm=[0, 2, 3, 1])
            levels.append(node.emit("Reshape", [places_first, shape], "" if alone else f"level{index}"))
        if not alone:
            node.emit("Concat", levels, axis=1)
