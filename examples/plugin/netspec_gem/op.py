"""The op: its arguments, shape rule and weights. This is all that `netspec validate` needs."""

from typing import Annotated, ClassVar

from pydantic import Field

from netspec.ops.base import Op, Window
from netspec.tensor import TensorType, Weight, need_rank


class GemPool(Op):
    """Generalised mean pooling: the p-th root of the mean of p-th powers, with p learned.

    In: N × C × spatial. Out: N × C × 1 … . p = 1 is the mean, p → ∞ the maximum.
    Source: Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human annotation", equation 3.
    """

    kind: ClassVar[str] = "gem_pool"

    p: Annotated[float, Field(ge=1, le=100)] = 3.0  # what it begins with
    eps: Annotated[float, Field(gt=0)] = 1e-6  # below which activations are cut off, so that powers are defined

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *(1 for _ in x.spatial))

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        return {"p": Weight((1,))}

    def window(self, *inputs: TensorType) -> Window:
        return Window(inputs[0].spatial, inputs[0].spatial)
