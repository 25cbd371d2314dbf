"""Layers that act in training only: the exported graph passes their input on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from netspec.ops.base import Op
from netspec.ops.regularisation import AlphaDropout, ChannelDropout, Dropout, Identity, StochasticDepth
from netspec.tensor import TensorType


class PassedOn(Lowering):
    """What the layers have in common: in use they do nothing."""

    @staticmethod
    def onnx(op: Op, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])


@lowers(Dropout)
class DropoutLowering(PassedOn):
    @staticmethod
    def torch(op: Dropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Dropout(op.p)


@lowers(ChannelDropout)
class ChannelDropoutLowering(PassedOn):
    @staticmethod
    def torch(op: ChannelDropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)(op.p)


@lowers(AlphaDropout)
class AlphaDropoutLowering(PassedOn):
    @staticmethod
    def torch(op: AlphaDropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.AlphaDropout(op.p)


class DropSamples(nn.Module):
    """Zeroes samples, or all of a batch, with probability `p` in training, and scales what is left by 1/(1 − p)."""

    def __init__(self, p: float, together: bool) -> None:
        super().__init__()
        self.p = p
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.empty((1 if self.together else len(x), *(1 for _ in x.shape[1:])), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(1 - self.p).div_(1 - self.p)


@lowers(StochasticDepth)
class StochasticDepthLowering(PassedOn):
    @staticmethod
    def torch(op: StochasticDepth, inputs: tuple[TensorType, ...]) -> nn.Module:
        return DropSamples(op.p, together=op.mode == "batch")


@lowers(Identity)
class IdentityLowering(PassedOn):
    @staticmethod
    def torch(op: Identity, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Identity()
