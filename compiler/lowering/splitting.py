"""Ops that make several tensors of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.base import axis_after_batch
from netspec.ops.splitting import Split
from netspec.tensor import TensorType


class SplitInto(nn.Module):
    """Parts of a tensor, of these sizes along an axis."""

    def __init__(self, sizes: tuple[int, ...], axis: int = 1) -> None:
        super().__init__()
        self.sizes = sizes
        self.axis = axis

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.split(x, list(self.sizes), self.axis)


@lowers(Split)
class SplitLowering(Lowering):
    @staticmethod
    def torch(op: Split, inputs: tuple[TensorType, ...]) -> nn.Module:
        return SplitInto(op.part_sizes(inputs[0]), axis_after_batch(inputs[0], op.axis, "axis"))

    @staticmethod
    def onnx(op: Split, node: Emitter) -> None:
        sizes = node.constant("sizes", op.part_sizes(node.types[0]))
        axis = axis_after_batch(node.types[0], op.axis, "axis")
        node.emit_parts("Split", [node.inputs[0], sizes], op.names, axis=axis)
