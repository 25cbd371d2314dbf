"""Whether a network gives what its detector's loss reads."""

from __future__ import annotations

from collections.abc import Iterator

from netspec.detection_choices import DetectionLoss, FasterRcnn, Size
from netspec.diagnostics import Diagnostic, Label
from netspec.grid_checks import check_grids
from netspec.grid_choices import GridLoss
from netspec.heads import heads
from netspec.network import SERVED, Layer, Network, is_under
from netspec.outputs import giver, shape_of
from netspec.source import Span
from netspec.tensor import Shape, write_shape
from netspec.yaml_reader import Entry, Mapping

# What mends a size that is not as it should be.
_MENDS: dict[Size, str] = {
    "boxes": "make them of the same levels, with as many boxes at each place",
    "regions": "let all of them look at the same regions",
    "columns": "give each class its column, and the background one where there is one",
    (4, "columns"): "give each column of the scores four offsets, the background's too",
    4: "a box has four numbers; `per_box: 4` makes a row for each box of a map",
}

_ORDERING = ("per_box", "concat", "reshape", "split", "part", "identity")  # ops that leave the numbers as they are


def check_detector(network: Network, loss: DetectionLoss, entry: Entry) -> Iterator[Diagnostic]:
    """Holds the outputs against what the loss takes: that they are there, and that their sizes fit each other.

    Args:
        entry: of `train`, for the places.
    """
    assert isinstance(entry.value, Mapping)
    section = entry.value.entries
    span = section["loss"].value.span
    if auxiliary := section.get("auxiliary"):
        message = f"`{loss.kind}` reads all outputs that it needs, and weighs them itself"
        yield Diagnostic("recipe-mismatch", message, auxiliary.key.span, help="remove `auxiliary`")
    missing = [*_missing(network, loss, span)]
    yield from missing
    if not missing:
        yield from _sizes(network, loss, span)
        yield from _levels(network, loss, span)
        yield from _offset_weights(network, loss, span)
    if isinstance(loss, GridLoss):
        yield from check_grids(network, loss, span)
    if isinstance(loss, FasterRcnn):
        yield from _proposals(network, span)


def classes_of(network: Network, loss: DetectionLoss) -> dict[str, int | None]:
    """The classes, without the background, by the output that has a column for each; None where that is not known."""
    found: dict[str, int | None] = {}
    for role, sizes in loss.roles.items():
        if "columns" in sizes and role in network.outputs:
            shape = shape_of(network, role)
            columns = shape[sizes.index("columns") + 1] if len(shape) == len(sizes) + 1 else None
            found[role] = columns - loss.background if isinstance(columns, int) else None
    if isinstance(loss, GridLoss):
        given = {name: layer["arguments"] for name, layer in heads(network, loss.head).items()}
        found |= {name: arguments["classes"] for name, arguments in given.items() if "classes" in arguments}
    return found


def _missing(network: Network, loss: DetectionLoss, span: Span) -> Iterator[Diagnostic]:
    """Every output that is read, and every input that is fed, has its name."""
    missing = [role for role in loss.roles if role not in network.outputs]
    if missing:
        shown = ", ".join(f"`{role}` ({_written(loss.roles[role])})" for role in missing)
        names = ", ".join(f"{role}: …" for role in loss.roles)
        what = "the output" if len(missing) == 1 else "the outputs"
        message = f"`{loss.kind}` reads {what} {shown}, which the network does not have"
        help = f"name the layers: `outputs: {{{names}}}`"
        yield Diagnostic("recipe-mismatch", message, span, help=help)
    for role, sizes in loss.fed.items():
        if role not in network.inputs:
            message = f"`{loss.kind}` needs the input `{role}` ({_written(sizes)}), which the network does not have"
            help = f"add `{role}: {{shape: [{_written(sizes, ', ')}]}}` to `inputs`"
            yield Diagnostic("recipe-mismatch", message, span, help=help)


def _sizes(network: Network, loss: DetectionLoss, span: Span) -> Iterator[Diagnostic]:
    """Sizes of one name are the same in all outputs."""
    known: dict[str, tuple[int, str]] = {}  # sizes by their names, with the output that showed them
    for role, sizes in {**loss.fed, **loss.roles}.items():
        shape = network.concrete(shape_of(network, role))[1:]
        taken = f"`{loss.kind}` takes {_written(sizes)}"
        found = f"`{role}` is {write_shape(shape_of(network, role), network.sizes)}"
        if len(shape) != len(sizes):
            help = "`per_box` makes a row for each box of a map"
            yield Diagnostic("recipe-mismatch", f"{found}, {taken}", span, labels=(giver(network, role),), help=help)
            continue
        for given, size in zip(shape, sizes, strict=True):
            if not isinstance(given, int):
                continue
            if isinstance(size, str) and size not in known:
                known[size] = given, role
                yield from _range(network, loss, size, given, role, span)
            wanted, source = _wanted(size, known)
            if wanted not in (None, given):
                message, labels = f"{found}, {taken}", [giver(network, role)]
                if source:
                    labels.append(giver(network, source))
                    message += f", where {_written((size,), batch='')} are {wanted}, as in `{source}`"
                yield Diagnostic("recipe-mismatch", message, span, labels=tuple(labels), help=_MENDS[size])
                break


