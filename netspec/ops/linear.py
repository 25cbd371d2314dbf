"""Fully connected layers and the flattening before them."""

from collections.abc import Iterator
from typing import ClassVar

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import ANY, Count, Line, Op, Window
from netspec.tensor import TensorType, Weight, need_known, need_rank


class Linear(Op):
    """A fully connected layer, y = xWᵀ + b, over the last dimension.

    In: N × … × features. Out: N × … × `features`. Source: Goodfellow et al. 2016, "Deep Learning", section 6.1.
    """

    kind: ClassVar[str] = "linear"
    weighted: ClassVar[bool] = True

    features: Count
    bias: bool = True

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2)
        need_known(
            x.shape[-1],
            "the number of input features",
            "fix the input's size, or put a `global_avgpool` before the `flatten`",
        )
        return x.with_shape(*x.shape[:-1], self.features)

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        incoming = inputs[0].shape[-1]
        assert isinstance(incoming, int)
        weights = {"weight": Weight((self.features, incoming))}
        if self.bias:
            weights["bias"] = Weight((self.features,))
        return weights

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        weight = self.weights(*inputs)["weight"]
        return weight.size * dims.product(output.shape[1:-1])

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        incoming = inputs[0].shape[-1]
        total = sum(weight.size for weight in self.weights(*inputs).values())
        bias = f" + {self.features}" if self.bias else ""
        yield Line("parameters", f"{incoming}×{self.features}{bias}", f"{total:,}")
        places = "".join(f" × {size}" for size in output.shape[1:-1])
        macs = self.macs(inputs, output)
        yield Line("MACs", f"{incoming}×{self.features}{places}", f"{macs:,}" if isinstance(macs, int) else str(macs))


class Flatten(Op):
    """All dimensions of a sample as one.

    In: N × d1 × … × dk. Out: N × d1·…·dk, in row-major order.
    """

    kind: ClassVar[str] = "flatten"
    reads: ClassVar[tuple[str, ...]] = ANY

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 2)
        return x.with_shape(x.shape[0], dims.product(x.shape[1:]))

    def window(self, *inputs: TensorType) -> Window | None:
        spatial = inputs[0].spatial
        return Window(spatial, spatial) if spatial else None

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        yield Line("features", "×".join(str(size) for size in inputs[0].shape[1:]), str(output.shape[1]))
