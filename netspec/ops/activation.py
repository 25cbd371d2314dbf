"""Smooth activations, and those that weigh elements against each other. None owns weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field as Argument

from netspec.ops.base import SCRAMBLED, Op, Window, axis_after_batch
from netspec.tensor import ShapeError, TensorType


class Sigmoid(Op):
    """1/(1 + e⁻ˣ). In and out: any shape."""

    kind: ClassVar[str] = "sigmoid"


class Tanh(Op):
    """The hyperbolic tangent. In and out: any shape. Source: LeCun et al. 1998, "Efficient BackProp", section 4.4."""

    kind: ClassVar[str] = "tanh"


class Gelu(Op):
    """x·Φ(x), Φ the standard normal distribution, or with `tanh` x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), close to it.

    In and out: any shape. Source: Hendrycks & Gimpel 2016, section 2.
    """

    kind: ClassVar[str] = "gelu"

    approximate: Literal["none", "tanh"] = "none"


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


class LogSoftmax(Softmax):
    """The logarithm of `softmax`, x − ln Σⱼ eˣʲ along one axis (1: the channels). In and out as `softmax`."""

    kind: ClassVar[str] = "log_softmax"


class LogSigmoid(Op):
    """−ln(1 + e⁻ˣ), the logarithm of `sigmoid`. In and out: any shape."""

    kind: ClassVar[str] = "log_sigmoid"


class Softsign(Op):
    """x/(1 + |x|). In and out: any shape. Source: Glorot & Bengio 2010, section 3.3."""

    kind: ClassVar[str] = "softsign"


class Celu(Op):
    """x where positive, alpha·(e^(x/alpha) − 1) elsewhere. In and out: any shape. Source: Barron 2017, equation 2."""

    kind: ClassVar[str] = "celu"

    alpha: Annotated[float, Argument(gt=0)] = 1.0


class Glu(Op):
    """The first half of an axis, gated by the second: a·sigmoid(b). The axis (1: the channels) has an even size.

    In: N × …. Out: the same with half the size along `axis`. Source: Dauphin et al. 2017, equation 1.
    """

    kind: ClassVar[str] = "glu"

    axis: int = 1

    def half(self, x: TensorType) -> int:
        """The size of a half."""
        size = x.shape[axis_after_batch(x, self.axis)]
        if not isinstance(size, int) or size % 2:
            why = "is odd" if isinstance(size, int) else "is not known to be even"
            raise ShapeError(
                f"axis {self.axis} can't be halved: its size, {size}, {why}",
                help="gate an axis of a fixed, even size",
                argument="axis",
            )
        return size // 2

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        axis = axis_after_batch(x, self.axis)
        return x.with_shape(*x.shape[:axis], self.half(x), *x.shape[axis + 1 :])

    def window(self, *inputs: TensorType) -> Window | None:
        return None if axis_after_batch(inputs[0], self.axis) == 1 else SCRAMBLED
