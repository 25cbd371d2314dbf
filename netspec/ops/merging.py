"""Ops that bring several tensors together."""

from collections.abc import Iterator
from typing import ClassVar

from netspec.dims import Dim
from netspec.ops.base import ANY, Line, Op, axis_after_batch
from netspec.ops.sliding import strides_between
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape


class Elementwise(Op):
    """An operation on tensors of one shape, element by element."""

    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = None
    done: ClassVar[str]

    def output(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        for other in inputs[1:]:
            if other.shape != first.shape and not may_agree(first, other):
                shapes = f"{write_shape(first.shape)} and {write_shape(other.shape)}"
                raise ShapeError(
                    f"tensors of different shapes can't be {self.done}: {shapes}", help=_projection(first, other)
                )
        return first


class Add(Elementwise):
    """The sum of tensors of one shape: the residual connection.

    In: two or more tensors of equal shape. Out: that shape. Source: He et al. 2015, equation 1.
    """

    kind: ClassVar[str] = "add"
    done: ClassVar[str] = "added"


class Broadcasting(Elementwise):
    """An operation element by element in which sizes of 1 are stretched to those of another tensor."""

    def output(self, *inputs: TensorType) -> TensorType:
        result = inputs[0]
        for other in inputs[1:]:
            if other.rank != result.rank:
                return super().output(*inputs)
            wide = [a if b == 1 else b if a == 1 else a for a, b in zip(result.shape, other.shape, strict=True)]
            super().output(result.with_shape(*wide), other.with_shape(*_stretched(other, wide)))
            result = result.with_shape(*wide)
        return result


class Multiply(Broadcasting):
    """The product of tensors, element by element; a map of one place per channel scales whole channels.

    In: two or more tensors of equal shape, or with sizes of 1 where another has more. Out: the larger shape.
    Source: Hu et al. 2017, "Squeeze-and-excitation networks", equation 4.
    """

    kind: ClassVar[str] = "multiply"
    done: ClassVar[str] = "multiplied"


class Concat(Op):
    """Tensors side by side along one axis (1: the channels).

    In: two or more tensors that agree in every other dimension. Out: the sum along `axis`.
    Source: Szegedy et al. 2014, section 4.
    """

    kind: ClassVar[str] = "concat"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 1
    most_inputs: ClassVar[int | None] = None
    reads: ClassVar[tuple[str, ...]] = ANY

    axis: int = 1

    def output(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        need_rank(first, 2)
        axis = axis_after_batch(first, self.axis, "axis")
        total: Dim = first.shape[axis]
        for other in inputs[1:]:
            agree = other.rank == first.rank and all(
                a == b or not (isinstance(a, int) and isinstance(b, int))
                for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True))
                if i != axis
            )
            if not agree:
                raise ShapeError(
                    f"tensors that differ outside axis {axis} can't be concatenated: "
                    f"{write_shape(first.shape)} and {write_shape(other.shape)}",
                    help="bring them to one size first: give both branches the same strides and padding",
                )
            total = total + other.shape[axis]
        return first.with_shape(*first.shape[:axis], total, *first.shape[axis + 1 :])

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        parts = " + ".join(str(x.shape[self.axis]) for x in inputs)
        axis = axis_after_batch(output, self.axis, "axis")
        yield Line("channels" if axis == 1 else f"axis {axis}", parts, str(output.shape[self.axis]))


def _stretched(x: TensorType, shape: list[Dim]) -> list[Dim]:
    """The tensor's shape with sizes of 1 stretched to those of `shape`."""
    return [b if a == 1 else a for a, b in zip(x.shape, shape, strict=True)]


def may_agree(a: TensorType, b: TensorType) -> bool:
    """Whether shapes that are written differently could be equal at some size of the free dimensions."""
    return a.rank == b.rank and all(x == y or not isinstance(x - y, int) for x, y in zip(a.shape, b.shape, strict=True))


def _projection(a: TensorType, b: TensorType) -> str:
    """The 1×1 convolution that would bring the larger of two maps to the other's shape, as in ResNet's shortcut."""
    if a.rank != b.rank or a.rank < 3:
        return "bring both to one shape first"
    if not (isinstance(a.shape[1], int) and isinstance(b.shape[1], int)):
        return "bring both to one shape first"
    strides = strides_between(b.spatial, a.spatial)
    if strides is None and strides_between(a.spatial, b.spatial) is not None:
        return _projection(b, a)
    if strides is None or len(set(strides)) > 1:
        return "bring both to one size first: give both branches the same strides and padding"
    stride = f", stride: {strides[0]}" if strides[0] != 1 else ""
    return (
        f"project the {write_shape(b.shape)} operand first, as a residual shortcut does: "
        f"`{{conv: {a.shape[1]}, kernel: 1{stride}, bias: false}}`"
    )
