"""Attention."""

from collections.abc import Iterator
from typing import ClassVar

from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Count, Line, Op, Probability, Window
from netspec.ops.merging import may_agree
from netspec.tensor import ShapeError, TensorType, Weight, need_known, write_shape


class Attention(Op):
    """Multi-head attention: queries read values by how well their keys fit, softmax(QKᵀ/√d)·V in each of `heads`.

    In: N × T × features, which reads itself; or queries N × T × features and a memory N × S × features that they read;
    or queries, keys and values. Out: N × T × features. With `causal` a place reads those up to its own. `dropout` is
    of the weights on places, in training. Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.
    """

    kind: ClassVar[str] = "attention"
    weighted: ClassVar[bool] = True
    most_inputs: ClassVar[int | None] = 3

    heads: Count
    bias: bool = True
    causal: bool = False
    dropout: Probability = 0.0

    def output(self, *inputs: TensorType) -> TensorType:
        query, key, value = self.roles(inputs)
        for what, x in (("query", query), ("key", key), ("value", value)):
            if x.rank != 3:
                raise ShapeError(
                    f"the {what} is {write_shape(x.shape)}, and places before features are read: N × T × features",
                    help="bring a map there with `{reshape: [channels, -1]}` and `{permute: [2, 1]}`",
                    code="rank-mismatch",
                )
        features = need_known(
            query.shape[2], "the number of features", "give the input a fixed size along its last axis"
        )
        if features % self.heads:
            raise ShapeError(
                f"{features} features can't be split into {self.heads} heads",
                help="`heads` divides the number of features",
                argument="heads",
            )
        for x in (key, value):
            if x.shape[2] != features:
                raise ShapeError(
                    f"queries of {features} features can't read {write_shape(x.shape)}",
                    help=f"bring it to as many first: `{{linear: {features}}}`",
                )
        if not may_agree(key, value):
            raise ShapeError(
                f"every key has a value, but there are {write_shape(key.shape)} and {write_shape(value.shape)}",
                help="the third tensor has the shape of the second",
            )
        return query

    @staticmethod
    def roles(inputs: tuple[TensorType, ...]) -> tuple[TensorType, TensorType, TensorType]:
        """The query, the key and the value among one to three inputs."""
        return inputs[0], inputs[min(1, len(inputs) - 1)], inputs[-1]

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        features = inputs[0].shape[2]
        assert isinstance(features, int)
        shapes = {
            "in_proj_weight": (3 * features, features),
            "in_proj_bias": (3 * features,),
            "out_proj.weight": (features, features),
            "out_proj.bias": (features,),
        }
        return {name: Weight(shape) for name, shape in shapes.items() if self.bias or not name.endswith("bias")}

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        """The four projections, the fit of every query to every key, and the mean of the values by it."""
        query, key, _ = self.roles(inputs)
        features, queries, keys = query.shape[2], query.shape[1], key.shape[1]
        return (queries + keys) * 2 * features * features + queries * keys * features * 2

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        query, key, _ = self.roles(inputs)
        features, queries, keys = query.shape[2], query.shape[1], key.shape[1]
        assert isinstance(features, int)
        total = sum(weight.size for weight in self.weights(*inputs).values())
        macs = self.macs(inputs, output)
        yield Line("features a head", f"{features}/{self.heads}", str(features // self.heads))
        yield Line("parameters", f"4×{features}×{features}{f' + 4×{features}' if self.bias else ''}", f"{total:,}")
        projections = f"2×({queries} + {keys})×{features}×{features}"
        yield Line(
            "MACs",
            f"{projections} + 2×{queries}×{keys}×{features}",
            f"{macs:,}" if isinstance(macs, int) else str(macs),
        )
