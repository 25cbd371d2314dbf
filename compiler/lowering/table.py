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


def same_for_all(weight: Tensor, x: Tensor) -> Tensor:
    """A tensor once for every sample of `x`."""
    # A view of a parameter asks for gradients even where none are made.
    weight = weight if torch.is_grad_enabled() else weight.detach()
    return weight.expand(len(x), *weight.shape)


def drawn_parameter(shape: tuple[int, ...], mean: float = 0.0, std: float = 0.02) -> nn.Parameter:
    """A trained tensor that begins with a normal distribution."""
    parameter = nn.Parameter(torch.empty(shape))
    nn.init.normal_(parameter, mean, std)
    return parameter


class OwnParameter(nn.Module):
    """A trained tensor for every sample of its input. `compiler.module` makes it one of the container around it."""

    def __init__(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 0.02) -> None:
        super().__init__()
        self.weight = drawn_parameter(shape, mean, std)

    def forward(self, x: Tensor) -> Tensor:
        return same_for_all(self.weight, x)


class ConstantForAll(nn.Module):
    """Fixed numbers for every sample of its input: as many as the shape has, or one all over."""

    weight: Tensor

    def __init__(self, numbers: tuple[float, ...], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.numbers = numbers
        self.shape = shape
        filled = torch.tensor(numbers).reshape(shape) if len(numbers) > 1 else torch.full(shape, numbers[0])
        self.register_buffer("weight", filled, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return same_for_all(self.weight, x)


def _for_all_samples(node: Emitter, value: str, shape: tuple[int, ...]) -> None:
    """A value of one sample as that of each, as many as the first input has."""
    samples = node.emit("Shape", [node.inputs[0]], "samples", start=0, end=1)
    sizes = node.emit("Concat", [samples, node.constant("sizes", shape)], "shape", axis=0)
    node.emit("Expand", [value, sizes])


@lowers(Parameter)
class ParameterLowering(Lowering):
    @staticmethod
    def torch(op: Parameter, inputs: tuple[TensorType, ...]) -> nn.Module:
        return OwnParameter(op.shape, op.mean, op.std)

    @staticmethod
    def onnx(op: Parameter, node: Emitter) -> None:
        _for_all_samples(node, node.weight(""), op.shape)


@lowers(Constant)
class ConstantLowering(Lowering):
    @staticmethod
    def torch(op: Constant, inputs: tuple[TensorType, ...]) -> nn.Module:
        return ConstantForAll(op.numbers(), op.sizes())

    @staticmethod
    def onnx(op: Constant, node: Emitter) -> None:
        values = node.constant("values", op.numbers())
        if len(op.numbers()) > 1 and len(op.sizes()) > 1:
            values = node.emit("Reshape", [values, node.constant("inner", op.sizes())], "reshaped")
        _for_all_samples(node, values, op.sizes())
