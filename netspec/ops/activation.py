"""Activations: each is applied to every element, and none owns weights."""

from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import Op
from netspec.tensor import ShapeError, TensorType


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
