"""Convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from compiler.lowering.drawing import made
from compiler.lowering.padding import (
    PaddedConv1d,
    PaddedConv2d,
    PaddedConv3d,
    even,
    fixed,
    for_onnx,
    last_axis_first,
    pad_by_size,
)
from netspec.ops.base import per_axis
from netspec.ops.convolution import Conv, ConvTranspose
from netspec.tensor import TensorType


def _weights(op: Conv | ConvTranspose, node: Emitter) -> list[str]:
    return [node.weight("weight"), *([node.weight("bias")] if op.bias else [])]


@lowers(Conv)
class ConvLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Conv, inputs: tuple[TensorType, ...]) -> nn.Module:
        shape = op.geometry(inputs[0])
        arguments = inputs[0].shape[1], op.channels, shape.kernel, shape.stride
        others = shape.dilation, op.groups, op.bias
        padding = even(shape.padding)
        if padding is not None:
            return made(by_rank(inputs, nn.Conv1d, nn.Conv2d, nn.Conv3d), *arguments, padding, *others)
        uneven = fixed(shape.padding)
        sides = tuple(last_axis_first(uneven)) if uneven is not None else ()
        return made(by_rank(inputs, PaddedConv1d, PaddedConv2d, PaddedConv3d), *arguments, *others, sides)

    @staticmethod
    def onnx(op: Conv, node: Emitter) -> None:
        shape = op.geometry(node.types[0])
        padding = fixed(shape.padding)
        node.emit(
            "Conv",
            [pad_by_size(node, shape) if padding is None else node.inputs[0], *_weights(op, node)],
            kernel_shape=shape.kernel,
            strides=shape.stride,
            pads=for_onnx(padding or [(0, 0)] * len(shape.kernel)),
            dilations=shape.dilation,
            group=op.groups,
        )


@torch.no_grad()
def interpolate(weight: Tensor, bias: Tensor | None, groups: int) -> None:
    """Sets the weights so that every channel is enlarged by (bi)linear interpolation, and the bias to zero."""
    kernel = torch.ones(())
    for size in weight.shape[2:]:
        width = (size + 1) // 2
        middle = width - 1 if size % 2 else width - 0.5
        kernel = kernel.unsqueeze(-1) * (1 - (torch.arange(size) - middle).abs() / width)
    weight.zero_()
    for channel in range(len(weight)):
        weight[channel, channel % (len(weight) // groups)] = kernel
    if bias is not None:
        bias.zero_()


class Interpolating(nn.Module):
    """Starts from linear interpolation in place of the drawn weights of what it is mixed into."""

    weight: Tensor
    bias: Tensor | None
    groups: int

    def reset_parameters(self) -> None:
        interpolate(self.weight, self.bias, self.groups)


class InterpolatingConvTranspose1d(Interpolating, nn.ConvTranspose1d):
    """A transposed convolution over one axis that starts from linear interpolation."""


class InterpolatingConvTranspose2d(Interpolating, nn.ConvTranspose2d):
    """A transposed convolution over two axes that starts from bilinear interpolation."""


class InterpolatingConvTranspose3d(Interpolating, nn.ConvTranspose3d):
    """A transposed convolution over three axes that starts from trilinear interpolation."""


_PLAIN = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
_INTERPOLATING = InterpolatingConvTranspose1d, InterpolatingConvTranspose2d, InterpolatingConvTranspose3d


@lowers(ConvTranspose)
class ConvTransposeLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: ConvTranspose, inputs: tuple[TensorType, ...]) -> nn.Module:
        classes = _INTERPOLATING if op.init == "bilinear" else _PLAIN
        return made(
            by_rank(inputs, *classes),
            inputs[0].shape[1],
            op.channels,
            op.kernel,
            op.stride,
            op.padding,
            op.output_padding,
            op.groups,
            op.bias,
            op.dilation,
        )

    @staticmethod
    def onnx(op: ConvTranspose, node: Emitter) -> None:
        shape = op.geometry(node.types[0])
        node.emit(
            "ConvTranspose",
            [node.inputs[0], *_weights(op, node)],
            kernel_shape=shape.kernel,
            strides=shape.stride,
            pads=per_axis(node.types[0], "padding", op.padding) * 2,
            output_padding=per_axis(node.types[0], "output_padding", op.output_padding),
            dilations=shape.dilation,
            group=op.groups,
        )
