"""Pooling."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from compiler.lowering.padding import even, for_onnx, padded
from netspec.ops.pooling import AdaptiveAvgPool, AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Pooling
from netspec.tensor import TensorType

FLOAT = TensorProto.FLOAT


def _window(op: Pooling, node: Emitter) -> dict[str, Any]:
    shape = op.geometry(node.types[0])
    return {
        "kernel_shape": shape.kernel,
        "strides": shape.stride,
        "pads": for_onnx(shape.padding),
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
            padded(inputs, shape.padding, -inf), maxpool(shape.kernel, shape.stride, ceil_mode=op.ceil)
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
            padded(inputs, shape.padding, 0.0), avgpool(shape.kernel, shape.stride, ceil_mode=op.ceil)
        )
        return means if op.count_padding else MeansOfWhatIsThere(means)

    @staticmethod
    def onnx(op: AvgPool, node: Emitter) -> None:
        node.emit("AveragePool", [node.inputs[0]], **_window(op, node), count_include_pad=int(op.count_padding))


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
        return by_rank(inputs, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)(op.size)

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


def _means(node: Emitter, x: str, axis: int, size: int) -> str:
    """L × size: column i holds 1/width in the rows from ⌊i·L/size⌋ up to ⌈(i + 1)·L/size⌉, and zeros elsewhere."""

    def part(name: str) -> str:
        return f"means{axis}_{name}"

    length = node.emit("Shape", [x], part=part("length"), start=axis, end=axis + 1)
    zero, one = node.constant(part("zero"), [0]), node.constant(part("one"), [1])
    count, column = node.constant(part("count"), [size]), node.constant(part("columns"), list(range(size)))
    first_axis = node.constant(part("axis"), [0])
    scalars = [
        node.emit("Squeeze", [v, first_axis], part=part(f"scalar{i}")) for i, v in enumerate((zero, length, one))
    ]
    row = node.emit("Unsqueeze", [node.emit("Range", scalars, part=part("range")), one], part=part("rows"))
    start = node.emit("Div", [node.emit("Mul", [column, length], part=part("iL")), count], part=part("start"))
    after = node.constant(part("after"), list(range(1, size + 1)))
    scaled = node.emit("Mul", [after, length], part=part("nextL"))
    rounding = node.constant(part("rounding"), [size - 1])
    end = node.emit("Div", [node.emit("Add", [scaled, rounding], part=part("up")), count], part=part("end"))
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
