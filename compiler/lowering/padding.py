"""Padding that PyTorch's own layers don't do: different before and after, or as much as the map's size asks for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, by_rank
from netspec.ops.sliding import Geometry
from netspec.tensor import TensorType

# Units before and after each axis; None where they follow from the map's size.
Sides = Sequence[tuple[int, int] | None]


def even(padding: Sides) -> tuple[int, ...] | None:
    """The padding as one number for each axis; None where before and after differ or follow from the size."""
    numbers = tuple(sides[0] for sides in padding if sides is not None and sides[0] == sides[1])
    return numbers if len(numbers) == len(padding) else None


def fixed(padding: Sides) -> list[tuple[int, int]] | None:
    """The padding where none of it follows from the size."""
    known = [sides for sides in padding if sides is not None]
    return known if len(known) == len(padding) else None


def last_axis_first(padding: Sequence[tuple[int, int]]) -> list[int]:
    """The padding as PyTorch's `pad` takes it."""
    return [side for sides in reversed(padding) for side in sides]


def for_onnx(padding: Sequence[tuple[int, int]]) -> list[int]:
    """The padding as ONNX takes it: before every axis, then after."""
    return [before for before, _ in padding] + [after for _, after in padding]


def pad_by_size(node: Emitter, shape: Geometry) -> str:
    """Nodes that pad the first input so that ⌈size/stride⌉ units are left; the padded map's name."""
    x = node.inputs[0]
    size = node.emit("Shape", [x], "size", start=2)
    stride, one = node.constant("stride", shape.stride), node.constant("one", [1])
    extent = node.constant("extent", shape.extent)
    steps = node.emit("Div", [node.emit("Sub", [size, one], "size_less_one"), stride], "steps")
    last = node.emit("Mul", [steps, stride], "last_start")
    needed = node.emit("Sub", [node.emit("Add", [last, extent], "end"), size], "needed")
    total = node.emit("Max", [needed, node.constant("zero", [0])], "total")
    before = node.emit("Div", [total, node.constant("two", [2])], "before")
    sides = node.emit("Concat", [before, node.emit("Sub", [total, before], "after")], "sides", axis=0)
    axes = node.constant("axes", list(range(2, node.types[0].rank)))
    return node.emit("Pad", [x, sides, "", axes], "padded")


def padded(inputs: tuple[TensorType, ...], padding: Sequence[tuple[int, int]], value: float) -> nn.Module:
    """A layer that pads with a value."""
    return by_rank(inputs, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)(last_axis_first(padding), value)


class PadsFirst(nn.Module):
    """Pads its input before it does as the convolution that it is mixed into.

    Attributes:
        sides: what is padded, the last axis first; empty where ⌈size/stride⌉ is to be left of every size.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        sides: Sequence[int] = (),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        self.sides = tuple(sides)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(functional.pad(x, self.sides or self._by_size(x)))
        return result

    def _by_size(self, x: Tensor) -> list[int]:
        sides: list[int] = []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
            sides = [total // 2, total - total // 2, *sides]
        return sides


class PaddedConv1d(PadsFirst, nn.Conv1d):
    """A convolution over one axis that pads as `sides` says."""


class PaddedConv2d(PadsFirst, nn.Conv2d):
    """A convolution over two axes that pads as `sides` says."""


class PaddedConv3d(PadsFirst, nn.Conv3d):
    """A convolution over three axes that pads as `sides` says."""
