"""Convolutions over one, two or three spatial axes."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import Count, LengthPerAxis, Line, Op, PerAxis, Window
from netspec.ops.sliding import Geometry, geometry
from netspec.tensor import ShapeError, TensorType, Weight, need_known, need_rank


class Conv(Op):
    """Convolution (cross-correlation) over the spatial axes.

    In: N × C × spatial (one to three axes).
    Out: N × channels × ⌊(size + 2·padding − dilation·(kernel − 1) − 1)/stride⌋ + 1.
    Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 14.
    """

    kind: ClassVar[str] = "conv"
    weighted: ClassVar[bool] = True

    channels: Count
    kernel: PerAxis
    stride: PerAxis = 1
    padding: LengthPerAxis | Literal["same"] = 0
    dilation: PerAxis = 1
    groups: Count = 1
    bias: bool = True

    def geometry(self, x: TensorType) -> Geometry:
        """Kernel, stride, padding and dilation for each axis of this input."""
        return geometry(x, self.kernel, self.stride, self.padding, self.dilation)

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        incoming = need_known(x.shape[1], "the number of input channels", "give the input a fixed channel count")
        for name, count in (("input", incoming), ("output", self.channels)):
            if count % self.groups:
                raise ShapeError(
                    f"{count} {name} channels can't be split into {self.groups} groups",
                    help=f"`groups` divides both channel counts: {incoming} in, {self.channels} out",
                    argument="groups",
                )
        return x.with_shape(x.shape[0], self.channels, *self.geometry(x).sizes())

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        (x,) = inputs
        incoming = x.shape[1]
        assert isinstance(incoming, int)
        weights = {"weight": Weight((self.channels, incoming // self.groups, *self.geometry(x).kernel))}
        if self.bias:
            weights["bias"] = Weight((self.channels,))
        return weights

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        weight = self.weights(*inputs)["weight"]
        return weight.size * dims.product(output.spatial)

    def window(self, *inputs: TensorType) -> Window:
        return self.geometry(inputs[0]).window()

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        shape = self.geometry(x)
        yield from shape.explain()
        incoming = x.shape[1]
        assert isinstance(incoming, int)
        kernel = "×".join(str(k) for k in shape.kernel)
        fan_in = f"{kernel}×{incoming}" if self.groups == 1 else f"{kernel}×({incoming}/{self.groups})"
        bias = f" + {self.channels}" if self.bias else ""
        total = sum(weight.size for weight in self.weights(x).values())
        yield Line("parameters", f"{fan_in}×{self.channels}{bias}", f"{total:,}")
        places = "×".join(str(size) for size in output.spatial)
        macs = self.macs(inputs, output)
        yield Line("MACs", f"{fan_in}×{self.channels} × {places}", f"{macs:,}" if isinstance(macs, int) else str(macs))
