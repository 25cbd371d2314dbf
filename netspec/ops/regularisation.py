"""Layers that act in training only."""

from typing import ClassVar, Literal

from netspec.ops.base import ANY, Op, Probability
from netspec.tensor import TensorType, need_rank


class Dropout(Op):
    """Each element is zeroed with probability `p` in training and the rest scaled by 1/(1 − p); nothing happens in use.

    In and out: any shape. Source: Srivastava et al. 2014, section 4.
    """

    kind: ClassVar[str] = "dropout"

    p: Probability = 0.5


class ChannelDropout(Op):
    """Whole channels of a sample are zeroed with probability `p` in training; nothing happens in use.

    In and out: N × C × spatial. Source: Tompson et al. 2015, "Efficient object localization", section 3.2.
    """

    kind: ClassVar[str] = "channel_dropout"

    p: Probability = 0.5

    def output(self, *inputs: TensorType) -> TensorType:
        need_rank(inputs[0], 3, 5)
        return inputs[0]


class AlphaDropout(Op):
    """Each element is set to the least that `selu` gives with probability `p` in training, and all are scaled so that
    mean and variance stay; nothing happens in use.

    In and out: any shape. Source: Klambauer et al. 2017, "Self-normalizing neural networks", section 3.
    """

    kind: ClassVar[str] = "alpha_dropout"

    p: Probability = 0.5


class StochasticDepth(Op):
    """Whole samples are zeroed with probability `p` in training and the rest scaled by 1/(1 − p); nothing in use.

    With `mode: batch` all samples of a batch share their fate. In and out: N × …; it stands at the end of a residual
    branch. Source: Huang et al. 2016, section 3.
    """

    kind: ClassVar[str] = "stochastic_depth"

    p: Probability
    mode: Literal["row", "batch"] = "row"


class Identity(Op):
    """Its input. In and out: any shape."""

    kind: ClassVar[str] = "identity"
    reads: ClassVar[tuple[str, ...]] = ANY
