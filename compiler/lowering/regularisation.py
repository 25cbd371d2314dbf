"""Layers that act in training only: the exported graph passes their input on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from netspec.ops.regularisation import ChannelDropout, Dropout, Identity, StochasticDepth
from netspec.tensor import TensorType


@lowers(Dropout)
class DropoutLowering(Lowering):
    @staticmethod
    def torch(op: Dropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Dropout(op.p)

    @staticmethod
    def onnx(op: Dropout, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])


@lowers(ChannelDropout)
class ChannelDropoutLowering(Lowering):
    @staticmethod
    def torch(op: ChannelDropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)(op.p)

    @staticmethod
    def onnx(op: ChannelDropout, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])


class DropSamples(nn.Module):
    """Zeroes whole samples with probability `p` in training, and scales the others by 1/(1 − p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.empty((len(x), *(1 for _ in x.shape[1:])), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(1 - self.p).div_(1 - self.p)


@lowers(StochasticDepth)
class StochasticDepthLowering(Lowering):
    @staticmethod
    def torch(op: StochasticDepth, inputs: tuple[TensorType, ...]) -> nn.Module:
        return DropSamples(op.p)

    @staticmethod
    def onnx(op: StochasticDepth, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])


@lowers(Identity)
class IdentityLowering(Lowering):
    @staticmethod
    def torch(op: Identity, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Identity()

    @staticmethod
    def onnx(op: Identity, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])
