"""The op in PyTorch and in ONNX, one under the other, so that a reader sees that they are the same function."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.tensor import TensorType
from netspec_gem.op import GemPool


class GeneralisedMean(nn.Module):
    """(mean of xᵖ)^(1/p) over the spatial axes."""

    def __init__(self, begin: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.begin = begin
        self.eps = eps
        self.p = nn.Parameter(torch.full((1,), begin))

    def forward(self, x: Tensor) -> Tensor:
        powers = x.clamp(min=self.eps).pow(self.p)
        return powers.flatten(2).mean(2).pow(1 / self.p).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))


@lowers(GemPool)
class GemPoolLowering(Lowering):
    @staticmethod
    def torch(op: GemPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return GeneralisedMean(op.p, op.eps)

    @staticmethod
    def onnx(op: GemPool, node: Emitter) -> None:
        p = node.weight("p")
        cut = node.emit("Clip", [node.inputs[0], node.scalar("eps", op.eps)], "cut")
        mean = node.emit("GlobalAveragePool", [node.emit("Pow", [cut, p], "powers")], "mean")
        node.emit("Pow", [mean, node.emit("Reciprocal", [p], "root")])
