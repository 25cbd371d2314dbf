"""A network as a picture: SVG, PNG, a page that folds, and text for Graphviz and Mermaid.

Layout and pixels need `netspec[draw]`; the texts need nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from netspec.drawing import dot, mermaid, page, render
from netspec.drawing.folding import DrawingError, check_size, choose
from netspec.drawing.tree import Box, Tree, plant
from netspec.network import Network

__all__ = ["FORMATS", "DrawingError", "draw", "to_svg"]

FORMATS: dict[str, Callable[[Tree, set[Box]], str | bytes]] = {
    "svg": lambda tree, folded: render.svg(dot.write(tree, folded)),
    "png": lambda tree, folded: render.png(dot.write(tree, folded)),
    "html": page.write,
    "dot": dot.write,
    "mmd": mermaid.write,
}


def draw(
    network: Network,
    form: str = "svg",
    depth: int | None = None,
    fold: Collection[str] = (),
    unfold: Collection[str] = (),
) -> bytes:
    """The picture of a network.

    Args:
        form: one of `FORMATS`; all but PNG are text in UTF-8.
        depth: how many levels of containers are open; None for as many as fit on a page.
        fold, unfold: paths of containers that are folded, and that are open with all around them, whatever the depth.

    Raises:
        DrawingError: what the format needs is not installed, a path is no container's, or the picture is too large.
    """
    tree = plant(network)
    folded = choose(tree, depth, fold, unfold)
    check_size(tree, folded)
    drawn = FORMATS[form](tree, folded)
    return drawn if isinstance(drawn, bytes) else drawn.encode("utf-8")


def to_svg(network: Network, depth: int | None = None, fold: Collection[str] = (), unfold: Collection[str] = ()) -> str:
    """The picture of a network as SVG, for light and dark screens; arguments and errors as in `draw`."""
    return draw(network, "svg", depth, fold, unfold).decode("utf-8")
