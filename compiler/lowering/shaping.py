"""Ops that arrange elements anew and compute nothing."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.padding import for_onnx, last_axis_first
from netspec.ops.shaping import Cast, ChannelShuffle, CropLike, Pad, Permute, Reshape, Slice
from netspec.tensor import TensorType

END = 2**63 - 1  # as far as an axis goes
_RIM = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class ReshapeSample(nn.Module):
    """The elements of a sample under another shape: 0 keeps an axis, -1 is what is left."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        sizes = [size or x.shape[axis] for axis, size in enumerate(self.shape, start=1)]
        if -1 in sizes:  # also where there is nothing, of which PyTorch can't tell what is left
            rest = [size for axis, size in enumerate(x.shape[1:], start=1) if self.shape[axis - 1 : axis] != (0,)]
            sizes[sizes.index(-1)] = prod(rest) // prod(size for size in self.shape if size > 0)
        return x.reshape(len(x), *sizes)


@lowers(Reshape)
class ReshapeLowering(Lowering):
    @staticmethod
    def torch(op: Reshape, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ReshapeSample(op.shape)

    @staticmethod
    def onnx(op: Reshape, node: Emitter) -> None:
        known = op.output(*node.types).shape[1:]  # in place of -1, which can't be told where there is nothing
        sizes = [dim if size < 0 and isinstance(dim, int) else size for size, dim in zip(op.shape, known, strict=True)]
        node.emit("Reshape", [node.inputs[0], node.constant("shape", [0, *sizes])])


class PermuteAxes(nn.Module):
    """The axes after the batch in another order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, *self.order)


@lowers(Permute)
class PermuteLowering(Lowering):
    @staticmethod
    def torch(op: Permute, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PermuteAxes(op.order)

    @staticmethod
    def onnx(op: Permute, node: Emitter) -> None:
        node.emit("Transpose", [node.inputs[0]], perm=[0, *op.order])


class PartOf(nn.Module):
    """Part of one axis."""

    def __init__(self, axis: int, part: slice) -> None:
        super().__init__()
        self.axis = axis
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return x[(*(slice(None) for _ in range(self.axis)), self.part)]


@lowers(Slice)
class SliceLowering(Lowering):
    @staticmethod
    def torch(op: Slice, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PartOf(op.axis % inputs[0].rank, slice(op.start, op.stop, op.step))

    @staticmethod
    def onnx(op: Slice, node: Emitter) -> None:
        stop = END if op.stop is None else op.stop
        numbers = {"start": op.start, "stop": stop, "axis": op.axis % node.types[0].rank, "step": op.step}
        node.emit("Slice", [node.inputs[0], *(node.constant(name, [number]) for name, number in numbers.items())])


class CropToSize(nn.Module):
    """The part of a map that has another's size, from an offset or from the middle."""

    def __init__(self, offsets: tuple[int, ...] | None) -> None:
        super().__init__()
        self.offsets = offsets

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        for axis in range(2, x.dim()):
            size = like.shape[axis]
            offset = (x.shape[axis] - size) // 2 if self.offsets is None else self.offsets[axis - 2]
            x = x.narrow(axis, offset, size)
        return x


@lowers(CropLike)
class CropLikeLowering(Lowering):
    @staticmethod
    def torch(op: CropLike, inputs: tuple[TensorType, ...]) -> nn.Module:
        return CropToSize(op.offsets(inputs[0]))

    @staticmethod
    def onnx(op: CropLike, node: Emitter) -> None:
        x, like = node.inputs
        size = node.emit("Shape", [like], "size", start=2)
        offsets = op.offsets(node.types[0])
        if offsets is None:
            spare = node.emit("Sub", [node.emit("Shape", [x], "full", start=2), size], "spare")
            start = node.emit("Div", [spare, node.constant("two", [2])], "start")
        else:
            start = node.constant("start", offsets)
        axes = node.constant("axes", list(range(2, node.types[0].rank)))
        node.emit("Slice", [x, start, node.emit("Add", [start, size], "stop"), axes])


class PadRim(nn.Module):
    """Pads a map's rim."""

    def __init__(self, sides: list[int], mode: str, value: float) -> None:
        super().__init__()
        self.sides = sides
        self.mode = mode
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.sides, self.mode, self.value if self.mode == "constant" else None)


@lowers(Pad)
class PadLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Pad, inputs: tuple[TensorType, ...]) -> nn.Module:
        return PadRim(last_axis_first(op.pairs(inputs[0])), op.mode, op.value)

    @staticmethod
    def onnx(op: Pad, node: Emitter) -> None:
        (x,) = node.types
        pads = node.constant("pads", for_onnx(op.pairs(x)))
        value = node.scalar("value", op.value) if op.mode == "constant" else ""
        axes = node.constant("axes", list(range(2, x.rank)))
        node.emit("Pad", [node.inputs[0], pads, value, axes], mode=_RIM[op.mode])


@lowers(ChannelShuffle)
class ChannelShuffleLowering(Lowering):
    @staticmethod
    def torch(op: ChannelShuffle, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.ChannelShuffle(op.groups)

    @staticmethod
    def onnx(op: ChannelShuffle, node: Emitter) -> None:
        channels = node.types[0].shape[1]
        assert isinstance(channels, int)
        each = channels // op.groups
        order = [group * each + place for place in range(each) for group in range(op.groups)]
        node.emit("Gather", [node.inputs[0], node.constant("order", order)], axis=1)


class CastTo(nn.Module):
    """The elements as another type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


@lowers(Cast)
class CastLowering(Lowering):
    @staticmethod
    def torch(op: Cast, inputs: tuple[TensorType, ...]) -> nn.Module:
        dtype = getattr(torch, op.to)
        assert isinstance(dtype, torch.dtype)
        return CastTo(dtype)

    @staticmethod
    def onnx(op: Cast, node: Emitter) -> None:
        node.emit("Cast", [node.inputs[0]], to=helper.np_dtype_to_tensor_dtype(np.dtype(op.to)))
