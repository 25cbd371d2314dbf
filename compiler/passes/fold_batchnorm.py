"""Batch norms folded into the convolutions before them: with fixed means and variances, both are one product.

    x ─► conv1 ─► bn1 ─► relu        becomes        x ─► bn1 ─► relu
         W, b     γ, β, μ, σ²                            W·s, (b − μ)·s + β

with s = γ/√(σ² + eps), for each channel that the convolution gives. Results keep their names: what bn1 gives, a
convolution does now. Its weights are called conv1.folded.weight and conv1.folded.bias.

Source: Jacob et al. 2017, "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", equation 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netspec.network import Layer, Network, key_of
from netspec.ops.convolution import Conv
from netspec.ops.normalisation import BatchNorm

Array = NDArray[Any]


def fold_batch_norms(network: Network, weights: Mapping[str, Array]) -> tuple[Network, dict[str, Array]]:
    """The network for use without the batch norms that alone read a convolution, and its weights.

    Modules that several layers apply stay as they are.
    """
    readers, given = network.readers(), set(network.outputs.values())
    nodes, found = dict(network.nodes), dict(weights)
    for path, layer in network.layers():
        if not isinstance(layer["op"], BatchNorm):
            continue
        (before,) = layer["inputs"]
        conv = network.layer(before)
        alone = readers[before] == [path] and before not in given
        if isinstance(conv["op"], Conv) and alone and not (network.is_shared(path) or network.is_shared(before)):
            del nodes[before]
            nodes[path] = _folded(conv, layer)
            found |= _together(conv, layer, weights)
    return replace(network, nodes=nodes, drawn_up=None), found


def _folded(conv: Layer, norm: Layer) -> Layer:
    """The convolution in the norm's place."""
    op = conv["op"]
    assert isinstance(op, Conv)
    folded = norm.copy()
    folded["op"] = op.model_copy(update={"bias": True})
    folded["module"] = f"{conv['module']}.folded"
    folded["inputs"] = conv["inputs"]
    return folded


def _together(conv: Layer, norm: Layer, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weight and bias of both in one, by key."""
    op = norm["op"]
    assert isinstance(op, BatchNorm)

    def of(layer: Layer, name: str, otherwise: float) -> Array:
        key = key_of(layer["module"], name)
        return weights[key].astype(np.float64) if name in layer["weights"] else np.array(otherwise)

    weight = weights[key_of(conv["module"], "weight")]
    scale = of(norm, "weight", 1) / np.sqrt(of(norm, "running_var", 1) + op.eps)
    shift = (of(conv, "bias", 0) - of(norm, "running_mean", 0)) * scale + of(norm, "bias", 0)
    each = scale.astype(weight.dtype).reshape(-1, *[1] * (weight.ndim - 1))
    folded = f"{conv['module']}.folded"
    return {key_of(folded, "weight"): weight * each, key_of(folded, "bias"): shift.astype(weight.dtype)}
