"""Padding that PyTorch's own layers don't do: different before and after, or as much as the map's size asks for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import by_rank
from netspec.dims import Dim
from netspec.tensor import TensorType

Sides = Sequence[tuple[Dim, Dim]]


def even(padding: Sides) -> tuple[int, ...] | None:
    """The padding as one number for each axis; None where before and after differ or follow from the size."""
    numbers = tuple(before for before, after in padding if isinstance(before, int) and before == after)
    return numbers if len(numbers) == len(padding) else None


def last_axis_first(padding: Sides) -> list[int]:
    """The padding as PyTorch's `pad` takes it."""
    return [side for sides in reversed(padding) for side in sides if isinstance(side, int)]


def for_onnx(padding: Sides) -> list[int]:
    """The padding as ONNX takes it: before every axis, then after."""
    return [before for before, _ in padding if isinstance(before, int)] + [
        after for _, after in padding if isinstance(after, int)
    ]


def padded(inputs: tuple[TensorType, ...], padding: Sides, value: float) -> nn.Module:
    """A layer that pads with a value."""
    return by_rank(inputs, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)(last_axis_first(padding), value)


class PadsFirst(nn.Module):
    """Pads its input before it does as the convolution that it is mixed into.

    Attributes:
        sides: what is padded, the last axis first; empty where ⌈size/stride⌉ is to be left of every size.
    """

    sides: Sequence[int] = ()
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

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
