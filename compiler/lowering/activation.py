"""Activations."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.activation import (
    Elu,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Mish,
    PRelu,
    Relu,
    Relu6,
    Selu,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Tanh,
)
from netspec.tensor import TensorType


@lowers(Relu)
class ReluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Relu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.ReLU()

    @staticmethod
    def onnx(op: Relu, node: Emitter) -> None:
        node.emit("Relu", [node.inputs[0]])


@lowers(LeakyRelu)
class LeakyReluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: LeakyRelu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.LeakyReLU(op.slope)

    @staticmethod
    def onnx(op: LeakyRelu, node: Emitter) -> None:
        node.emit("LeakyRelu", [node.inputs[0]], alpha=op.slope)


@lowers(Sigmoid)
class SigmoidLowering(Lowering):
    @staticmethod
    def torch(op: Sigmoid, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Sigmoid()

    @staticmethod
    def onnx(op: Sigmoid, node: Emitter) -> None:
        node.emit("Sigmoid", [node.inputs[0]])


@lowers(Tanh)
class TanhLowering(Lowering):
    @staticmethod
    def torch(op: Tanh, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Tanh()

    @staticmethod
    def onnx(op: Tanh, node: Emitter) -> None:
        node.emit("Tanh", [node.inputs[0]])


@lowers(Gelu)
class GeluLowering(Lowering):
    @staticmethod
    def torch(op: Gelu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.GELU()

    @staticmethod
    def onnx(op: Gelu, node: Emitter) -> None:
        node.emit("Gelu", [node.inputs[0]])


@lowers(Silu)
class SiluLowering(Lowering):
    @staticmethod
    def torch(op: Silu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.SiLU()

    @staticmethod
    def onnx(op: Silu, node: Emitter) -> None:
        gate = node.emit("Sigmoid", [node.inputs[0]], part="gate")
        node.emit("Mul", [node.inputs[0], gate])


@lowers(Elu)
class EluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Elu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.ELU(op.alpha)

    @staticmethod
    def onnx(op: Elu, node: Emitter) -> None:
        node.emit("Elu", [node.inputs[0]], alpha=op.alpha)


@lowers(Selu)
class SeluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Selu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.SELU()

    @staticmethod
    def onnx(op: Selu, node: Emitter) -> None:
        node.emit("Selu", [node.inputs[0]])


@lowers(Softplus)
class SoftplusLowering(Lowering):
    @staticmethod
    def torch(op: Softplus, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Softplus()

    @staticmethod
    def onnx(op: Softplus, node: Emitter) -> None:
        node.emit("Softplus", [node.inputs[0]])


@lowers(Mish)
class MishLowering(Lowering):
    @staticmethod
    def torch(op: Mish, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Mish()

    @staticmethod
    def onnx(op: Mish, node: Emitter) -> None:
        node.emit("Mish", [node.inputs[0]])


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


@lowers(Relu6)
class Relu6Lowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Relu6, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.ReLU6()

    @staticmethod
    def onnx(op: Relu6, node: Emitter) -> None:
        node.emit("Clip", [node.inputs[0], node.scalar("low", 0.0), node.scalar("high", 6.0)])


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


@lowers(Softmax)
class SoftmaxLowering(Lowering):
    @staticmethod
    def torch(op: Softmax, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Softmax(op.axis)

    @staticmethod
    def onnx(op: Softmax, node: Emitter) -> None:
        node.emit("Softmax", [node.inputs[0]], axis=op.axis)
