"""Ops that bring several tensors together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.drawing import made
from netspec.ops.merging import Add, Concat, Multiply
from netspec.tensor import TensorType


def fold(node: Emitter, op_type: str) -> None:
    """A node of two inputs applied along all of them."""
    result, *others = node.inputs
    for index, other in enumerate(others, start=1):
        result = node.emit(op_type, [result, other], part="" if index == len(others) else f"part{index}")


class SumOf(nn.Module):
    """The sum of its inputs, all of one shape; `inplace` writes it over the first."""

    inplace = False

    def forward(self, first: Tensor, second: Tensor, *others: Tensor) -> Tensor:
        total = first.add_(second) if self.inplace else first + second
        for other in others:
            total = total + other
        return total


class ConcatOf(nn.Module):
    """Its inputs side by side along `axis`."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *inputs: Tensor) -> Tensor:
        return cat(inputs, self.axis)


@lowers(Add)
class AddLowering(Lowering):
    overwritable = True
    works_in_place = True

    @staticmethod
    def torch(op: Add, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(SumOf)

    @staticmethod
    def expression(op: Add, inputs: Sequence[str]) -> str:
        return " + ".join(inputs)

    @staticmethod
    def onnx(op: Add, node: Emitter) -> None:
        fold(node, "Add")


class ProductOf(nn.Module):
    """The product of its inputs, element by element."""

    def forward(self, *inputs: Tensor) -> Tensor:
        first, *others = inputs
        for other in others:
            first = first * other
        return first


@lowers(Multiply)
class MultiplyLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Multiply, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ProductOf()

    @staticmethod
    def expression(op: Multiply, inputs: Sequence[str]) -> str:
        return " * ".join(inputs)

    @staticmethod
    def onnx(op: Multiply, node: Emitter) -> None:
        fold(node, "Mul")


@lowers(Concat)
class ConcatLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Concat, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(ConcatOf, op.axis)

    @staticmethod
    def expression(op: Concat, inputs: Sequence[str]) -> str:
        return f"torch.cat([{', '.join(inputs)}], {op.axis})"

    @staticmethod
    def onnx(op: Concat, node: Emitter) -> None:
        node.emit("Concat", node.inputs, axis=op.axis)
