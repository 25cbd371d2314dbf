"""Pooling over windows."""

from collections.abc import Iterator
from typing import ClassVar

from netspec.ops.base import Count, Line, Op, Padding, PerAxis, Window
from netspec.ops.sliding import Geometry, geometry
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
