"""Features of boxes: pooled from the map, or the maps, that lie under each of them."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.adaptive import greatest_of_parts
from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.boxes import box_sides
from netspec.ops.regions import FoldBatch, RegionPooling, RoiAlign, RoiPool, SpatialPyramidPool, UnfoldBatch
from netspec.tensor import TensorType


class AlignedRegions(nn.Module):
    """Each box as a small map, by the mean of interpolated points in every cell; of the level that fits its area.

    A cell is a weighted sum of places: those around its points, found in one table of all images and levels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        strides: tuple[int, ...],
        sampling: int,
        aligned: bool,
        thresholds: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.size = size
        self.strides = strides
        self.sampling = sampling
        self.aligned = aligned
        self.thresholds = thresholds

    def forward(self, *inputs: Tensor) -> Tensor:
        *maps, boxes = inputs
        images, count = boxes.shape[:2]
        boxes = boxes.detach().flatten(0, 1)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.bucketize(areas, boxes.new_tensor(self.thresholds), right=True)
        heights, widths = (torch.tensor([m.shape[axis] for m in maps], device=boxes.device)[level] for axis in (2, 3))
        places = torch.tensor([0, *(m.shape[2] * m.shape[3] for m in maps)], device=boxes.device).cumsum(0)
        first = places[level] + places[-1] * torch.arange(images, device=boxes.device).repeat_interleave(count)
        corners = boxes * boxes.new_tensor([1 / stride for stride in self.strides])[level, None]
        if self.aligned:
            corners = corners - 0.5
        rows, row_weights = self.along(corners[:, 1], corners[:, 3], self.size[0], heights)
        columns, column_weights = self.along(corners[:, 0], corners[:, 2], self.size[1], widths)
        around = first[:, None, None] + rows * widths[:, None, None]
        index = around[:, :, None, :, None] + columns[:, None, :, None, :]
        weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        table = torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2).flatten(0, 1)
        cells = functional.embedding_bag(
            index.flatten(0, 2).flatten(1), table,
            per_sample_weights=weight.flatten(0, 2).flatten(1).to(table.dtype), mode="sum",
        )  # fmt: skip
        return cells.view(images, count, *self.size, table.shape[1]).permute(0, 1, 4, 2, 3)

    def along(self, start: Tensor, end: Tensor, cells: int, length: Tensor) -> tuple[Tensor, Tensor]:
        """The places around the points of every cell along an axis, and their weights: boxes × cells × 2·sampling.

        Points up to one place outside the map count as its border, others not at all.
        """
        extent = end - start
        if not self.aligned:
            extent = extent.clamp(min=1)
        bins = (extent / cells)[:, None, None]
        cell = torch.arange(cells, device=start.device)[:, None]
        point = torch.arange(self.sampling, device=start.device) + 0.5
        at = (start[:, None, None] + cell * bins + point * bins / self.sampling).nan_to_num()
        last = length[:, None, None] - 1
        inside = (at >= -1) & (at <= last + 1)
        at = torch.minimum(at.clamp(min=0), last.to(at.dtype))
        low = at.floor()
        share = at - low
        before = low.long()
        after = torch.minimum(before + 1, last)
        weights = torch.stack([1 - share, share], 3) * (inside / self.sampling)[..., None]
        return torch.stack([before, after], 3).flatten(2), weights.flatten(2)


@lowers(RoiAlign)
class RoiAlignLowering(Lowering):
    @staticmethod
    def torch(op: RoiAlign, inputs: tuple[TensorType, ...]) -> nn.Module:
        return AlignedRegions(op.cells(), op.strides, op.sampling, op.aligned, op.thresholds())

    @staticmethod
    def onnx(op: RoiAlign, node: Emitter) -> None:
        maps, rows = node.inputs[:-1], _rows(node)
        if len(maps) == 1:
            _by_image(node, _aligned(op, node, 0, rows, _images(node, rows)), op)
            return
        order, counts = _by_area(op, node, rows)
        ordered = node.emit("Gather", [rows, order], "rows_by_area"), _image_of(node, order)
        levels = range(len(maps))
        parts = [
            node.emit_several("Split", [of, counts], [f"{name}{i}" for i in levels])
            for name, of in zip(("boxes", "image"), ordered, strict=True)
        ]
        pooled = [_aligned(op, node, i, *of) for i, of in enumerate(zip(*parts, strict=True))]
        joined = node.emit("Concat", pooled, "joined", axis=0)
        back = _rising(node, order, rows, ["sorted_order", "back"])
        _by_image(node, node.emit("Gather", [joined, back], "in_order"), op)


