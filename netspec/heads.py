"""The ops whose raw numbers are a network's outputs, which a loss compares with the truth."""

from __future__ import annotations

from netspec.network import Layer, Network
from netspec.ops.base import Part


def head_of(network: Network, output: str, kind: str) -> Layer | None:
    """The layer of this kind of which an output is the part `raw`; None where it is none of that."""
    node = network.outputs[output]
    layer = network.layer(node)
    if not isinstance(layer["op"], Part) or node.rpartition(".")[2] != "raw":
        return None
    maker = network.layer(layer["inputs"][0])
    return maker if maker["op"] is not None and maker["op"].kind == kind else None


def heads(network: Network, kind: str) -> dict[str, Layer]:
    """The layers of a kind whose raw numbers are outputs, by the outputs' names."""
    found = {name: head_of(network, name, kind) for name in network.outputs}
    return {name: layer for name, layer in found.items() if layer is not None}
