"""Smooth activations, and those that weigh elements against each other. None owns weights."""

from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import Op, axis_after_batch
from netspec.tensor import TensorType


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


class Softmax(Op):
    """eˣⁱ/Σⱼ eˣʲ along one axis (1: the channels). In and out: any shape with that axis."""

    kind: ClassVar[str] = "softmax"

    axis: int = 1

    def output(self, *inputs: TensorType) -> TensorType:
        axis_after_batch(inputs[0], self.axis)
        return inputs[0]
