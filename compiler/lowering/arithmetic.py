"""Arithmetic on tensors: element by element, along axes, and products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.merging import fold
from netspec.ops.arithmetic import (
    ArgMax,
    Divide,
    Matmul,
    Max,
    Maximum,
    Mean,
    Min,
    Minimum,
    Reduction,
    Scale,
    Subtract,
    Sum,
)
from netspec.ops.base import Op
from netspec.ops.merging import Broadcasting
from netspec.tensor import TensorType


class Folded(nn.Module):
    """A function of two tensors, applied along all of its inputs."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return reduce(self.function, inputs)


_ELEMENTWISE: dict[type[Op], tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    Subtract: (torch.sub, "Sub"),
    Divide: (torch.div, "Div"),
    Maximum: (torch.maximum, "Max"),
    Minimum: (torch.minimum, "Min"),
}


@lowers(Subtract)
@lowers(Divide)
@lowers(Maximum)
@lowers(Minimum)
class ElementwiseLowering(Lowering):
    @staticmethod
    def torch(op: Broadcasting, inputs: tuple[TensorType, ...]) -> nn.Module:
        return Folded(_ELEMENTWISE[type(op)][0])

    @staticmethod
    def onnx(op: Broadcasting, node: Emitter) -> None:
        fold(node, _ELEMENTWISE[type(op)][1])


class Scaled(nn.Module):
    """x·factor + shift."""

    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor = factor
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


@lowers(Scale)
class ScaleLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Scale, inputs: tuple[TensorType, ...]) -> nn.Module:
        return Scaled(op.factor, op.shift)

    @staticmethod
    def onnx(op: Scale, node: Emitter) -> None:
        scaled = node.emit("Mul", [node.inputs[0], node.scalar("factor", op.factor)], "scaled")
        node.emit("Add", [scaled, node.scalar("shift", op.shift)])


class ReducedBy(nn.Module):
    """One number of all along some axes."""

    def __init__(self, function: Callable[..., Tensor], axes: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.function = function
        self.axes = axes
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.axes, keepdim=self.keepdim)


_REDUCTIONS: dict[type[Op], tuple[Callable[..., Tensor], str]] = {
    Mean: (torch.mean, "ReduceMean"),
    Sum: (torch.sum, "ReduceSum"),
    Max: (torch.amax, "ReduceMax"),
    Min: (torch.amin, "ReduceMin"),
}


@lowers(Mean)
@lowers(Sum)
@lowers(Max)
@lowers(Min)
class ReductionLowering(Lowering):
    @staticmethod
    def torch(op: Reduction, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ReducedBy(_REDUCTIONS[type(op)][0], op.reduced(inputs[0]), op.keepdim)

    @staticmethod
    def onnx(op: Reduction, node: Emitter) -> None:
        axes = node.constant("axes", op.reduced(node.types[0]))
        node.emit(_REDUCTIONS[type(op)][1], [node.inputs[0], axes], keepdims=int(op.keepdim))


class GreatestAlong(nn.Module):
    """The number of the greatest along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(self.axis)


@lowers(ArgMax)
class ArgMaxLowering(Lowering):
    chooses = True

    @staticmethod
    def torch(op: ArgMax, inputs: tuple[TensorType, ...]) -> nn.Module:
        return GreatestAlong(op.axis)

    @staticmethod
    def onnx(op: ArgMax, node: Emitter) -> None:
        node.emit("ArgMax", [node.inputs[0]], axis=op.axis, keepdims=0)


class ProductOfMatrices(nn.Module):
    """The product of the last two axes of two tensors."""

    def __init__(self, transpose_first: bool, transpose_second: bool) -> None:
        super().__init__()
        self.transpose_first = transpose_first
        self.transpose_second = transpose_second

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first.mT if self.transpose_first else first) @ (second.mT if self.transpose_second else second)


@lowers(Matmul)
class MatmulLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Matmul, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ProductOfMatrices(op.transpose_first, op.transpose_second)

    @staticmethod
    def onnx(op: Matmul, node: Emitter) -> None:
        rank = node.types[0].rank
        turn = [*range(rank - 2), rank - 1, rank - 2]
        factors = [
            node.emit("Transpose", [value], f"turned{index}", perm=turn) if transposed else value
            for index, (value, transposed) in enumerate(
                zip(node.inputs, (op.transpose_first, op.transpose_second), strict=True)
            )
        ]
        node.emit("MatMul", factors)
