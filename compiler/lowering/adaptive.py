"""Pooling over whole maps, and over a fixed number of their parts."""

from __future__ import annotations

from onnx import TensorProto
from torch import nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from netspec.ops.adaptive import AdaptiveAvgPool, AdaptiveMaxPool, GlobalAvgPool, GlobalMaxPool
from netspec.tensor import TensorType

FLOAT = TensorProto.FLOAT


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
        """ONNX has no such pooling: axis by axis, the greatest of every part."""
        (x,) = node.types
        value = node.inputs[0]
        for axis, size in enumerate(op.sizes(x), start=2):
            value = greatest_of_parts(node, value, axis, size, "" if axis == x.rank - 1 else f"pooled{axis}")


def greatest_of_parts(node: Emitter, value: str, axis: int, size: int, result: str) -> str:
    """The greatest of each of `size` parts of an axis of the first input, of which `value` has the length there.

    The units of every part are gathered side by side, the last one again where a part has fewer than the widest.
    """
    along = node.constant(f"axis{axis}", [axis])
    if size == 1:
        return node.emit("ReduceMax", [value, along], result)
    length = node.types[0].shape[axis]
    if isinstance(length, int):
        ends = [-(-(i + 1) * length // size) for i in range(size)]
        starts = [i * length // size for i in range(size)]
        width = max(end - start for start, end in zip(starts, ends, strict=True))
        rows = [min(start + j, end - 1) for start, end in zip(starts, ends, strict=True) for j in range(width)]
        shape = node.constant(f"shape{axis}_{size}", [size, width])
        units = node.emit("Reshape", [node.constant(f"units{axis}_{size}", rows), shape], f"rows{axis}_{size}")
    else:
        units = _units(node, axis, size)
    gathered = node.emit("Gather", [value, units], f"gathered{axis}_{size}", axis=axis)
    inner = node.constant(f"inner{axis}", [axis + 1])
    return node.emit("ReduceMax", [gathered, inner], result, keepdims=0)


def _units(node: Emitter, axis: int, size: int) -> str:
    """The units of every part of an axis whose length is not known, size × the widest part."""

    def part(name: str) -> str:
        return f"{name}{axis}_{size}"

    start, end = _parts(node, node.inputs[0], axis, size, list(range(size)), part("part"))
    one = node.constant(part("one"), [1])
    widest = node.emit("ReduceMax", [node.emit("Sub", [end, start], part("widths"))], part("widest"), keepdims=0)
    bounds = [node.whole(part("first"), 0), widest, node.whole(part("step"), 1)]
    first = node.emit("Unsqueeze", [start, one], part("column"))
    units = node.emit("Add", [first, node.emit("Range", bounds, part("range"))], part("from"))
    last = node.emit("Unsqueeze", [node.emit("Sub", [end, one], part("ends")), one], part("last"))
    return node.emit("Min", [units, last], part("units"))


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
