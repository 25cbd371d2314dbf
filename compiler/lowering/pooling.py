"""Pooling."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from compiler.lowering.drawing import made
from compiler.lowering.padding import even, fixed, for_onnx, last_axis_first, padded
from netspec.ops.pooling import AvgPool, LpPool, MaxPool, Pooling
from netspec.tensor import TensorType


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
            return made(maxpool, shape.kernel, shape.stride, padding, ceil_mode=op.ceil)
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
