"""Pooling over windows and over whole maps."""

from collections.abc import Iterator
from typing import ClassVar

from netspec.ops.base import Count, Line, Op, Padding, PerAxis, Window, per_axis
from netspec.ops.sliding import AXES, Geometry, geometry
from netspec.tensor import ShapeError, TensorType, need_rank


class Pooling(Op):
    """What pooling over windows has in common. The stride is the kernel where none is given.

    In: N × C × spatial (one to three axes). Out: N × C × ⌊(size + 2·padding − kernel)/stride⌋ + 1; ⌈ ⌉ with `ceil`.
    Source: Dumoulin & Visin 2016, relationship 15.
    """

    kernel: PerAxis
    stride: PerAxis | None = None
    padding: Padding = 0
    ceil: bool = False

    def geometry(self, x: TensorType) -> Geometry:
        """Kernel, stride and padding for each axis of this input."""
        shape = geometry(
            x, self.kernel, self.kernel if self.stride is None else self.stride, self.padding, 1, self.ceil
        )
        for kernel, sides in zip(shape.kernel, shape.padding, strict=True):
            widest = max(sides or (0,))
            if 2 * widest > kernel:
                raise ShapeError(
                    f"padding {widest} is more than half of the kernel {kernel}: a window could lie in padding alone",
                    help=f"pad by at most {kernel // 2}",
                    argument="padding",
                )
        return shape

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *self.geometry(x).sizes())

    def window(self, *inputs: TensorType) -> Window:
        return self.geometry(inputs[0]).window()

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        return self.geometry(inputs[0]).explain()


class MaxPool(Pooling):
    """The greatest value of each window. In and out as `Pooling`; padding counts as −∞."""

    kind: ClassVar[str] = "maxpool"


class AvgPool(Pooling):
    """The mean of each window. In and out as `Pooling`; padding counts as zeros unless `count_padding` is false."""

    kind: ClassVar[str] = "avgpool"

    count_padding: bool = True


class LpPool(Pooling):
    """The p-norm of each window, (Σ|x|ᵖ)^(1/p). In and out as `Pooling`; padding counts as zeros.

    Source: Sermanet et al. 2012, "Convolutional neural networks applied to house numbers digit classification".
    """

    kind: ClassVar[str] = "lppool"

    p: Count = 2


class _GlobalPool(Op):
    """One value for each channel's whole map."""

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *(1 for _ in x.spatial))

    def window(self, *inputs: TensorType) -> Window:
        spatial = inputs[0].spatial
        return Window(spatial, spatial)


class GlobalAvgPool(_GlobalPool):
    """The mean of each channel's whole map.

    In: N × C × spatial. Out: N × C × 1 for each spatial axis.
    Source: Lin et al. 2013, "Network In Network", section 3.2.
    """

    kind: ClassVar[str] = "global_avgpool"


class GlobalMaxPool(_GlobalPool):
    """The greatest value of each channel's whole map.

    In: N × C × spatial. Out: N × C × 1 for each spatial axis. Source: Oquab et al. 2015, section 3.
    """

    kind: ClassVar[str] = "global_maxpool"


class AdaptivePool(Op):
    """What pooling over parts of the map has in common: part i of an axis spans ⌊i·L/size⌋ to ⌈(i + 1)·L/size⌉.

    In: N × C × spatial (one to three axes). Out: N × C × size.
    """

    size: PerAxis

    def sizes(self, x: TensorType) -> tuple[int, ...]:
        """The output size along each axis."""
        return per_axis(x, "size", self.size)

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *self.sizes(x))

    def window(self, *inputs: TensorType) -> Window:
        """The widest of the parts, which overlap where the size does not divide the map."""
        (x,) = inputs
        parts = self.sizes(x)
        return Window(
            tuple(-(-length // size) for length, size in zip(x.spatial, parts, strict=True)),
            x.spatial,
            parts,
        )

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        for name, length, size in zip(AXES[len(x.spatial)], x.spatial, self.sizes(x), strict=True):
            yield Line(name, f"{length} in {size} parts", str(size))


class AdaptiveAvgPool(AdaptivePool):
    """The mean of each of `size` parts of the map: part i of an axis of L spans ⌊i·L/size⌋ to ⌈(i + 1)·L/size⌉.

    In: N × C × spatial (one to three axes). Out: N × C × size. Source: He et al. 2014, "Spatial pyramid pooling",
    section 2.3.
    """

    kind: ClassVar[str] = "adaptive_avgpool"


class AdaptiveMaxPool(AdaptivePool):
    """The greatest value of each of `size` parts of the map, which are those of `adaptive_avgpool`.

    In: N × C × spatial (one to three axes). Out: N × C × size. Source: He et al. 2014, section 2.3.
    """

    kind: ClassVar[str] = "adaptive_maxpool"
