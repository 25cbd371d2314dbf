"""Smooth activations, and those that weigh elements against each other."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.activation import (
    Celu,
    Elu,
    Gelu,
    Glu,
    LogSigmoid,
    LogSoftmax,
    Mish,
    Selu,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from netspec.ops.base import Op
from netspec.tensor import TensorType

_PLAIN: dict[type[Op], tuple[Callable[[], nn.Module], str]] = {
    Sigmoid: (nn.Sigmoid, "Sigmoid"),
    Tanh: (nn.Tanh, "Tanh"),
    Softplus: (nn.Softplus, "Softplus"),
    Mish: (nn.Mish, "Mish"),
    Softsign: (nn.Softsign, "Softsign"),
}


@lowers(Sigmoid)
@lowers(Tanh)
@lowers(Softplus)
@lowers(Mish)
@lowers(Softsign)
class PlainLowering(Lowering):
    """Activations without arguments that PyTorch and ONNX both have."""

    @staticmethod
    def torch(op: Op, inputs: tuple[TensorType, ...]) -> nn.Module:
        return _PLAIN[type(op)][0]()

    @staticmethod
    def onnx(op: Op, node: Emitter) -> None:
        node.emit(_PLAIN[type(op)][1], [node.inputs[0]])


@lowers(Gelu)
class GeluLowering(Lowering):
    @staticmethod
    def torch(op: Gelu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.GELU(op.approximate)

    @staticmethod
    def onnx(op: Gelu, node: Emitter) -> None:
        node.emit("Gelu", [node.inputs[0]], approximate=op.approximate)


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


@lowers(Celu)
class CeluLowering(Lowering):
    works_in_place = True

    @staticmethod
    def torch(op: Celu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.CELU(op.alpha)

    @staticmethod
    def onnx(op: Celu, node: Emitter) -> None:
        node.emit("Celu", [node.inputs[0]], alpha=op.alpha)


@lowers(LogSigmoid)
class LogSigmoidLowering(Lowering):
    @staticmethod
    def torch(op: LogSigmoid, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.LogSigmoid()

    @staticmethod
    def onnx(op: LogSigmoid, node: Emitter) -> None:
        opposite = node.emit("Neg", [node.inputs[0]], "opposite")
        node.emit("Neg", [node.emit("Softplus", [opposite], "softplus")])


@lowers(Softmax)
@lowers(LogSoftmax)
class SoftmaxLowering(Lowering):
    @staticmethod
    def torch(op: Softmax, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.LogSoftmax(op.axis) if isinstance(op, LogSoftmax) else nn.Softmax(op.axis)

    @staticmethod
    def onnx(op: Softmax, node: Emitter) -> None:
        node.emit("LogSoftmax" if isinstance(op, LogSoftmax) else "Softmax", [node.inputs[0]], axis=op.axis)


@lowers(Glu)
class GluLowering(Lowering):
    @staticmethod
    def torch(op: Glu, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.GLU(op.axis)

    @staticmethod
    def onnx(op: Glu, node: Emitter) -> None:
        half = op.half(node.types[0])
        zero, middle, end = (node.constant(f"at{place}", [place]) for place in (0, half, 2 * half))
        axis = node.constant("axis", [op.axis])
        value = node.emit("Slice", [node.inputs[0], zero, middle, axis], "value")
        gate = node.emit("Slice", [node.inputs[0], middle, end, axis], "gate")
        node.emit("Mul", [value, node.emit("Sigmoid", [gate], "opened")])