def _wanted(size: Size, known: dict[str, tuple[int, str]]) -> tuple[int | None, str]:
    """What a size has to be, and the output that says so; None where nothing does."""
    if isinstance(size, int):
        return size, ""
    times, name = size if isinstance(size, tuple) else (1, size)
    value, source = known.get(name, (None, ""))
    return (None if value is None else times * value), source


def _range(network: Network, loss: DetectionLoss, name: str, size: int, role: str, span: Span) -> Iterator[Diagnostic]:
    """What a size has to be by itself."""
    labels = (giver(network, role),)
    if name == "columns" and size <= loss.background:
        message = f"`{role}` has {size} column, and the first is the background's"
        yield Diagnostic("recipe-mismatch", message, span, labels=labels, help="give it classes + 1 columns")
    if name == "marks" and size > 2:
        message = (
            f"`{role}` has {size} columns; a box has one, how much it looks like an object, or two, for no and yes"
        )
        yield Diagnostic("recipe-mismatch", message, span, labels=labels, help="write `per_box: 1`")


def _levels(network: Network, loss: DetectionLoss, span: Span) -> Iterator[Diagnostic]:
    """What is told of the boxes is of the same levels as the anchors, in the same order."""
    if "anchors" not in loss.roles:
        return
    anchors = _maps(network, "anchors", "anchors", "default_boxes")
    for role, sizes in loss.roles.items():
        maps = _maps(network, role, "per_box") if sizes[0] == "boxes" and role != "anchors" else []
        if len(maps) == len(anchors) and maps != anchors:
            shown = [", ".join(write_shape(size, network.sizes) for size in group) for group in (maps, anchors)]
            yield Diagnostic(
                "recipe-mismatch",
                f"`{role}` is of maps of {shown[0]}, in this order, and `anchors` of {shown[1]}",
                span,
                labels=(giver(network, role), giver(network, "anchors")),
                help="name the levels in the same order in both",
            )


def _maps(network: Network, role: str, *kinds: str) -> list[Shape]:
    """The height and width of each map that an output's rows come from; none where another kind of layer gives it."""
    layer = network.layer(network.outputs[role])
    if layer["op"] is None or layer["op"].kind not in kinds:
        return []
    read = layer["inputs"][: len(layer["arguments"].get("strides", layer["inputs"]))]  # without the image
    return [network.layer(node)["output"].spatial for node in read]


def _offset_weights(network: Network, loss: DetectionLoss, span: Span) -> Iterator[Diagnostic]:
    """Offsets are decoded with the weights that they are learnt with."""
    for role, argument in loss.offsets.items():
        learnt, sources = getattr(loss, argument), _sources(network, network.outputs[role])
        for path, layer in _of_kind(network, "decode_boxes"):
            decoded = layer["arguments"]["offset_weights"]
            if decoded != learnt and sources & _sources(network, layer["inputs"][0]):
                shown, given = (", ".join(f"{weight:g}" for weight in weights) for weights in (learnt, decoded))
                yield Diagnostic(
                    "recipe-mismatch",
                    f"`{loss.kind}` learns `{role}` with the weights {shown}, and `{path}` decodes them with {given}",
                    span,
                    labels=(Label(layer["span"], f"`{path}`"),),
                    help=f"write `offset_weights: [{shown}]` at the layer, or `{argument}: [{given}]` at the loss",
                )


def _sources(network: Network, node: str) -> set[str]:
    """The layers that made the numbers which a layer only puts in order: the heads, of what `per_box` gives."""
    layer = network.layer(node)
    if layer["op"] is None or layer["op"].kind not in _ORDERING:
        return {node}
    return {source for read in layer["inputs"] for source in _sources(network, read)}


def _of_kind(network: Network, kind: str) -> Iterator[tuple[str, Layer]]:
    return ((path, layer) for path, layer in network.layers() if layer["op"] is not None and layer["op"].kind == kind)


def _proposals(network: Network, span: Span) -> Iterator[Diagnostic]:
    """There is one layer whose proposals are sampled in training."""
    found = [layer for path, layer in _of_kind(network, "proposals") if not is_under(path, SERVED)]
    if len(found) != 1:
        count = f"{len(found)} of them" if found else "none"
        labels = tuple(Label(layer["span"], "a `proposals` layer") for layer in found)
        message = f"`faster_rcnn` trains on samples of what a `proposals` layer gives, and there is {count}"
        help = "let the regions be read from one `proposals` layer"
        yield Diagnostic("recipe-mismatch", message, span, labels=labels, help=help)


def _written(sizes: tuple[Size, ...], between: str = " × ", batch: str = "N") -> str:
    """Sizes as people write them: `N × boxes × 4`."""
    shown = [f"{size[0]}·{size[1]}" if isinstance(size, tuple) else str(size) for size in sizes]
    return between.join([batch, *shown] if batch else shown)
