"""Tables of numbers: looked up, trained as they stand, or fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.table import Constant, Embedding, Parameter
from netspec.tensor import TensorType


@lowers(Embedding)
class EmbeddingLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Embedding, inputs: tuple[TensorType, ...]) -> nn.Module:
        return nn.Embedding(op.entries, op.features, padding_idx=op.padding)

    @staticmethod
    def onnx(op: Embedding, node: Emitter) -> None:
        node.emit("Gather", [node.weight("weight"), node.inputs[0]], axis=0)


class SameForAll(nn.Module):
    """One tensor, `weight`, for every sample of its input: a parameter, or a buffer that is not saved."""

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        # A view of a parameter asks for gradients even where none are made.
        weight = self.weight if torch.is_grad_enabled() else self.weight.detach()
        return weight.expand(len(x), *weight.shape)


def _for_all_samples(node: Emitter, value: str, shape: tuple[int, ...]) -> None:
    """A value of one sample as that of each, as many as the first input has."""
    samples = node.emit("Shape", [node.inputs[0]], "samples", start=0, end=1)
    sizes = node.emit("Concat", [samples, node.constant("sizes", shape)], "shape", axis=0)
    node.emit("Expand", [value, sizes])


@lowers(Parameter)
class ParameterLowering(Lowering):
    @staticmethod
    def torch(op: Parameter, inputs: tuple[TensorType, ...]) -> nn.Module:
        module = SameForAll()
        module.weight = nn.Parameter(torch.empty(op.shape).normal_(op.mean, op.std))
        return module

    @staticmethod
    def onnx(op: Parameter, node: Emitter) -> None:
        _for_all_samples(node, node.weight("weight"), op.shape)


@lowers(Constant)
class ConstantLowering(Lowering):
    @staticmethod
    def torch(op: Constant, inputs: tuple[TensorType, ...]) -> nn.Module:
        module = SameForAll()
        numbers = torch.tensor(op.numbers())
        filled = numbers.reshape(op.sizes()) if len(numbers) > 1 else numbers.expand(op.sizes()).clone()
        module.register_buffer("weight", filled, persistent=False)
        return module

    @staticmethod
    def onnx(op: Constant, node: Emitter) -> None:
        values = node.constant("values", op.numbers())
        if len(op.numbers()) > 1 and len(op.sizes()) > 1:
            values = node.emit("Reshape", [values, node.constant("inner", op.sizes())], "reshaped")
        _for_all_samples(node, values, op.sizes())
