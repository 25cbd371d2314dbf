"""Layers that act in training only: the exported graph passes their input on."""

from __future__ import annotations

from torch import nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.regularisation import Dropout, Identity
from netspec.tensor import TensorType


@lowers(Dropout)
class DropoutLowering(Lowering):
    @staticmethod
    def torch(op: Dropout, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Dropout(op.p)

    @staticmethod
    def onnx(op: Dropout, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])


@lowers(Identity)
class IdentityLowering(Lowering):
    @staticmethod
    def torch(op: Identity, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Identity()

    @staticmethod
    def onnx(op: Identity, node: Emitter) -> None:
        node.emit("Identity", [node.inputs[0]])
