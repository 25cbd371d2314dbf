"""Fully connected layers and flattening."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from compiler.lowering.drawing import made
from netspec.ops.linear import Flatten, Linear
from netspec.tensor import TensorType


@lowers(Linear)
class LinearLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Linear, inputs: tuple[TensorType, ...]) -> nn.Module:
        incoming = inputs[0].shape[-1]
        assert isinstance(incoming, int)
        return made(nn.Linear, incoming, op.features, op.bias)

    @staticmethod
    def onnx(op: Linear, node: Emitter) -> None:
        bias = [node.weight("bias")] if op.bias else []
        if node.types[0].rank == 2:
            node.emit("Gemm", [node.inputs[0], node.weight("weight"), *bias], transB=1)
            return
        product = node.emit("MatMul", [node.inputs[0], node.turned("weight")], part="product" if bias else "")
        if bias:
            node.emit("Add", [product, *bias])


@lowers(Flatten)
class FlattenLowering(Lowering):
    @staticmethod
    def torch(op: Flatten, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Flatten(1)

    @staticmethod
    def onnx(op: Flatten, node: Emitter) -> None:
        node.emit("Flatten", [node.inputs[0]], axis=1)
