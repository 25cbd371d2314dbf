"""Pooling."""

from __future__ import annotations

from typing import Any

from torch import nn

from compiler.lowering.base import Emitter, Lowering, by_rank, lowers
from netspec.ops.pooling import AvgPool, GlobalAvgPool, MaxPool, Pooling
from netspec.tensor import TensorType


def _window(op: Pooling, node: Emitter) -> dict[str, Any]:
    shape = op.geometry(node.types[0])
    return {
        "kernel_shape": shape.kernel,
        "strides": shape.stride,
        "pads": [before for before, _ in shape.padding] + [after for _, after in shape.padding],
        "ceil_mode": int(op.ceil),
    }


@lowers(MaxPool)
class MaxPoolLowering(Lowering):
    @staticmethod
    def torch(op: MaxPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)(
            op.kernel, op.stride, op.padding, ceil_mode=op.ceil
        )

    @staticmethod
    def onnx(op: MaxPool, node: Emitter) -> None:
        node.emit("MaxPool", [node.inputs[0]], **_window(op, node))


@lowers(AvgPool)
class AvgPoolLowering(Lowering):
    @staticmethod
    def torch(op: AvgPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)(
            op.kernel, op.stride, op.padding, ceil_mode=op.ceil, count_include_pad=op.count_padding
        )

    @staticmethod
    def onnx(op: AvgPool, node: Emitter) -> None:
        node.emit("AveragePool", [node.inputs[0]], **_window(op, node), count_include_pad=int(op.count_padding))


@lowers(GlobalAvgPool)
class GlobalAvgPoolLowering(Lowering):
    @staticmethod
    def torch(op: GlobalAvgPool, inputs: tuple[TensorType, ...]) -> nn.Module:
        return by_rank(inputs, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)(1)

    @staticmethod
    def onnx(op: GlobalAvgPool, node: Emitter) -> None:
        node.emit("GlobalAveragePool", [node.inputs[0]])
