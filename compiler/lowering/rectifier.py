"""Activations that are linear in pieces."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.drawing import made
from netspec.ops.rectifier import HardSigmoid, HardSwish, HardTanh, LeakyRelu, PRelu, Relu, Relu6
from netspec.tensor import TensorType


@lowers(Relu)
class ReluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Relu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(nn.ReLU)

    @staticmethod
    def onnx(op: Relu, node: Emitter) -> None:
        node.emit("Relu", [node.inputs[0]])


@lowers(LeakyRelu)
class LeakyReluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: LeakyRelu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(nn.LeakyReLU, op.slope)

    @staticmethod
    def onnx(op: LeakyRelu, node: Emitter) -> None:
        node.emit("LeakyRelu", [node.inputs[0]], alpha=op.slope)


@lowers(PRelu)
class PReluLowering(Lowering):
    @staticmethod
    def torch(op: PRelu, inputs: tuple[TensorType, ...]) -> nn.Module:
        channels = inputs[0].shape[1] if op.per_channel else 1
        assert isinstance(channels, int)
        return nn.PReLU(channels, op.slope)

    @staticmethod
    def onnx(op: PRelu, node: Emitter) -> None:
        slope = node.weight("weight")
        spatial = node.types[0].rank - 2
        if op.per_channel and spatial:  # a slope of C numbers would be laid along the last axis
            axes = node.constant("axes", list(range(1, spatial + 1)))
            slope = node.emit("Unsqueeze", [slope, axes], part="slope")
        node.emit("PRelu", [node.inputs[0], slope])


@lowers(Relu6)
class Relu6Lowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Relu6, inputs: tuple[TensorType, ...]) -> nn.Module:
        return made(nn.ReLU6)

    @staticmethod
    def onnx(op: Relu6, node: Emitter) -> None:
        node.emit("Clip", [node.inputs[0], node.scalar("low", 0.0), node.scalar("high", 6.0)])


@lowers(HardSigmoid)
class HardSigmoidLowering(Lowering):
    @staticmethod
    def torch(op: HardSigmoid, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Hardsigmoid()

    @staticmethod
    def onnx(op: HardSigmoid, node: Emitter) -> None:
        node.emit("HardSigmoid", [node.inputs[0]], alpha=1 / 6, beta=0.5)


@lowers(HardSwish)
class HardSwishLowering(Lowering):
    @staticmethod
    def torch(op: HardSwish, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Hardswish()

    @staticmethod
    def onnx(op: HardSwish, node: Emitter) -> None:
        node.emit("HardSwish", [node.inputs[0]])


@lowers(HardTanh)
class HardTanhLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: HardTanh, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Hardtanh(op.low, op.high)

    @staticmethod
    def onnx(op: HardTanh, node: Emitter) -> None:
        node.emit("Clip", [node.inputs[0], node.scalar("low", op.low), node.scalar("high", op.high)])
