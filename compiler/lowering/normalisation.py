"""Normalisation."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.normalisation import BatchNorm
from netspec.tensor import TensorType

_BY_RANK: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@lowers(BatchNorm)
class BatchNormLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: BatchNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        (x,) = inputs
        return _BY_RANK[x.rank](x.shape[1], eps=op.eps, momentum=op.momentum, affine=op.affine)

    @staticmethod
    def onnx(op: BatchNorm, node: Emitter) -> None:
        channels = node.types[0].shape[1]
        assert isinstance(channels, int)
        scale = node.weight("weight") if op.affine else node.constant("weight", [1.0] * channels)
        shift = node.weight("bias") if op.affine else node.constant("bias", [0.0] * channels)
        running = [node.weight("running_mean"), node.weight("running_var")]
        node.emit("BatchNormalization", [node.inputs[0], scale, shift, *running], epsilon=op.eps)
