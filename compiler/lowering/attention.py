"""Attention."""

from __future__ import annotations

from math import inf, sqrt

from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

from compiler.lowering.base import Emitter, Lowering, lowers
from netspec.ops.attention import Attention
from netspec.tensor import TensorType


class MultiheadAttention(nn.Module):
    """Attention with the weights of PyTorch's own layer, whose call asks for more than is needed here.

    In: N × T × features; or queries and a memory N × S × features; or queries, keys and values. Out: N × T × features.
    """

    def __init__(self, features: int, heads: int, bias: bool, causal: bool, dropout: float) -> None:
        super().__init__()
        drawn = nn.MultiheadAttention(features, heads, bias=bias)
        self.in_proj_weight = drawn.in_proj_weight
        self.in_proj_bias = drawn.in_proj_bias
        self.out_proj = drawn.out_proj
        self.features = features
        self.heads = heads
        self.causal = causal
        self.dropout = dropout

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        if key is None:
            projected = functional.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            read = (query, key, key if value is None else value)
            projected = tuple(functional.linear(*each) for each in zip(read, weights, biases, strict=True))
        q, k, v = (x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in projected)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=self.causal)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


@lowers(Attention)
class AttentionLowering(Lowering):
    overwritable = True

    @staticmethod
    def torch(op: Attention, inputs: tuple[TensorType, ...]) -> nn.Module:
        features = inputs[0].shape[2]
        assert isinstance(features, int)
        return MultiheadAttention(features, op.heads, op.bias, op.causal, op.dropout)

    @staticmethod
    def onnx(op: Attention, node: Emitter) -> None:
        features = node.types[0].shape[2]
        assert isinstance(features, int)
        query, key, value = (node.inputs[min(i, len(node.inputs) - 1)] for i in range(3))
        q = _project(op, node, "query", query, features, 0, [0, 2, 1, 3])
        k = _project(op, node, "key", key, features, 1, [0, 2, 3, 1])
        v = _project(op, node, "value", value, features, 2, [0, 2, 1, 3])
        scaled = node.emit("Mul", [q, node.scalar("scale", 1 / sqrt(features // op.heads))], "scaled")
        fit = node.emit("MatMul", [scaled, k], "fit")
        if op.causal:
            size = node.emit("Shape", [fit], "fit_size", start=2)
            ones = node.emit("Expand", [node.scalar("one", 1.0), size], "ones")
            before = node.emit("Trilu", [ones], "lower", upper=0)
            allowed = node.emit("Cast", [before], "allowed", to=TensorProto.BOOL)
            fit = node.emit("Where", [allowed, fit, node.scalar("never", -inf)], "causal_fit")
        weights = node.emit("Softmax", [fit], "weights", axis=-1)
        mixed = node.emit("Transpose", [node.emit("MatMul", [weights, v], "mixed")], "places_first", perm=[0, 2, 1, 3])
        joined = node.emit("Reshape", [mixed, node.constant("joined_shape", [0, 0, features])], "joined")
        out = node.emit("Transpose", [node.weight("out_proj.weight")], "out_matrix", perm=[1, 0])
        product = node.emit("MatMul", [joined, out], "product" if op.bias else "")
        if op.bias:
            node.emit("Add", [product, node.weight("out_proj.bias")])


def _project(op: Attention, node: Emitter, role: str, x: str, features: int, third: int, turn: list[int]) -> str:
    """One of the three projections, its features split into heads, and the axes turned."""

    def share(weight: str) -> str:
        bounds = [node.constant(f"{role}_{name}", [n * features]) for name, n in (("from", third), ("to", third + 1))]
        axes = node.constant(f"{role}_axis", [0])
        return node.emit("Slice", [node.weight(weight), *bounds, axes], f"{role}_{weight}")

    matrix = node.emit("Transpose", [share("in_proj_weight")], f"{role}_matrix", perm=[1, 0])
    projected = node.emit("MatMul", [x, matrix], f"{role}_product")
    if op.bias:
        projected = node.emit("Add", [projected, share("in_proj_bias")], f"{role}_projected")
    split = node.constant("split_shape", [0, 0, op.heads, features // op.heads])
    return node.emit(
        "Transpose", [node.emit("Reshape", [projected, split], f"{role}_split")], f"{role}_heads", perm=turn
    )
