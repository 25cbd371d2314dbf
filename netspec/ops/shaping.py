"""Ops that arrange elements anew and compute nothing."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field as Argument

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import (
    ANY,
    SCRAMBLED,
    Count,
    Length,
    LengthPerAxis,
    Op,
    Padding,
    Window,
    axis_after_batch,
    per_axis,
)
from netspec.ops.sliding import AXES, need_same_axes
from netspec.tensor import ShapeError, TensorType, need_known, need_rank, write_shape


class Reshape(Op):
    """The elements of a sample, in row-major order, under another shape.

    In: N × …. Out: N × `shape`, where 0 keeps the input's size of that axis and one -1 is what is left.
    """

    kind: ClassVar[str] = "reshape"
    reads: ClassVar[tuple[str, ...]] = ANY

    shape: Annotated[tuple[Annotated[int, Argument(ge=-1, le=2**31 - 1)], ...], Argument(min_length=1, max_length=7)]

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        kept = [axis for axis, size in enumerate(self.shape, start=1) if size == 0]
        if kept and kept[-1] >= x.rank:
            raise ShapeError(
                f"0 keeps the size of axis {kept[-1]}, which {write_shape(x.shape)} does not have",
                help="give its size, or -1",
                argument="shape",
            )
        if self.shape.count(-1) > 1:
            raise ShapeError("only one -1 can be told from the others", help="give all sizes but one", argument="shape")
        given = dims.product(size for size in self.shape if size > 0)
        assert isinstance(given, int)
        rest = dims.product(size for axis, size in enumerate(x.shape) if axis and axis not in kept)
        fits = not (isinstance(rest, int) and rest % given) if -1 in self.shape else rest == given
        if not fits:
            raise ShapeError(
                f"{write_shape(x.shape)} can't be reshaped to [{', '.join(str(size) for size in self.shape)}]: "
                f"{rest} elements of a sample for {'a multiple of ' if -1 in self.shape else ''}{given}",
                help="the sizes after the batch have the product that they had; one may be -1",
                argument="shape",
            )
        sizes = [x.shape[axis] if size == 0 else rest // given if size < 0 else size for axis, size in self._axes()]
        return x.with_shape(x.shape[0], *sizes)

    def _axes(self) -> Iterator[tuple[int, int]]:
        return enumerate(self.shape, start=1)

    def window(self, *inputs: TensorType) -> Window | None:
        """A vector is a whole map, as with `flatten`."""
        spatial = inputs[0].spatial
        if not spatial:
            return None
        return Window(spatial, spatial) if len(self.shape) == 1 else SCRAMBLED


class Permute(Op):
    """The axes after the batch in another order: `[2, 3, 1]` moves the channels of a map behind its places.

    In: N × …. Out: N × the axes in that order.
    """

    kind: ClassVar[str] = "permute"
    reads: ClassVar[tuple[str, ...]] = ANY

    order: Annotated[tuple[Length, ...], Argument(min_length=1, max_length=8)]

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        if sorted(self.order) != list(range(1, x.rank)):
            raise ShapeError(
                f"[{', '.join(str(axis) for axis in self.order)}] is no order of the axes 1 to {x.rank - 1} "
                f"of {write_shape(x.shape)}",
                help="name every axis but the batch, which stays, once: 1 is the channels",
                argument="order",
            )
        return x.with_shape(x.shape[0], *(x.shape[axis] for axis in self.order))

    def window(self, *inputs: TensorType) -> Window | None:
        return SCRAMBLED if list(self.order) != sorted(self.order) else None


class Slice(Op):
    """Part of an axis: from `start` up to `stop` (without it to the end), every `step`-th.

    In: N × …. Out: the same, with ⌈(stop − start)/step⌉ along `axis`. Negative positions count from the end.
    """

    kind: ClassVar[str] = "slice"
    reads: ClassVar[tuple[str, ...]] = ANY

    axis: int
    start: int = 0
    stop: int | None = None
    step: Count = 1

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        axis = axis_after_batch(x, self.axis)
        size = x.shape[axis]
        start = self.start if self.start >= 0 else size + self.start
        stop = size if self.stop is None else self.stop if self.stop >= 0 else size + self.stop
        length = stop - start
        for name, place in (("start", start), ("stop", stop)):
            left = size - place
            if any(isinstance(side, int) and side < 0 for side in (place, left)):
                raise ShapeError(
                    f"`{name}` lies outside axis {axis}, whose size is {size}",
                    help="positions run from 0 to the size, or from the end with -1",
                    argument=name,
                )
        if isinstance(length, int) and length < 1:
            raise ShapeError(
                f"nothing lies from {start} up to {stop}", help="give a `stop` behind `start`", argument="stop"
            )
        count = (length + self.step - 1) // self.step
        return x.with_shape(*x.shape[:axis], count, *x.shape[axis + 1 :])

    def window(self, *inputs: TensorType) -> Window | None:
        (x,) = inputs
        axis = axis_after_batch(x, self.axis)
        if axis == 1:
            return None
        strides = tuple(self.step if place == axis else 1 for place in range(2, x.rank))
        return Window((1,) * len(strides), strides)


class CropLike(Op):
    """The part of the first map that has the second's size: from `offset`, or from the middle without one.

    In: N × C × spatial, and N × any × spatial of as many axes and no larger. Out: N × C × the second's spatial.
    Source: Ronneberger et al. 2015, "U-Net", figure 1; with an offset Long et al. 2015, section 4.
    """

    kind: ClassVar[str] = "crop_like"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    offset: LengthPerAxis | None = None

    def offsets(self, x: TensorType) -> tuple[int, ...] | None:
        """Where the part begins along each spatial axis; None for the middle."""
        return None if self.offset is None else per_axis(x, "offset", self.offset)

    def output(self, *inputs: TensorType) -> TensorType:
        x, like = inputs
        need_rank(x, 3, 5)
        need_same_axes(x, like)
        offsets = self.offsets(x) or (0,) * len(x.spatial)
        for name, size, wanted, offset in zip(AXES[len(offsets)], x.spatial, like.spatial, offsets, strict=True):
            left = size - wanted - offset
            if isinstance(left, int) and left < 0:
                what = f"{wanted} from {offset} on" if offset else f"{wanted}"
                raise ShapeError(
                    f"the {name} of {size} has no part of {what}",
                    help="the first of the two is cropped: name the larger map first",
                    argument="offset" if offset else None,
                )
        return x.with_shape(*x.shape[:2], *like.spatial)


class Pad(Op):
    """The map made larger by its rim: filled with `value`, mirrored (`reflect`), repeated (`replicate`) or `circular`.

    In: N × C × spatial (one to three axes). Out: N × C × (size + before + after).
    `sides` is a number, or for each axis a number or a pair [before, after].
    """

    kind: ClassVar[str] = "pad"

    sides: Padding
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float = 0.0

    def pairs(self, x: TensorType) -> tuple[tuple[int, int], ...]:
        """What is added before and after along each axis."""
        return tuple((side, side) if isinstance(side, int) else side for side in per_axis(x, "sides", self.sides))

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        if self.value and self.mode != "constant":
            raise ShapeError(
                f"`{self.mode}` pads with what the map has, not with a value",
                help="leave `value` out, or `mode`",
                argument="value",
            )
        sizes: list[Dim] = []
        for name, size, (before, after) in zip(AXES[len(x.spatial)], x.spatial, self.pairs(x), strict=True):
            most = {"reflect": size - 1, "circular": size}.get(self.mode)
            if isinstance(most, int) and max(before, after) > most:
                raise ShapeError(
                    f"`{self.mode}` finds {most} units in a {name} of {size}, and {max(before, after)} are asked for",
                    help=f"pad by at most {most}",
                    argument="sides",
                )
            sizes.append(size + before + after)
        return x.with_shape(*x.shape[:2], *sizes)


class ChannelShuffle(Op):
    """The channels dealt out, one of each group in turn, so that grouped convolutions read each other's.

    In and out: N × C × …, C a multiple of `groups`. Source: Zhang et al. 2017, "ShuffleNet", section 3.1.
    """

    kind: ClassVar[str] = "channel_shuffle"
    reads: ClassVar[tuple[str, ...]] = ANY

    groups: Count

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2)
        channels = need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        if channels % self.groups:
            raise ShapeError(
                f"{channels} channels can't be split into {self.groups} groups",
                help="`groups` divides the number of channels",
                argument="groups",
            )
        return x


class Cast(Op):
    """The elements as another type; a fraction is cut off where that is whole. In and out: any shape."""

    kind: ClassVar[str] = "cast"
    reads: ClassVar[tuple[str, ...]] = ANY

    to: Literal["float32", "float64", "float16", "int64", "int32", "uint8", "bool"]

    def output(self, *inputs: TensorType) -> TensorType:
        return TensorType(inputs[0].shape, self.to)
