"""Smooth activations, and those that weigh elements against each other."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.activation import Elu, Gelu, Mish, Selu, Sigmoid, Silu, Softmax, Softplus, Tanh
from netspec.tensor import TensorType


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


@lowers(Softmax)
class SoftmaxLowering(Lowering):
    @staticmethod
    def torch(op: Softmax, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Softmax(op.axis)

    @staticmethod
    def onnx(op: Softmax, node: Emitter) -> None:
        node.emit("Softmax", [node.inputs[0]], axis=op.axis)
