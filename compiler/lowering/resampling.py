"""Maps made finer or coarser, and places exchanged for channels."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.dims import Dim
from netspec.ops.resampling import PixelShuffle, PixelUnshuffle, Resize, ResizeLike, Upsample
from netspec.tensor import TensorType

Interpolation = Upsample | Resize | ResizeLike


def _how(op: Interpolation) -> dict[str, Any]:
    """The attributes of ONNX's Resize that make it PyTorch's."""
    if op.mode == "nearest":
        return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return {
        "mode": "cubic" if op.mode == "bicubic" else "linear",
        "coordinate_transformation_mode": "align_corners" if op.align_corners else "half_pixel",
        "cubic_coeff_a": -0.75,
    }


def _corners(op: Interpolation) -> bool | None:
    return None if op.mode == "nearest" else op.align_corners


@lowers(Upsample)
class UpsampleLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Upsample, inputs: tuple[TensorType, ...]) -> nn.Module:
        # `nearest` rounds a multiple of the factor down for some factors, from 41 on; half a unit further on it can't.
        mode = "nearest-exact" if op.mode == "nearest" else op.mode
        factors = tuple(float(factor) for factor in op.factors(inputs[0]))
        return nn.Upsample(scale_factor=factors, mode=mode, align_corners=_corners(op))

    @staticmethod
    def onnx(op: Upsample, node: Emitter) -> None:
        (x,) = node.types
        scales = node.constant("scales", [1.0, 1.0, *(float(factor) for factor in op.factors(x))])
        node.emit("Resize", [node.inputs[0], "", scales], **_how(op))


class ResizeTo(nn.Module):
    """Brings a map to a fixed size, or to that of a second map."""

    def __init__(self, size: tuple[int, ...] | None, mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.size = size
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        size = self.size if like is None else like.shape[2:]
        return functional.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)


@lowers(Resize)
class ResizeLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Resize, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ResizeTo(op.sizes(inputs[0]), op.mode, _corners(op))

    @staticmethod
    def onnx(op: Resize, node: Emitter) -> None:
        _resize_to(op, node, node.constant("size", op.sizes(node.types[0])), op.mode != "nearest")


@lowers(ResizeLike)
class ResizeLikeLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: ResizeLike, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ResizeTo(None, op.mode, _corners(op))

    @staticmethod
    def onnx(op: ResizeLike, node: Emitter) -> None:
        doubled = all(map(_is_doubled, node.types[0].spatial, node.types[1].spatial))
        _resize_to(op, node, node.size(1, 2), op.mode != "nearest" or doubled)


def _resize_to(op: Interpolation, node: Emitter, size: str, at_once: bool) -> None:
    """Nodes that bring the first input to a size, `at_once` where Resize takes the places that PyTorch does."""
    x, rank = node.inputs[0], node.types[0].rank
    if at_once:
        node.emit("Resize", [x, "", "", size], axes=list(range(2, rank)), **_how(op))
        return
    old = node.size(0, 2, name="old")
    ratio = node.emit("Div", [_floats(node, old, "from"), _floats(node, size, "to")], "ratio")
    last = node.emit("Sub", [old, node.constant("one", [1])], "last")
    for axis in range(2, rank):
        places = _nearest(node, axis - 2, size, ratio, last)
        x = node.emit("Gather", [x, places], "" if axis == rank - 1 else f"gathered{axis}", axis=axis)


def _is_doubled(old: Dim, new: Dim) -> bool:
    """Whether a size is at all sizes twice the old one or one less, as on the levels of a pyramid.

    Then Resize's places are PyTorch's: i·old/new is no whole number for 0 < i < new, or it is exactly i/2.
    """
    return (new + 1) // 2 == old


def _nearest(node: Emitter, axis: int, size: str, ratio: str, last: str) -> str:
    """The places ⌊i·(old/new)⌋ in float32, as PyTorch reckons; i/(new/old), as Resize does, is at times another."""

    def of_axis(sizes: str, name: str) -> str:
        return node.emit("Gather", [sizes, node.whole(f"axis{axis}", axis)], f"{name}{axis}")

    bounds = [node.whole("first", 0), of_axis(size, "count"), node.whole("step", 1)]
    units = _floats(node, node.emit("Range", bounds, f"range{axis}"), f"units{axis}")
    scaled = node.emit("Mul", [units, of_axis(ratio, "ratio")], f"scaled{axis}")
    whole = node.emit("Cast", [scaled], f"places{axis}", to=TensorProto.INT64)  # which rounds down
    return node.emit("Min", [whole, of_axis(last, "last")], f"bounded{axis}")


def _floats(node: Emitter, numbers: str, name: str) -> str:
    return node.emit("Cast", [numbers], name, to=TensorProto.FLOAT)


@lowers(PixelShuffle)
class PixelShuffleLowering(Lowering):
    @staticmethod
    def torch(op: PixelShuffle, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.PixelShuffle(op.factor)

    @staticmethod
    def onnx(op: PixelShuffle, node: Emitter) -> None:
        node.emit("DepthToSpace", [node.inputs[0]], blocksize=op.factor, mode="CRD")


@lowers(PixelUnshuffle)
class PixelUnshuffleLowering(Lowering):
    @staticmethod
    def torch(op: PixelUnshuffle, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.PixelUnshuffle(op.factor)

    @staticmethod
    def onnx(op: PixelUnshuffle, node: Emitter) -> None:
        """ONNX stacks the places first and the channels within; PyTorch the other way round."""
        channels = node.types[0].shape[1]
        assert isinstance(channels, int)
        places = op.factor**2
        order = node.constant("order", [place * channels + c for c in range(channels) for place in range(places)])
        stacked = node.emit("SpaceToDepth", [node.inputs[0]], "stacked", blocksize=op.factor)
        node.emit("Gather", [stacked, order], axis=1)
