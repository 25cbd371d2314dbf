"""Whether a network gives the raw numbers that a grid head's loss reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netspec.diagnostics import Diagnostic, Label
from netspec.grid_choices import GridLoss
from netspec.heads import heads
from netspec.network import Layer, Network
from netspec.outputs import giver, shape_of
from netspec.source import Span
from netspec.tensor import write_shape

ALIKE = {"yolo": "classes", "distances": "bins"}  # what all levels of a kind of head have in common


def check_grids(network: Network, loss: GridLoss, span: Span) -> Iterator[Diagnostic]:
    """Holds the heads whose raw numbers are the outputs against what the loss makes of them.

    Args:
        span: of the loss, for the places.
    """
    found = heads(network, loss.head)
    others = [name for name in network.outputs if name not in found and name not in loss.roles]
    if others:
        yield from _no_heads(network, loss, others, span)
    elif not found:
        message = f"`{loss.kind}` reads the raw numbers of `{loss.head}` layers, and no output is such"
        yield Diagnostic("recipe-mismatch", message, span, help=f"add the `{loss.head}` layers to `outputs`")
    elif loss.levels is not None and len(found) > loss.levels:
        message = f"`{loss.kind}` reads one `{loss.head}` layer, and {len(found)} outputs are such"
        yield Diagnostic("recipe-mismatch", message, span, labels=_labels(network, found), help="keep one of them")
    else:
        yield from _alike(network, loss, found, span)
        yield from _scores(network, loss, found, span)
        if "scores" in loss.roles and "scores" in network.outputs:
            yield from _order(network, loss, found, span)


def _no_heads(network: Network, loss: GridLoss, others: list[str], span: Span) -> Iterator[Diagnostic]:
    """Outputs that are no raw numbers of the kind of head."""
    for name in others:
        message = f"`{loss.kind}` reads the raw numbers of `{loss.head}` layers, and the output `{name}` is none"
        own = ", ".join(f"`{role}`" for role in loss.roles)
        help = f"let every output{f' but {own}' if own else ''} be a `{loss.head}` layer"
        yield Diagnostic("recipe-mismatch", message, span, labels=(giver(network, name),), help=help)


def _alike(network: Network, loss: GridLoss, found: Mapping[str, Layer], span: Span) -> Iterator[Diagnostic]:
    """What the levels have in common is the same in all of them."""
    name = ALIKE.get(loss.head, "")
    numbers = [layer["arguments"][name] for layer in found.values()] if name else []
    if len(set(numbers)) > 1:
        shown = " and ".join(f"{number} in `{output}`" for number, output in zip(numbers, found, strict=True))
        message = f"the levels of `{loss.kind}` have the same {name}, and here it is {shown}"
        yield Diagnostic(
            "recipe-mismatch", message, span, labels=_labels(network, found), help=f"give them the same {name}"
        )


def _scores(network: Network, loss: GridLoss, found: Mapping[str, Layer], span: Span) -> Iterator[Diagnostic]:
    """Scores are made in use as they are trained."""
    wrong = {} if loss.scores is None else {n: h for n, h in found.items() if h["arguments"]["scores"] != loss.scores}
    for name, layer in wrong.items():
        message = f"`{loss.kind}` trains scores that go through a {loss.scores}"
        message += f", and those of `{name}` go through a {layer['arguments']['scores']}"
        help = f"write `scores: {loss.scores}` there, or take the loss that goes with it"
        yield Diagnostic("recipe-mismatch", message, span, labels=_labels(network, [name]), help=help)


def _order(network: Network, loss: GridLoss, found: Mapping[str, Layer], span: Span) -> Iterator[Diagnostic]:
    """The scores are of the boxes of all levels, in the same order."""
    counts = [network.concrete(shape_of(network, name))[1] for name in found]
    known = [count for count in counts if isinstance(count, int)]
    shape = network.concrete(shape_of(network, "scores"))
    total = shape[1] if len(shape) == 3 else None
    if isinstance(total, int) and len(known) == len(counts) and sum(known) != total:
        worked = " + ".join(map(str, known))
        if len(known) > 1:
            worked += f" = {sum(known)}"
        message = f"`scores` are of {total} boxes, and the `{loss.head}` layers give {worked}"
        yield Diagnostic(
            "recipe-mismatch",
            message,
            span,
            labels=_labels(network, ("scores", *found)),
            help="let both read the same levels",
        )
        return
    scores = network.layer(network.outputs["scores"])
    if scores["op"] is None or scores["op"].kind != "per_box":
        return
    maps = [network.layer(node)["output"].spatial for node in scores["inputs"]]
    of_heads = [network.layer(layer["inputs"][0])["output"].spatial for layer in found.values()]
    if maps != of_heads:
        sizes = [", ".join(write_shape(size, network.sizes) for size in group) for group in (maps, of_heads)]
        message = f"`scores` are of maps of {sizes[0]}, in this order, and the `{loss.head}` layers of {sizes[1]}"
        yield Diagnostic(
            "recipe-mismatch",
            message,
            span,
            labels=_labels(network, ("scores", *found)),
            help="name the levels in the same order in both",
        )


def _labels(network: Network, names: Iterable[str]) -> tuple[Label, ...]:
    return tuple(giver(network, name) for name in names)
