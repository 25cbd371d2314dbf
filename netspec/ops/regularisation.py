"""Layers that act in training only."""

from typing import ClassVar

from netspec.ops.base import Op, Probability


class Dropout(Op):
    """Each element is zeroed with probability `p` in training and the rest scaled by 1/(1 − p); nothing happens in use.

    In and out: any shape. Source: Srivastava et al. 2014, section 4.
    """

    kind: ClassVar[str] = "dropout"

    p: Probability = 0.5


class Identity(Op):
    """Its input. In and out: any shape."""

    kind: ClassVar[str] = "identity"
