"""Whether the way in which `deploy.preprocess` lays images onto the input fits that input."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.diagnostics import Diagnostic, Label
from netspec.network import SERVED, Network
from netspec.recipe import Preprocess
from netspec.source import Span
from netspec.tensor import write_shape
from netspec.yaml_reader import Entry, Mapping

# The settings that only some ways of fitting have.
_OF = {"size": ("stretch", "letterbox"), "shortest": ("shortest",), "longest": ("shortest",), "multiple": ("shortest",),
       "fill": ("letterbox",)}  # fmt: skip


def fit_mistakes(network: Network, steps: Preprocess, entry: Entry) -> Iterator[Diagnostic]:
    """What is wrong with `fit` and the settings that go with it.

    Args:
        entry: `preprocess`, for the places.
    """
    assert isinstance(entry.value, Mapping)
    given = entry.value.entries

    def told(message: str, key: str, help: str, labels: tuple[Label, ...] = ()) -> Diagnostic:
        span: Span = given[key].key.span if key in given else entry.key.span
        return Diagnostic("recipe-mismatch", message, span, labels=labels, help=help)

    for key, fits in _OF.items():
        if key in given and steps.fit not in fits:
            yield told(f"`{key}` has no effect with `fit: {steps.fit}`", key, f"write `fit: {fits[0]}`, or remove it")
    has_layers = SERVED in network.containers
    in_graph = has_layers if steps.pixels is None else steps.pixels
    served = "`deploy` has layers" if has_layers else "`pixels` says"
    if not in_graph:
        for key in ("fit", "size"):
            if key in given:
                help = "add `pixels: true`; without it images are prepared outside the graph, stretched to the input"
                yield told(f"`{key}` is for images that are prepared in the graph", key, help)
                return
    elif steps.resize == "bicubic":
        help = "write `bilinear` or `nearest`"
        yield told(f"`bicubic` isn't made in the graph, where images are prepared as {served}", "resize", help)
    if steps.fit == "shortest" and steps.shortest is None:
        yield told("`fit: shortest` needs the length of the shorter side", "fit", "add `shortest: 800, longest: 1333`")
    if steps.longest is not None and steps.shortest is not None and steps.longest < steps.shortest:
        help = "the longer side of a scaled image is at most `longest`"
        yield told(f"`longest` is {steps.longest}, less than `shortest`, {steps.shortest}", "longest", help)
    for name in network.inputs:
        tensor = network.layer(name)["output"]
        if tensor.rank != 4:
            continue
        labels = (Label(network.layer(name)["span"], f"`{name}` is {write_shape(tensor.shape)}"),)
        fixed = [size for size in tensor.spatial if isinstance(size, int)]
        if steps.fit == "shortest" and fixed:
            help = "give the input a free height and width, `[N, 3, H, W]`, or write `fit: letterbox`"
            yield told(f"`fit: shortest` makes images of many sizes, and `{name}` has one", "fit", help, labels)
        size = (steps.size, steps.size) if isinstance(steps.size, int) else steps.size
        if size and any(isinstance(dim, int) and dim != side for dim, side in zip(tensor.spatial, size, strict=True)):
            help = "leave `size` out: it is the input's"
            yield told(f"`size` is {size[0]} × {size[1]}, and `{name}` is another", "size", help, labels)
