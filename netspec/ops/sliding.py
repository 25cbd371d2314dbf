"""The arithmetic of a window that slides over spatial axes, shared by convolution and pooling."""

from collections.abc import Iterator
from dataclasses import dataclass

from netspec.dims import Dim
from netspec.ops.base import Line, Window, per_axis
from netspec.tensor import Shape, ShapeError, TensorType, write_shape

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(slots=True, eq=False)
class Geometry:
    """A sliding window on a certain input: one number for each spatial axis.

    Attributes:
        padding: units before and after; None where as many as leave ⌈size/stride⌉ of a size that is not known.
    """

    spatial: Shape
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int] | None, ...]
    dilation: tuple[int, ...]
    ceil: bool = False

    @property
    def extent(self) -> tuple[int, ...]:
        """How many input units the dilated kernel spans: d·(k − 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def window(self) -> Window:
        return Window(self.extent, self.stride)

    def sizes(self) -> Shape:
        """The output size along each axis.

        Raises:
            ShapeError: the kernel is larger than its padded input.
        """
        return tuple(self._size(axis) for axis in range(len(self.kernel)))

    def _size(self, axis: int) -> Dim:
        size, extent, stride = self.spatial[axis], self.extent[axis], self.stride[axis]
        sides = self.padding[axis]
        if sides is None:
            return (size + stride - 1) // stride
        before, after = sides
        room = size + before + after - extent
        if isinstance(room, int) and room < 0:
            padded = f"{size} + {before} + {after}" if before or after else f"{size}"
            name = AXES[len(self.kernel)][axis]
            raise ShapeError(
                f"the kernel spans {extent} along the {name}, more than its input's {padded}",
                help=f"use a kernel of at most {(room + extent - 1) // self.dilation[axis] + 1}, "
                f"pad by {(1 - room) // 2} more, or shrink the input less before",
                code="kernel-too-large",
                argument="kernel",
            )
        if not self.ceil:
            return room // stride + 1
        count = (room + stride - 1) // stride + 1
        if not isinstance(size, int) and extent < stride + after:
            raise ShapeError(
                f"with `ceil`, a window of {extent} and a stride of {stride}, the last window may see padding alone; "
                f"the size {size} must be known to tell",
                help="leave `ceil` out, or use a window of at least the stride and the padding together",
                code="free-dimension",
                argument="ceil",
            )
        if isinstance(count, int) and isinstance(size, int) and (count - 1) * stride >= size + before:
            name = AXES[len(self.kernel)][axis]
            raise ShapeError(
                f"with `ceil`, the last window along the {name} of {size} would see padding alone",
                help="leave `ceil` out: nothing of the map is cut off there",
                argument="ceil",
            )
        return count

    def explain(self) -> Iterator[Line]:
        """`⌊(28 + 2·2 − 5)/1⌋ + 1 = 28` for each axis; one line where the axes are alike."""
        lines: dict[tuple[str, str], list[str]] = {}
        for axis, name in enumerate(AXES[len(self.kernel)]):
            size, kernel, stride, dilation = (
                self.spatial[axis],
                self.kernel[axis],
                self.stride[axis],
                self.dilation[axis],
            )
            shown = str(size) if isinstance(size, int) or str(size).isidentifier() else f"({size})"
            sides = self.padding[axis]
            if sides is None:
                formula = f"⌈{shown}/{stride}⌉"
            else:
                before, after = sides
                padding = (
                    "" if before == after == 0 else f" + 2·{before}" if before == after else f" + {before} + {after}"
                )
                span = f"{kernel}" if dilation == 1 else f"{dilation}·({kernel} − 1) − 1"
                opening, closing = ("⌈", "⌉") if self.ceil else ("⌊", "⌋")
                formula = f"{opening}({shown}{padding} − {span})/{stride}{closing} + 1"
            lines.setdefault((formula, str(self._size(axis))), []).append(name)
        for (formula, result), names in lines.items():
            yield Line(", ".join(names), formula, result)


def geometry(
    x: TensorType,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: int | tuple[int | tuple[int, int], ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil: bool = False,
) -> Geometry:
    """The window for this input's axes. `same` pads so that ⌈size/stride⌉ is left, the odd unit behind.

    Raises:
        ShapeError: a list's length is not the number of axes.
    """
    kernels, strides = per_axis(x, "kernel", kernel), per_axis(x, "stride", stride)
    dilations = per_axis(x, "dilation", dilation)
    pads: tuple[tuple[int, int] | None, ...]
    if isinstance(padding, str):
        pads = tuple(_same(*axis) for axis in zip(x.spatial, kernels, strides, dilations, strict=True))
    else:
        pads = tuple((p, p) if isinstance(p, int) else p for p in per_axis(x, "padding", padding))
    return Geometry(x.spatial, kernels, strides, pads, dilations, ceil)


def strides_between(large: Shape, small: Shape) -> tuple[int, ...] | None:
    """The strides with which a window of one unit turns one size into the other, without padding; None if none do."""
    strides = []
    for a, b in zip(large, small, strict=True):
        stride = next((s for s in (1, 2, 3, 4, 8, 16, 32) if (a - 1) // s + 1 == b), None)
        if stride is None:
            return None
        strides.append(stride)
    return tuple(strides)


def _same(size: Dim, kernel: int, stride: int, dilation: int) -> tuple[int, int] | None:
    """The padding that leaves ⌈size/stride⌉ units; None where it depends on a size that is not known."""
    total = ((size + stride - 1) // stride - 1) * stride + dilation * (kernel - 1) + 1 - size
    if not isinstance(total, int):
        return None
    total = max(total, 0)
    return total // 2, total - total // 2


def need_same_axes(x: TensorType, like: TensorType) -> None:
    """Refuses a reference with other axes than the map that is to have its size.

    Raises:
        ShapeError: the ranks differ.
    """
    if x.rank != like.rank:
        raise ShapeError(
            f"a map of {len(x.spatial)} spatial axes can't have the size of {write_shape(like.shape)}",
            help=f"name a map of {x.rank} dimensions as the second",
            code="rank-mismatch",
        )
