"""Activations: each is applied to every element, and none owns weights."""

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


class Sigmoid(Op):
    """1/(1 + e⁻ˣ). In and out: any shape."""

    kind: ClassVar[str] = "sigmoid"


class Tanh(Op):
    """The hyperbolic tangent. In and out: any shape. Source: LeCun et al. 1998, "Efficient BackProp", section 4.4."""

    kind: ClassVar[str] = "tanh"


class Gelu(Op):
    """x·Φ(x), Φ the standard normal distribution. In and out: any shape. Source: Hendrycks & Gimpel 2016, section 2."""

    kind: ClassVar[str] = "gelu"


class Silu(Op):
    """x·sigmoid(x), also called swish. In and out: any shape. Source: Elfwing et al. 2017, equation 1."""

    kind: ClassVar[str] = "silu"


class Relu6(Op):
    """min(max(0, x), 6). In and out: any shape. Source: Howard et al. 2017, "MobileNets"; Krizhevsky 2010."""

    kind: ClassVar[str] = "relu6"


class Elu(Op):
    """x where positive, alpha·(eˣ − 1) elsewhere. In and out: any shape. Source: Clevert et al. 2015, equation 15."""

    kind: ClassVar[str] = "elu"

    alpha: Annotated[float, Argument(gt=0)] = 1.0


class Selu(Op):
    """λx where positive, λα(eˣ − 1) elsewhere. In and out: any shape. Source: Klambauer et al. 2017, equation 2."""

    kind: ClassVar[str] = "selu"


class Softplus(Op):
    """ln(1 + eˣ). In and out: any shape. Source: Dugas et al. 2000, section 4."""

    kind: ClassVar[str] = "softplus"


class Mish(Op):
    """x·tanh(ln(1 + eˣ)). In and out: any shape. Source: Misra 2019, equation 1."""

    kind: ClassVar[str] = "mish"


class HardSigmoid(Op):
    """min(max(0, x/6 + 1/2), 1). In and out: any shape. Source: Howard et al. 2019, "MobileNetV3", section 5.2."""

    kind: ClassVar[str] = "hardsigmoid"


class HardSwish(Op):
    """x·min(max(0, x/6 + 1/2), 1). In and out: any shape. Source: Howard et al. 2019, "MobileNetV3", section 5.2."""

    kind: ClassVar[str] = "hardswish"


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


class Softmax(Op):
    """eˣⁱ/Σⱼ eˣʲ along one axis (1: the channels). In and out: any shape with that axis."""

    kind: ClassVar[str] = "softmax"

    axis: int = 1

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        if not -x.rank <= self.axis < x.rank or self.axis % x.rank == 0:
            raise ShapeError(
                f"axis {self.axis} is not one of the {x.rank - 1} axes after the batch",
                help=f"axes run from 1 to {x.rank - 1}; -1 is the last",
                argument="axis",
            )
        return x
