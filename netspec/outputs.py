"""What diagnostics say of a network's inputs and outputs: their shapes, and where these come from."""

from __future__ import annotations

from netspec.diagnostics import Label
from netspec.network import Network
from netspec.tensor import Shape, write_shape


def shape_of(network: Network, name: str) -> Shape:
    """The shape of an output, or of an input, by its name."""
    return network.layer(network.outputs.get(name, name))["output"].shape


def is_image(network: Network, name: str) -> bool:
    """Whether an input is N × 1 or 3 × height × width, so that images can be made into it."""
    shape = shape_of(network, name)
    return len(shape) == 4 and shape[1] in (1, 3)


def giver(network: Network, name: str) -> Label:
    """Where an output comes from, or where an input is declared, with its shape."""
    node = network.outputs.get(name, name)
    layer = network.layer(node)
    shape = layer["output"].shape
    what = f"gives {write_shape(shape, network.sizes)}" if layer["op"] else f"is {write_shape(shape)}"
    return Label(layer["span"], f"`{node}` {what}")
