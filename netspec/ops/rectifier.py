"""Activations that are linear in pieces: each is applied to every element."""

from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import Op
from netspec.tensor import ShapeError, TensorType, Weight, need_known, need_rank


class Relu(Op):
    """max(0, x). In and out: any shape. Source: Nair & Hinton 2010, section 2."""

    kind: ClassVar[str] = "relu"


class LeakyRelu(Op):
    """x where positive, slope·x elsewhere. In and out: any shape. Source: Maas et al. 2013, section 2."""

    kind: ClassVar[str] = "leaky_relu"

    slope: Annotated[float, Argument(ge=0)] = 0.01


class PRelu(Op):
    """x where positive, slope·x elsewhere, the slope of every channel (or one for all) being trained.

    In and out: N × C × …. Source: He et al. 2015, "Delving deep into rectifiers", equation 1.
    """

    kind: ClassVar[str] = "prelu"

    slope: float = 0.25
    per_channel: bool = False

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2)
        if self.per_channel:
            need_known(x.shape[1], "the number of channels", "give the input a fixed channel count")
        return x

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        channels = inputs[0].shape[1] if self.per_channel else 1
        assert isinstance(channels, int)
        return {"weight": Weight((channels,))}


class Relu6(Op):
    """min(max(0, x), 6). In and out: any shape. Source: Howard et al. 2017, "MobileNets"; Krizhevsky 2010."""

    kind: ClassVar[str] = "relu6"


class HardSigmoid(Op):
    """min(max(0, x/6 + 1/2), 1). In and out: any shape. Source: Howard et al. 2019, "MobileNetV3", section 5.2."""

    kind: ClassVar[str] = "hardsigmoid"


class HardSwish(Op):
    """x·min(max(0, x/6 + 1/2), 1). In and out: any shape. Source: Howard et al. 2019, "MobileNetV3", section 5.2."""

    kind: ClassVar[str] = "hardswish"


class HardTanh(Op):
    """min(max(low, x), high). In and out: any shape. Source: Collobert 2004, section 2.2."""

    kind: ClassVar[str] = "hardtanh"

    low: float = -1.0
    high: float = 1.0

    def output(self, *inputs: TensorType) -> TensorType:
        if self.low >= self.high:
            raise ShapeError(
                f"nothing lies between `low` {self.low} and `high` {self.high}",
                help="give a `high` above `low`",
                argument="low",
            )
        return inputs[0]