def _aligned(op: RoiAlign, node: Emitter, level: int, rows: str, image: str) -> str:
    """The boxes of one level, pooled: R × C × height × width."""
    height, width = op.cells()
    return node.emit(
        "RoiAlign", [node.inputs[level], rows, image], f"pooled{level}",
        output_height=height, output_width=width, sampling_ratio=op.sampling, spatial_scale=1 / op.strides[level],
        coordinate_transformation_mode="half_pixel" if op.aligned else "output_half_pixel",
    )  # fmt: skip


def _by_area(op: RoiAlign, node: Emitter, rows: str) -> tuple[str, str]:
    """The order of the boxes by area, and so by level, and how many each level has."""
    areas = node.emit("ReduceProd", [box_sides(node, rows), node.constant("side_axis", [1])], "areas", keepdims=0)
    thresholds = node.array("thresholds", np.array(op.thresholds(), np.float32)[:, None])
    above = node.emit("Cast", [node.emit("GreaterOrEqual", [areas, thresholds], "above")], "ones", to=TensorProto.INT64)
    from_level = node.emit("ReduceSum", [above, node.constant("boxes_axis", [1])], "from_level", keepdims=0)
    all_from = node.emit("Concat", [_count(node, rows), from_level], "all_from", axis=0)
    less_above = np.eye(len(op.strides), dtype=np.int64) - np.eye(len(op.strides), k=-1, dtype=np.int64)
    counts = node.emit("MatMul", [all_from, node.array("less_those_above", less_above)], "counts")
    return _rising(node, areas, rows, ["sorted_areas", "order"]), counts


def _rising(node: Emitter, values: str, rows: str, names: list[str]) -> str:
    """The places of as many values as there are rows, from the least on; of equal ones the first comes first."""
    return node.emit_several("TopK", [values, _count(node, rows)], names, largest=0)[1]


def _count(node: Emitter, rows: str) -> str:
    """How many boxes all images have, a vector of one."""
    return node.emit("Shape", [rows], "count", start=0, end=1)


def _rows(node: Emitter) -> str:
    """The boxes of all images below one another, R × 4."""
    return node.emit("Reshape", [node.inputs[-1], node.constant("row", [-1, 4])], "rows")


def _image_of(node: Emitter, rows: str) -> str:
    """The number of the image that each of some rows is of."""
    each = node.types[-1].shape[1]
    if isinstance(each, int):
        return node.emit("Div", [rows, node.constant("each", [each])], "image")
    there = node.size(len(node.inputs) - 1, 1, 2, "each")
    return node.emit("Div", [rows, node.emit("Max", [there, node.constant("one", [1])], "each_or_one")], "image")


def _images(node: Emitter, rows: str) -> str:
    """The number of the image that every row is of."""
    count = node.emit("Squeeze", [_count(node, rows)], "number")
    return _image_of(node, node.emit("Range", [node.whole("first", 0), count, node.whole("step", 1)], "numbers"))


def _by_image(node: Emitter, pooled: str, op: RegionPooling) -> None:
    """The layer's result of R × C × height × width: each image's boxes together."""
    channels = node.types[0].shape[1]
    each = node.types[-1].shape[1]
    if isinstance(channels, int) and isinstance(each, int):
        node.emit("Reshape", [pooled, node.constant("shape", [-1, each, channels, *op.cells()])])
        return
    inner = node.constant("inner", [channels if isinstance(channels, int) else -1, *op.cells()])
    boxes = node.size(len(node.inputs) - 1, 0, 2, "boxes_shape")
    node.emit("Reshape", [pooled, node.emit("Concat", [boxes, inner], "shape", axis=0)], allowzero=1)


