"""Convolutions over one, two or three spatial axes."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import Count, LengthPerAxis, Line, Op, Padding, PerAxis, Window, per_axis
from netspec.ops.sliding import Geometry, for_axes, geometry
from netspec.tensor import Shape, ShapeError, TensorType, Weight, need_known, need_rank


class Conv(Op):
    """Convolution (cross-correlation) over the spatial axes.

    In: N × C × spatial (one to three axes).
    Out: N × channels × ⌊(size + 2·padding − dilation·(kernel − 1) − 1)/stride⌋ + 1.
    Padding is a number, or for each axis a number or a pair [before, after]; with `same`, ⌈size/stride⌉ is left and an
    odd unit of padding stands behind.
    Source: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", relationship 14.
    """

    kind: ClassVar[str] = "conv"
    weighted: ClassVar[bool] = True

    channels: Count
    kernel: PerAxis
    stride: PerAxis = 1
    padding: Padding | Literal["same"] = 0
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
        _check_groups(incoming, self.channels, self.groups)
        return x.with_shape(x.shape[0], self.channels, *self.geometry(x).sizes())

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        (x,) = inputs
        incoming = x.shape[1]
        assert isinstance(incoming, int)
        weights = {"weight": Weight((self.channels, incoming // self.groups, *self.geometry(x).kernel))}
        if self.bias:
            weights["bias"] = Weight((self.channels,))
        return weights

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        return self.geometry(inputs[0]).padding if self.padding == "same" else ()

    def without_effect(self, *inputs: TensorType) -> Iterator[tuple[str, str]]:
        shape = self.geometry(inputs[0])
        if set(shape.kernel) == {1} and set(shape.dilation) != {1}:
            yield "dilation", "a kernel of one unit has nothing to spread"

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
        fan_in = f"{incoming}" if self.groups == 1 else f"({incoming}/{self.groups})"
        fan = "×".join([*(str(k) for k in shape.kernel), fan_in, str(self.channels)])
        yield from _costs(fan, self.weights(x), output.spatial, self.macs(inputs, output))


class ConvTranspose(Op):
    """Transposed convolution: the gradient of `conv`, which spreads every unit over a kernel and so enlarges the map.

    In: N × C × spatial (one to three axes).
    Out: N × channels × (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.
    With `init: bilinear` training starts from the kernel of bilinear interpolation, channel by channel.
    Source: Dumoulin & Visin 2016, relationship 14; the initial kernel: Long et al. 2015, section 3.3.
    """

    kind: ClassVar[str] = "conv_transpose"
    weighted: ClassVar[bool] = True

    channels: Count
    kernel: PerAxis
    stride: PerAxis = 1
    padding: LengthPerAxis = 0
    output_padding: LengthPerAxis = 0
    dilation: PerAxis = 1
    groups: Count = 1
    bias: bool = True
    init: Literal["default", "bilinear"] = "default"

    def geometry(self, x: TensorType) -> Geometry:
        """Kernel, stride, padding and dilation for each axis of this input: the window of the gradient."""
        return geometry(x, self.kernel, self.stride, per_axis(x, "padding", self.padding), self.dilation)

    def _sizes(self, x: TensorType) -> Iterator[tuple[Dim, str]]:
        """The output size along each axis, and the formula that gives it."""
        shape = self.geometry(x)
        extras = per_axis(x, "output_padding", self.output_padding)
        for size, extent, stride, padding, extra in zip(
            x.spatial, shape.extent, shape.stride, per_axis(x, "padding", self.padding), extras, strict=True
        ):
            if extra >= stride:
                raise ShapeError(
                    f"`output_padding` of {extra} is not less than the stride of {stride}: no unit would reach there",
                    help="it tells sizes apart that one stride brings together; use a smaller one",
                    argument="output_padding",
                )
            found = (size - 1) * stride - 2 * padding + extent + extra
            if isinstance(found, int) and found < 1:
                raise ShapeError(
                    f"padding {padding} takes away all of the {found + 2 * padding} that a size of {size} grows to",
                    help="`padding` of a transposed convolution makes its output smaller; use less of it",
                    argument="padding",
                )
            less = f" − 2·{padding}" if padding else ""
            more = f" + {extra}" if extra else ""
            yield found, f"({size} − 1)·{stride}{less} + {extent}{more}"

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        incoming = need_known(x.shape[1], "the number of input channels", "give the input a fixed channel count")
        _check_groups(incoming, self.channels, self.groups)
        if self.init == "bilinear" and incoming != self.channels:
            raise ShapeError(
                f"`init: bilinear` enlarges every channel by itself, but {incoming} come in and {self.channels} go out",
                help=f"give as many `channels` as come in, {incoming}",
                argument="init",
            )
        return x.with_shape(x.shape[0], self.channels, *(size for size, _ in self._sizes(x)))

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        (x,) = inputs
        incoming = x.shape[1]
        assert isinstance(incoming, int)
        weights = {"weight": Weight((incoming, self.channels // self.groups, *self.geometry(x).kernel))}
        if self.bias:
            weights["bias"] = Weight((self.channels,))
        return weights

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        return self.weights(*inputs)["weight"].size * dims.product(inputs[0].spatial)

    def window(self, *inputs: TensorType) -> Window:
        """An output unit is reached by ⌈extent/stride⌉ units at most."""
        shape = self.geometry(inputs[0])
        extents = tuple(-(-e // s) for e, s in zip(shape.extent, shape.stride, strict=True))
        return Window(extents, (1,) * len(extents), shape.stride)

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        yield from for_axes((formula, size) for size, formula in self._sizes(x))
        fan_out = f"{self.channels}" if self.groups == 1 else f"({self.channels}/{self.groups})"
        fan = "×".join([*(str(k) for k in self.geometry(x).kernel), str(x.shape[1]), fan_out])
        yield from _costs(fan, self.weights(x), x.spatial, self.macs(inputs, output))


def _check_groups(incoming: int, outgoing: int, groups: int) -> None:
    for name, count in (("input", incoming), ("output", outgoing)):
        if count % groups:
            raise ShapeError(
                f"{count} {name} channels can't be split into {groups} groups",
                help=f"`groups` divides both channel counts: {incoming} in, {outgoing} out",
                argument="groups",
            )


def _costs(fan: str, weights: dict[str, Weight], places: Shape, macs: Dim) -> Iterator[Line]:
    """The lines for parameters and multiply-accumulates: the weight once, and at every place."""
    bias = f" + {weights['bias'].size}" if "bias" in weights else ""
    yield Line("parameters", f"{fan}{bias}", f"{sum(weight.size for weight in weights.values()):,}")
    spots = "×".join(str(size) for size in places)
    yield Line("MACs", f"{fan} × {spots}", f"{macs:,}" if isinstance(macs, int) else str(macs))
