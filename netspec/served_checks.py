"""Whether what the layers of `deploy` give can be told of an image: one name for each class, a class for each pixel."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.diagnostics import Diagnostic, Label
from netspec.network import SERVED, Layer, Network, is_under
from netspec.tensor import TensorType, write_shape


def served_classes(network: Network) -> dict[str, int | None]:
    """The classes that the layers of `deploy` tell apart, by the layer; None where the number is not known."""
    found: dict[str, int | None] = {}
    for path, layer, read in _layers(network):
        op = layer["op"]
        assert op is not None
        if op.kind == "nms":
            columns = read[1].shape[2]
            found[path] = columns - layer["arguments"]["background"] if isinstance(columns, int) else None
        elif op.kind == "argmax" and read[0].rank == 4:
            channels = read[0].shape[1]
            found[path] = channels if isinstance(channels, int) else None
    return found


def mask_mistakes(network: Network) -> Iterator[Diagnostic]:
    """A mask has a class for each pixel of the network's input, so that it can be laid over the image."""
    images = [name for name in network.inputs if network.layer(name)["output"].rank == 4]
    for _, layer, read in _layers(network):
        op = layer["op"]
        assert op is not None
        if op.kind != "argmax" or read[0].rank != 4 or not images:
            continue
        image = network.layer(images[0])["output"]
        mask = layer["output"]
        # At the sizes that reports use: ⌊H/2⌋·2 is H at some, and images may be laid onto one of these.
        if mask.rank == 3 and network.concrete(mask.shape[1:]) != network.concrete(image.spatial):
            yield Diagnostic(
                "recipe-mismatch",
                f"the mask is {write_shape(layer['output'].shape, network.sizes)}, "
                f"and `{images[0]}` is {write_shape(image.shape, network.sizes)}: each pixel needs a class",
                layer["span"],
                labels=(Label(network.layer(images[0])["span"], "the image"),),
                help=f"bring the scores to its size first: `{{resize_like: [scores, {images[0]}], mode: bilinear}}`",
            ).located(layer["expansion"])


def _layers(network: Network) -> Iterator[tuple[str, Layer, list[TensorType]]]:
    """The layers of `deploy`, with the tensors that they read."""
    for path, layer in network.layers():
        if is_under(path, SERVED):
            yield path, layer, [network.layer(node)["output"] for node in layer["inputs"]]
