"""Normalisation."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import Count, Line, Op, axis_after_batch
from netspec.tensor import ShapeError, TensorType, Weight, need_known, need_rank


class BatchNorm(Op):
    """Batch normalisation over every dimension but the channels, (x − μ)/√(σ² + eps)·γ + β.

    In and out: N × C or N × C × spatial. In training μ and σ² are the batch's, and running means of them are kept with
    `momentum`; in use they are the running ones. Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
    """

    kind: ClassVar[str] = "batchnorm"

    eps: Annotated[float, Argument(gt=0)] = 1e-5
    momentum: Annotated[float, Argument(gt=0, le=1)] = 0.1
    affine: bool = True

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2, 5)
        need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        return x

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        channels = inputs[0].shape[1]
        assert isinstance(channels, int)
        return _scale_and_shift(inputs[0], self.affine) | {
            "running_mean": Weight((channels,), "buffer"),
            "running_var": Weight((channels,), "buffer"),
            "num_batches_tracked": Weight((), "buffer"),
        }

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        channels = inputs[0].shape[1]
        assert isinstance(channels, int)
        if self.affine:
            yield Line("parameters", f"2×{channels}", f"{2 * channels:,}")


def _check_channels(x: TensorType) -> int:
    """The channels of a tensor with spatial dimensions."""
    need_rank(x, 3, 5)
    return need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")


def _scale_and_shift(x: TensorType, affine: bool) -> dict[str, Weight]:
    """A trained scale and shift for each channel, where there are any."""
    channels = x.shape[1]
    assert isinstance(channels, int)
    return {"weight": Weight((channels,)), "bias": Weight((channels,))} if affine else {}


class InstanceNorm(Op):
    """Normalisation of every channel of every sample over its spatial dimensions.

    In and out: N × C × spatial. Source: Ulyanov et al. 2016, "Instance normalization", equation 1.
    """

    kind: ClassVar[str] = "instancenorm"

    eps: Annotated[float, Argument(gt=0)] = 1e-5
    affine: bool = False

    def output(self, *inputs: TensorType) -> TensorType:
        _check_channels(inputs[0])
        return inputs[0]

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        return (inputs[0].shape[1],)

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        return _scale_and_shift(inputs[0], self.affine)


class GroupNorm(Op):
    """Normalisation over groups of channels of a sample, with a scale and shift for each channel.

    In and out: N × C × spatial, C a multiple of `groups`. Source: Wu & He 2018, "Group normalization", equation 7.
    """

    kind: ClassVar[str] = "groupnorm"

    groups: Count
    eps: Annotated[float, Argument(gt=0)] = 1e-5
    affine: bool = True

    def output(self, *inputs: TensorType) -> TensorType:
        channels = _check_channels(inputs[0])
        if channels % self.groups:
            raise ShapeError(
                f"{channels} channels can't be split into {self.groups} groups",
                help="`groups` divides the number of channels",
                argument="groups",
            )
        return inputs[0]

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        return (inputs[0].shape[1],)

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        return _scale_and_shift(inputs[0], self.affine)


class LayerNorm(Op):
    """Normalisation of every sample over its last `axes` dimensions, each element with its own scale and shift.

    In and out: N × … × features. Source: Ba et al. 2016, "Layer normalization", equation 4.
    """

    kind: ClassVar[str] = "layernorm"

    axes: Count = 1
    eps: Annotated[float, Argument(gt=0)] = 1e-5
    affine: bool = True

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, self.axes + 1)
        for dim in x.shape[-self.axes :]:
            need_known(dim, "the normalised size", "fix the input's size, or normalise fewer `axes`")
        return x

    def normalised(self, x: TensorType) -> tuple[int, ...]:
        """The dimensions that are normalised over."""
        return tuple(dim for dim in x.shape[-self.axes :] if isinstance(dim, int))

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        return self.normalised(inputs[0])

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        shape = self.normalised(inputs[0])
        return {"weight": Weight(shape), "bias": Weight(shape)} if self.affine else {}


class LocalResponseNorm(Op):
    """Each element over (k + alpha/size · Σ x²)^beta, summed over `size` neighbouring channels, an odd number.

    In and out: N × C × H × W. Source: Krizhevsky et al. 2012, section 3.3 (there alpha is not divided by size).
    """

    kind: ClassVar[str] = "lrn"

    size: Count
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 4, 4)
        if self.size % 2 == 0:
            raise ShapeError(
                f"{self.size} neighbouring channels have no middle", help="give an odd `size`", argument="size"
            )
        return x


class L2Norm(Op):
    """Each vector along an axis over its length, x / max(‖x‖₂, eps): of a map, the channels of every place.

    In and out: any shape. A scale for each channel is a `parameter` that it is multiplied with.
    Source: Liu et al. 2015, "ParseNet", section 3.3; Liu et al. 2016, "SSD", section 3.1.
    """

    kind: ClassVar[str] = "l2norm"

    axis: int = 1
    eps: Annotated[float, Argument(gt=0)] = 1e-12

    def output(self, *inputs: TensorType) -> TensorType:
        axis_after_batch(inputs[0], self.axis)
        return inputs[0]