class PooledRegions(nn.Module):
    """Each box as a small map, by the greatest value in every cell.

    A cell's greatest is that of four windows whose sides are powers of two, which may overlap; the greatest of all
    such windows of the map are worked out first.
    """

    def __init__(self, size: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        images, count = boxes.shape[:2]
        height, width = x.shape[2:]
        sides = boxes.detach().flatten(0, 1) * (1 / self.stride)
        sides = (sides.sign() * (sides.abs() + 0.5).floor()).nan_to_num().clamp(-(2**20), 2**20)
        top, bottom = self.along(sides[:, 1], sides[:, 3], self.size[0], height)
        left, right = self.along(sides[:, 0], sides[:, 2], self.size[1], width)
        powers = 2 ** torch.arange(max(height, width).bit_length(), device=x.device)
        tall, wide = (torch.bucketize(extent, powers[1:], right=True) for extent in (bottom - top, right - left))
        tallest, widest = (int(power.max()) if count else 0 for power in (tall, wide))
        rows = torch.stack([top, bottom - powers[tall]], 2).clamp(0, height - 1)[:, :, None, :, None]
        columns = torch.stack([left, right - powers[wide]], 2).clamp(0, width - 1)[:, None, :, None, :]
        image = torch.arange(images, device=x.device).repeat_interleave(count)[:, None, None]
        maps = (tall[:, :, None] * (widest + 1) + wide[:, None, :]) * images + image
        index = (maps[..., None, None] * height + rows) * width + columns
        windows = greatest_of_windows(x, tallest, widest)
        corners = (functional.embedding(places, windows) for places in index.flatten(0, 2).flatten(1).unbind(1))
        cells = reduce(torch.maximum, corners)
        inside = (bottom > top)[:, :, None] & (right > left)[:, None, :]
        cells = cells.view(images, count, *self.size, x.shape[1]) * inside.view(images, count, *self.size, 1)
        return cells.permute(0, 1, 4, 2, 3)

    @staticmethod
    def along(start: Tensor, end: Tensor, cells: int, length: int) -> tuple[Tensor, Tensor]:
        """Where each cell begins and ends along an axis, in whole places of the map: boxes × cells."""
        bins = (end - start + 1).clamp(min=1) / cells
        borders = torch.arange(cells + 1, device=start.device) * bins[:, None]
        begins, ends = borders[:, :-1].floor() + start[:, None], borders[:, 1:].ceil() + start[:, None]
        return begins.clamp(0, length).long(), ends.clamp(0, length).long()


def greatest_of_windows(x: Tensor, tallest: int, widest: int) -> Tensor:
    """The greatest of the windows of 2ᵖ × 2ᑫ places that begin at each place: p up to `tallest`, in each q to `widest`.

    The rows are places, the columns channels. A window that would reach over the rim holds something else.
    """
    found = []
    for p in range(tallest + 1):
        x = torch.maximum(x, x.roll(-(2 ** (p - 1)), 2)) if p else x
        across = x
        for q in range(widest + 1):
            across = torch.maximum(across, across.roll(-(2 ** (q - 1)), 3)) if q else across
            found.append(across)
    return torch.stack(found).flatten(3).transpose(2, 3).flatten(0, 2)


@lowers(RoiPool)
class RoiPoolLowering(Lowering):
    @staticmethod
    def torch(op: RoiPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PooledRegions(op.cells(), op.stride)

    @staticmethod
    def onnx(op: RoiPool, node: Emitter) -> None:
        x, rows = node.inputs[0], _rows(node)
        number = node.emit("Cast", [_images(node, rows)], "image_number", to=TensorProto.FLOAT)
        column = node.emit("Unsqueeze", [number, node.constant("second", [1])], "image_column")
        numbered = node.emit("Concat", [column, rows], "numbered", axis=1)
        pooled = node.emit("MaxRoiPool", [x, numbered], "pooled", pooled_shape=op.cells(), spatial_scale=1 / op.stride)
        _by_image(node, pooled, op)


class PyramidPool(nn.Module):
    """The greatest values of n × n parts of a map, for each n, as one vector."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([functional.adaptive_max_pool2d(x, n).flatten(1) for n in self.levels], 1)


@lowers(SpatialPyramidPool)
class SpatialPyramidPoolLowering(Lowering):
    @staticmethod
    def torch(op: SpatialPyramidPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PyramidPool(op.levels)

    @staticmethod
    def onnx(op: SpatialPyramidPool, node: Emitter) -> None:
        vectors = []
        for n in op.levels:
            rows = greatest_of_parts(node, node.inputs[0], 2, n, f"rows{n}")
            parts = greatest_of_parts(node, rows, 3, n, f"parts{n}")
            vectors.append(node.emit("Flatten", [parts], f"vector{n}", axis=1))
        node.emit("Concat", vectors, axis=1)


class RowsOfImages(nn.Module):
    """N × P × … as (N·P) × …."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)


@lowers(FoldBatch)
class FoldBatchLowering(Lowering):
    @staticmethod
    def torch(op: FoldBatch, inputs: tuple[TensorType, ...]) -> nn.Module:
        return RowsOfImages()

    @staticmethod
    def onnx(op: FoldBatch, node: Emitter) -> None:
        (x,) = node.inputs
        inner = node.size(0, 2, name="inner")
        node.emit("Reshape", [x, node.emit("Concat", [node.constant("rows", [-1]), inner], "shape", axis=0)])


class ImagesOfRows(nn.Module):
    """(N·P) × … as N × P × …, these two sizes being a second tensor's."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return x.reshape(*like.shape[:2], *x.shape[1:])


@lowers(UnfoldBatch)
class UnfoldBatchLowering(Lowering):
    @staticmethod
    def torch(op: UnfoldBatch, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ImagesOfRows()

    @staticmethod
    def onnx(op: UnfoldBatch, node: Emitter) -> None:
        x = node.inputs[0]
        outer, inner = node.size(1, 0, 2, "outer"), node.size(0, 1, name="inner")
        node.emit("Reshape", [x, node.emit("Concat", [outer, inner], "shape", axis=0)], allowzero=1)
