"""Activations."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.activation import Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softmax, Tanh
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


@lowers(Softmax)
class SoftmaxLowering(Lowering):
    @staticmethod
    def torch(op: Softmax, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Softmax(op.axis)

    @staticmethod
    def onnx(op: Softmax, node: Emitter) -> None:
        node.emit("Softmax", [node.inputs[0]], axis=op.axis)
