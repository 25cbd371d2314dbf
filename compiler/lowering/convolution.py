"""Convolutions."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from netspec.ops.convolution import Conv
from netspec.tensor import TensorType


@lowers(Conv)
class ConvLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Conv, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.Conv1d, nn.Conv2d, nn.Conv3d)(
            inputs[0].shape[1], op.channels, op.kernel, op.stride, op.padding, op.dilation, op.groups, op.bias
        )

    @staticmethod
    def onnx(op: Conv, node: Emitter) -> None:
        shape = op.geometry(node.types[0])
        weights = [node.weight("weight"), *([node.weight("bias")] if op.bias else [])]
        node.emit(
            "Conv",
            [node.inputs[0], *weights],
            kernel_shape=shape.kernel,
            strides=shape.stride,
            pads=[before for before, _ in shape.padding] + [after for _, after in shape.padding],
            dilations=shape.dilation,
            group=op.groups,
        )
