"""Maps made finer or coarser, and places exchanged for channels."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from netspec.dims import Dim, evaluate, symbols
from netspec.ops.base import Count, Line, Op, PerAxis, Window, per_axis
from netspec.ops.sliding import AXES, need_same_axes
from netspec.tensor import ShapeError, TensorType, need_known, need_rank, write_shape

Mode = Literal["nearest", "linear", "bilinear", "trilinear", "bicubic"]

_AXES_OF = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}
_UNITS_READ = {"nearest": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4}
_LARGE = 2**16


class Upsample(Op):
    """The map made finer by a whole factor along each spatial axis.

    In: N × C × spatial (one to three axes). Out: N × C × size·factor.
    `nearest` repeats every unit; `linear`, `bilinear` and `trilinear`, for one, two and three axes, and `bicubic` weigh
    the units around each place. With `align_corners` the corners' centres stay in the corners, otherwise the map's
    edges do. Source for `bicubic`: Keys 1981, "Cubic convolution interpolation for digital image processing", a = −3/4.
    """

    kind: ClassVar[str] = "upsample"

    factor: PerAxis
    mode: Mode = "nearest"
    align_corners: bool = False

    def factors(self, x: TensorType) -> tuple[int, ...]:
        """The factor for each spatial axis."""
        return per_axis(x, "factor", self.factor)

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        _check_mode(x, self.mode, self.align_corners)
        return x.with_shape(*x.shape[:2], *(size * f for size, f in zip(x.spatial, self.factors(x), strict=True)))

    def window(self, *inputs: TensorType) -> Window:
        (x,) = inputs
        axes = len(x.spatial)
        return Window((_UNITS_READ[self.mode],) * axes, (1,) * axes, self.factors(x))

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        for name, *numbers, found in zip(AXES[len(x.spatial)], x.spatial, self.factors(x), output.spatial, strict=True):
            yield Line(name, "·".join(str(number) for number in numbers), str(found))


class Resize(Op):
    """The map brought to a size, by the modes of `upsample`.

    In: N × C × spatial (one to three axes). Out: N × C × size. The unit i of `nearest` is that at ⌊i·old/new⌋.
    """

    kind: ClassVar[str] = "resize"

    size: PerAxis
    mode: Mode = "nearest"
    align_corners: bool = False

    def sizes(self, x: TensorType) -> tuple[int, ...]:
        """The new size along each axis."""
        return per_axis(x, "size", self.size)

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        _check_mode(x, self.mode, self.align_corners)
        return x.with_shape(*x.shape[:2], *self.sizes(x))

    def window(self, *inputs: TensorType) -> Window:
        (x,) = inputs
        return Window((_UNITS_READ[self.mode],) * len(x.spatial), x.spatial, self.sizes(x))


class ResizeLike(Op):
    """The first map brought to the size of the second, by the modes of `upsample`.

    In: N × C × spatial, and N × any × spatial of as many axes. Out: N × C × the second's spatial.
    Source: Lin et al. 2017, "Feature pyramid networks", section 3, where a coarse map meets a finer one.
    """

    kind: ClassVar[str] = "resize_like"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    mode: Mode = "nearest"
    align_corners: bool = False

    def output(self, *inputs: TensorType) -> TensorType:
        x, like = inputs
        _check_mode(x, self.mode, self.align_corners)
        need_same_axes(x, like)
        return x.with_shape(*x.shape[:2], *like.spatial)

    def window(self, *inputs: TensorType) -> Window:
        """The jump of the two is the finer map's, in which units of a coarse first map lie a ratio apart."""
        x, like = inputs
        apart = tuple(_ratio(new, old) for old, new in zip(x.spatial, like.spatial, strict=True))
        coarser = tuple(_ratio(old, new) for old, new in zip(x.spatial, like.spatial, strict=True))
        return Window(tuple(1 + (_UNITS_READ[self.mode] - 1) * ratio for ratio in apart), coarser)


class PixelShuffle(Op):
    """Groups of factor² channels laid out as factor × factor places: the sub-pixel convolution's second half.

    In: N × C·factor² × H × W. Out: N × C × H·factor × W·factor. Source: Shi et al. 2016, equation 4.
    """

    kind: ClassVar[str] = "pixel_shuffle"

    factor: Count

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 4, 4)
        channels = need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        if channels % self.factor**2:
            raise ShapeError(
                f"{channels} channels can't be laid out as {self.factor} × {self.factor} places",
                help=f"give it a multiple of {self.factor**2} channels",
                argument="factor",
            )
        height, width = x.spatial
        return x.with_shape(x.shape[0], channels // self.factor**2, height * self.factor, width * self.factor)

    def window(self, *inputs: TensorType) -> Window:
        return Window((1, 1), (1, 1), (self.factor, self.factor))


class PixelUnshuffle(Op):
    """Blocks of factor × factor places stacked as channels: `pixel_shuffle` undone.

    In: N × C × H × W, multiples of `factor`. Out: N × C·factor² × H/factor × W/factor. Source: Shi et al. 2016,
    section 3.2.
    """

    kind: ClassVar[str] = "pixel_unshuffle"

    factor: Count

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 4, 4)
        channels = need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        for name, size in zip(AXES[2], x.spatial, strict=True):
            if isinstance(size, int) and size % self.factor:
                raise ShapeError(
                    f"a {name} of {size} can't be cut into blocks of {self.factor}",
                    help=f"bring it to a multiple of {self.factor} first, with `pad` or `resize`",
                    argument="factor",
                )
        height, width = x.spatial
        return x.with_shape(x.shape[0], channels * self.factor**2, height // self.factor, width // self.factor)

    def window(self, *inputs: TensorType) -> Window:
        return Window((self.factor, self.factor), (self.factor, self.factor))


def _check_mode(x: TensorType, mode: Mode, align_corners: bool) -> None:
    """Refuses a mode that is for another number of axes."""
    need_rank(x, 3, 5)
    axes = len(x.spatial)
    if _AXES_OF.get(mode, axes) != axes:
        fitting = [name for name in _UNITS_READ if _AXES_OF.get(name, axes) == axes]
        raise ShapeError(
            f"`{mode}` is for {_AXES_OF[mode]} spatial axes, and {write_shape(x.shape)} has {axes}",
            help="use " + " or ".join(f"`{name}`" for name in fitting),
            argument="mode",
        )
    if align_corners and mode == "nearest":
        raise ShapeError(
            "`nearest` weighs no units, so it has no corners to align",
            help="give another `mode`, or leave `align_corners` out",
            argument="align_corners",
        )


def _ratio(a: Dim, b: Dim) -> int:
    """How many times the second size goes into the first, at least once; of free sizes, when they are large."""
    first, second = (evaluate(dim, dict.fromkeys(symbols(dim), _LARGE)) for dim in (a, b))
    assert isinstance(first, int) and isinstance(second, int)
    return max(1, round(first / max(1, second)))
