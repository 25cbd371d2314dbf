"""Normalisation."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from compiler.lowering.drawing import made
from netspec.ops.normalisation import BatchNorm, GroupNorm, InstanceNorm, L2Norm, LayerNorm, LocalResponseNorm
from netspec.tensor import TensorType

_BY_RANK: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@lowers(BatchNorm)
class BatchNormLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: BatchNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        (x,) = inputs
        return made(_BY_RANK[x.rank], x.shape[1], eps=op.eps, momentum=op.momentum, affine=op.affine)

    @staticmethod
    def onnx(op: BatchNorm, node: Emitter) -> None:
        scale, shift = _scale_and_shift(op.affine, node)
        running = [node.weight("running_mean"), node.weight("running_var")]
        node.emit("BatchNormalization", [node.inputs[0], scale, shift, *running], epsilon=op.eps)


@lowers(InstanceNorm)
class InstanceNormLowering(Lowering):
    @staticmethod
    def torch(op: InstanceNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        (x,) = inputs
        cls = by_rank(inputs, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
        return made(cls, x.shape[1], eps=op.eps, affine=op.affine)

    @staticmethod
    def onnx(op: InstanceNorm, node: Emitter) -> None:
        scale, shift = _scale_and_shift(op.affine, node)
        node.emit("InstanceNormalization", [node.inputs[0], scale, shift], epsilon=op.eps)


@lowers(GroupNorm)
class GroupNormLowering(Lowering):
    @staticmethod
    def torch(op: GroupNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        channels = inputs[0].shape[1]
        assert isinstance(channels, int)
        return made(nn.GroupNorm, op.groups, channels, op.eps, op.affine)

    @staticmethod
    def onnx(op: GroupNorm, node: Emitter) -> None:
        """Groups laid out as channels are normalised one by one, then each channel is scaled and shifted."""
        x = node.inputs[0]
        grouped = node.emit("Reshape", [x, node.constant("grouped_shape", [0, op.groups, -1])], part="grouped")
        ones = node.constant("ones", [1.0] * op.groups)
        zeros = node.constant("zeros", [0.0] * op.groups)
        normal = node.emit("InstanceNormalization", [grouped, ones, zeros], part="normal", epsilon=op.eps)
        shape = node.emit("Shape", [x], part="shape")
        if not op.affine:
            node.emit("Reshape", [normal, shape])
            return
        back = node.emit("Reshape", [normal, shape], part="back")
        axes = node.constant("axes", list(range(1, node.types[0].rank - 1)))
        scale = node.emit("Unsqueeze", [node.weight("weight"), axes], part="scale")
        shift = node.emit("Unsqueeze", [node.weight("bias"), axes], part="shift")
        node.emit("Add", [node.emit("Mul", [back, scale], part="scaled"), shift])


@lowers(LayerNorm)
class LayerNormLowering(Lowering):
    @staticmethod
    def torch(op: LayerNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(nn.LayerNorm, op.normalised(inputs[0]), op.eps, op.affine)

    @staticmethod
    def onnx(op: LayerNorm, node: Emitter) -> None:
        if op.affine:
            weights = [node.weight("weight"), node.weight("bias")]
        else:
            shape = op.normalised(node.types[0])
            ones = node.constant("ones", [1.0] * prod(shape))
            weights = [node.emit("Reshape", [ones, node.constant("shape", list(shape))], part="scale")]
        node.emit("LayerNormalization", [node.inputs[0], *weights], axis=-op.axes, epsilon=op.eps)


@lowers(LocalResponseNorm)
class LocalResponseNormLowering(Lowering):
    @staticmethod
    def torch(op: LocalResponseNorm, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.LocalResponseNorm(op.size, op.alpha, op.beta, op.k)

    @staticmethod
    def onnx(op: LocalResponseNorm, node: Emitter) -> None:
        node.emit("LRN", [node.inputs[0]], size=op.size, alpha=op.alpha, beta=op.beta, bias=op.k)


class UnitLength(nn.Module):
    """Each vector along an axis over its length."""

    def __init__(self, axis: int = 1, eps: float = 1e-12) -> None:
        super().__init__()
        self.axis = axis
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=self.axis, eps=self.eps)


@lowers(L2Norm)
class L2NormLowering(Lowering):
    @staticmethod
    def torch(op: L2Norm, inputs: tuple[TensorType, ...]) -> nn.Module:
        return UnitLength(op.axis, op.eps)

    @staticmethod
    def onnx(op: L2Norm, node: Emitter) -> None:
        (x,) = node.inputs
        length = node.emit("ReduceL2", [x, node.constant("axis", [op.axis])], "length")
        node.emit("Div", [x, node.emit("Max", [length, node.scalar("eps", op.eps)], "at_least_eps")])


def _scale_and_shift(affine: bool, node: Emitter) -> tuple[str, str]:
    """The trained scale and shift of each channel, or ones and zeros."""
    channels = node.types[0].shape[1]
    assert isinstance(channels, int)
    if affine:
        return node.weight("weight"), node.weight("bias")
    return node.constant("weight", [1.0] * channels), node.constant("bias", [0.0] * channels)
