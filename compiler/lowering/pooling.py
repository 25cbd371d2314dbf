"""Pooling."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from compiler.lowering.padding import even, fixed, for_onnx, last_axis_first, padded
from netspec.ops.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    LpPool,
    MaxPool,
    Pooling,
)
from netspec.tensor import TensorType

FLOAT = TensorProto.FLOAT


def _sides(op: Pooling, x: TensorType) -> list[tuple[int, int]]:
    sides = fixed(op.geometry(x).padding)
    assert sides is not None, "pooling pads by numbers"
    return sides


def _window(op: Pooling, node: Emitter) -> dict[str, Any]:
    shape = op.geometry(node.types[0])
    return {
        "kernel_shape": shape.kernel,
        "strides": shape.stride,
        "pads": for_onnx(_sides(op, node.types[0])),
        "ceil_mode": int(op.ceil),
    }


@lowers(MaxPool)
class MaxPoolLowering(Lowering):
    @staticmethod
    def torch(op: MaxPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        shape = op.geometry(inputs[0])
        maxpool = by_rank(inputs, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
        padding = even(shape.padding)
        if padding is not None:
            return maxpool(shape.kernel, shape.stride, padding, ceil_mode=op.ceil)
        return nn.Sequential(
            padded(inputs, _sides(op, inputs[0]), -inf), maxpool(shape.kernel, shape.stride, ceil_mode=op.ceil)
        )

    @staticmethod
    def onnx(op: MaxPool, node: Emitter) -> None:
        node.emit("MaxPool", [node.inputs[0]], **_window(op, node))


class MeansOfWhatIsThere(nn.Module):
    """Means that count no padding: those over the padded map, over the part of each window that lies in the map."""

    def __init__(self, means: nn.Module) -> None:
        super().__init__()
        self.means = means

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.means(x) / self.means(torch.ones_like(x[:1, :1]))
        return result


@lowers(AvgPool)
class AvgPoolLowering(Lowering):
    @staticmethod
    def torch(op: AvgPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        shape = op.geometry(inputs[0])
        avgpool = by_rank(inputs, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
        padding = even(shape.padding)
        if padding is not None:
            return avgpool(shape.kernel, shape.stride, padding, ceil_mode=op.ceil, count_include_pad=op.count_padding)
        means = nn.Sequential(
            padded(inputs, _sides(op, inputs[0]), 0.0), avgpool(shape.kernel, shape.stride, ceil_mode=op.ceil)
        )
        return means if op.count_padding else MeansOfWhatIsThere(means)

    @staticmethod
    def onnx(op: AvgPool, node: Emitter) -> None:
        node.emit("AveragePool", [node.inputs[0]], **_window(op, node), count_include_pad=int(op.count_padding))


class NormOfWindows(nn.Module):
    """The p-norm of each window: the root of the sums of powers, which `sums` gives for maps of two or three axes.

    `sides` is padding, the last axis first, that `sums` can't do itself.
    """

    def __init__(self, sums: nn.Module, sides: list[int], p: int) -> None:
        super().__init__()
        self.sums = sums
        self.sides = sides
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        powers = x.abs().pow(self.p)
        if self.sides:
            powers = functional.pad(powers, self.sides)
        sums: Tensor = self.sums(powers) if x.dim() > 3 else self.sums(powers.unsqueeze(2)).squeeze(2)
        # The root is infinitely steep at zero, which would make the gradient of a window of zeros no number.
        return sums.clamp_min(torch.finfo(x.dtype).tiny).pow(1 / self.p)


@lowers(LpPool)
class LpPoolLowering(Lowering):
    @staticmethod
    def torch(op: LpPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        shape = op.geometry(inputs[0])
        flat = (1,) if len(shape.kernel) == 1 else ()  # a sequence is a map of height 1
        padding = even(shape.padding)
        sums = by_rank(inputs, nn.AvgPool2d, nn.AvgPool2d, nn.AvgPool3d)(
            flat + shape.kernel,
            flat + shape.stride,
            (0,) * len(flat) + (padding or (0,) * len(shape.kernel)),
            ceil_mode=op.ceil,
            divisor_override=1,
        )
        return NormOfWindows(sums, last_axis_first(_sides(op, inputs[0])) if padding is None else [], op.p)

    @staticmethod
    def onnx(op: LpPool, node: Emitter) -> None:
        node.emit("LpPool", [node.inputs[0]], **_window(op, node), p=op.p)


@lowers(GlobalAvgPool)
class GlobalAvgPoolLowering(Lowering):
    @staticmethod
    def torch(op: GlobalAvgPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)(1)

    @staticmethod
    def onnx(op: GlobalAvgPool, node: Emitter) -> None:
        node.emit("GlobalAveragePool", [node.inputs[0]])


@lowers(GlobalMaxPool)
class GlobalMaxPoolLowering(Lowering):
    @staticmethod
    def torch(op: GlobalMaxPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)(1)

    @staticmethod
    def onnx(op: GlobalMaxPool, node: Emitter) -> None:
        node.emit("GlobalMaxPool", [node.inputs[0]])


@lowers(AdaptiveAvgPool)
class AdaptiveAvgPoolLowering(Lowering):
    @staticmethod
    def torch(op: AdaptiveAvgPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)(op.sizes(inputs[0]))

    @staticmethod
    def onnx(op: AdaptiveAvgPool, node: Emitter) -> None:
        """ONNX has no such pooling. Along an axis it is a product with a matrix of means, which follows from the size.

        Axis by axis the map is turned so that the axis comes last, multiplied by L × size means, and turned back.
        """
        (x,) = node.types
        value = node.inputs[0]
        for axis, size in enumerate(op.sizes(x), start=2):
            last = axis == x.rank - 1
            turn = list(range(x.rank))
            turn[axis], turn[-1] = turn[-1], turn[axis]
            if not last:
                value = node.emit("Transpose", [value], part=f"turned{axis}", perm=turn)
            means = _means(node, node.inputs[0], axis, size)
            value = node.emit("MatMul", [value, means], part="" if last else f"pooled{axis}")
            if not last:
                value = node.emit("Transpose", [value], part=f"back{axis}", perm=turn)


@lowers(AdaptiveMaxPool)
class AdaptiveMaxPoolLowering(Lowering):
    @staticmethod
    def torch(op: AdaptiveMaxPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)(op.sizes(inputs[0]))

    @staticmethod
    def onnx(op: AdaptiveMaxPool, node: Emitter) -> None:
        """ONNX has no such pooling: axis by axis, the maximum of every part, joined."""
        (x,) = node.types
        value = node.inputs[0]
        for axis, size in enumerate(op.sizes(x), start=2):
            along = node.constant(f"axis{axis}", [axis])
            parts = []
            for index in range(size):
                name = f"part{axis}_{index}"
                start, end = _parts(node, node.inputs[0], axis, size, [index], name)
                part = node.emit("Slice", [value, start, end, along], name)
                parts.append(node.emit("ReduceMax", [part, along], f"{name}_max"))
            value = node.emit("Concat", parts, "" if axis == x.rank - 1 else f"pooled{axis}", axis=axis)


def _parts(node: Emitter, x: str, axis: int, size: int, indices: list[int], prefix: str) -> tuple[str, str]:
    """Where parts of an axis of length L start and end: ⌊i·L/size⌋ and ⌈(i + 1)·L/size⌉."""
    length = node.emit("Shape", [x], f"{prefix}_length", start=axis, end=axis + 1)
    count = node.constant(f"{prefix}_count", [size])
    index, after = node.constant(f"{prefix}_i", indices), node.constant(f"{prefix}_next", [i + 1 for i in indices])
    start = node.emit("Div", [node.emit("Mul", [index, length], f"{prefix}_iL"), count], f"{prefix}_start")
    scaled = node.emit("Mul", [after, length], f"{prefix}_nextL")
    rounded = node.emit("Add", [scaled, node.constant(f"{prefix}_rounding", [size - 1])], f"{prefix}_up")
    return start, node.emit("Div", [rounded, count], f"{prefix}_end")


def _means(node: Emitter, x: str, axis: int, size: int) -> str:
    """L × size: column i holds 1/width in the rows from ⌊i·L/size⌋ up to ⌈(i + 1)·L/size⌉, and zeros elsewhere."""

    def part(name: str) -> str:
        return f"means{axis}_{name}"

    start, end = _parts(node, x, axis, size, list(range(size)), f"means{axis}")
    length = node.emit("Shape", [x], part=part("rows_length"), start=axis, end=axis + 1)
    zero, one = node.constant(part("zero"), [0]), node.constant(part("one"), [1])
    scalars = [node.emit("Squeeze", [v], part=part(f"scalar{i}")) for i, v in enumerate((zero, length, one))]
    row = node.emit("Unsqueeze", [node.emit("Range", scalars, part=part("range")), one], part=part("rows"))
    inside = node.emit(
        "And",
        [
            node.emit("GreaterOrEqual", [row, start], part=part("from")),
            node.emit("Less", [row, end], part=part("below")),
        ],
        part=part("inside"),
    )
    width = node.emit("Cast", [node.emit("Sub", [end, start], part=part("span"))], part=part("width"), to=FLOAT)
    return node.emit("Div", [node.emit("Cast", [inside], part=part("ones"), to=FLOAT), width], part=part("matrix"))
