"""The served form of a network: pixels in, and what `deploy` makes of the outputs.

    image ─► conv1 ─► … ─► fc          becomes          image ─► prepare_image ─► conv1 ─► … ─► fc ─► deploy.…
    (float)                                             (uint8, of any size)

Nothing of the network itself is changed but the sizes of its tensors, so its weights fit the served form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from netspec import dims
from netspec.dims import symbol
from netspec.network import SERVED, Layer, Network
from netspec.ops.base import Op, Part
from netspec.ops.imaging import BoxesOfImage, BoxesOfInput, Fitting, MaskOfImage, Prepare
from netspec.outputs import is_image
from netspec.recipe import Preprocess
from netspec.tensor import TensorType

# What is in pixels of the network's input, by the op that gives it, "" for an op of one result.
_PLACES: dict[tuple[str, str], type[Fitting]] = {("nms", "boxes"): BoxesOfImage, ("argmax", ""): MaskOfImage}


def takes_pixels(network: Network) -> bool:
    """Whether the served form prepares images itself: where it has layers of its own, if `deploy` doesn't say."""
    deploy = network.sections.get("deploy")
    steps = deploy.preprocess if deploy else None
    if steps is None:
        return False
    return network.serving is not None if steps.pixels is None else steps.pixels


def is_pixels(tensor: TensorType) -> bool:
    """Whether an input is N × height × width × channels of pixels."""
    return tensor.rank == 4 and tensor.dtype == "uint8" and tensor.shape[3] in (1, 3)


def served_task(form: Network) -> dict[str, str]:
    """What a served form gives, where it is boxes or a mask: its kind, and which output is what."""
    made = {name: _origin(form, node) for name, node in form.outputs.items()}
    found = {result: name for name, (kind, result) in made.items() if kind == "nms"}
    if found.keys() >= {"boxes", "scores", "labels", "counts"}:
        return {"kind": "detection", **found}
    masks = [name for name, (kind, _) in made.items() if kind == "argmax"]
    mask = next((name for name in masks if form.layer(form.outputs[name])["output"].rank == 3), None)
    return {"kind": "segmentation", "mask": mask} if mask is not None else {}


def deployed(network: Network, prepared: bool = False) -> Network:
    """The network as it is served; itself, where `deploy` adds nothing to it.

    Args:
        prepared: leave the preparation of images out, so that it takes what the trained network takes.
    """
    pixels = takes_pixels(network) and not prepared
    if network.serving is None and not pixels:
        return network
    serving = network.serving
    form = replace(
        network,
        nodes=network.nodes | (serving.nodes if serving else {}),
        containers=network.containers | (serving.containers if serving else {}),
        outputs=dict(serving.outputs if serving else network.outputs),
        sizes=dict(network.sizes),
        serving=None,
        drawn_up=None,
    )
    if pixels:
        _prepare(form)
    _keep_what_is_read(form)
    return form


def _steps(network: Network) -> Preprocess:
    """What `deploy` says of the preparation of images, or what holds where it says nothing."""
    deploy = network.sections.get("deploy")
    return deploy.preprocess if deploy and deploy.preprocess else Preprocess()


def fitting(network: Network, name: str) -> dict[str, Any]:
    """How images are laid onto an input: the arguments of `Fitting`, with the input's size where it is known."""
    steps = _steps(network)
    height, width = network.layer(name)["output"].spatial
    found: dict[str, Any] = {"fit": steps.fit, "names": (str(height), str(width))}
    if steps.fit == "shortest":
        least = steps.shortest or 0
        return found | {"shortest": least, "longest": steps.longest or 2**31 - 1, "multiple": steps.multiple}
    if steps.fit == "none":
        return found
    size = steps.size or tuple(dims.evaluate(dim, network.sizes) for dim in (height, width))
    known = (size, size) if isinstance(size, int) else size
    if not all(isinstance(side, int) for side in known):
        return found | {"fit": "none"}  # free, and nothing says how large: it stays as it is
    return found | {"height": known[0], "width": known[1]}


def preparation(network: Network, name: str) -> Prepare:
    """The layer that makes pixels of an image into an input, wherever that is done."""
    steps = _steps(network)
    channels = network.layer(name)["output"].shape[1]
    assert isinstance(channels, int)

    def spread(value: float | tuple[float, ...]) -> tuple[float, ...]:
        return tuple(float(v) for v in value) if isinstance(value, tuple) else (float(value),) * channels

    arguments = fitting(network, name) | {"resize": steps.resize, "fill": steps.fill}
    return Prepare(mean=spread(steps.mean), std=spread(steps.std), **arguments)


def _prepare(form: Network) -> None:
    """Puts the preparation of images before the network, and what undoes it behind its outputs."""
    old, form.nodes = form.nodes, {}
    renamed: dict[str, str] = {}
    image, pixels = None, ""
    for name in form.inputs:
        given = old[name].copy()
        form.nodes[name] = given
        if is_image(form, name):
            image, pixels = preparation(form, name), name
            given["output"] = _pixels(form, name, image)
            given["receptive_field"] = None
            renamed[name] = _add(form, image, f"prepare_{name}", name)
    assert image is not None, "the checks have found an image"
    for name in form.inputs:
        if _is_boxes(form.nodes[name]["output"]):
            renamed[name] = _add(form, _like(BoxesOfInput, image), f"prepare_{name}", name, pixels)
    for path, layer in old.items():
        if path in form.nodes:
            continue
        moved = layer.copy()
        moved["inputs"] = tuple(renamed.get(node, node) for node in layer["inputs"])
        types = tuple(form.layer(node)["output"] for node in moved["inputs"])
        op = layer["op"]
        assert op is not None
        if isinstance(op, Part):
            (maker,) = moved["inputs"]
            read = tuple(form.layer(node)["output"] for node in form.layer(maker)["inputs"])
            made = form.layer(maker)["op"]
            assert made is not None
            moved["output"] = made.parts(*read)[path.rpartition(".")[2]]
        else:
            moved["output"] = op.output(*types)
        form.nodes[path] = moved
    for name, node in form.outputs.items():
        undo = _PLACES.get(_maker(form, node))
        if undo is not None:
            form.outputs[name] = _add(form, _like(undo, image), f"{SERVED}.{name}_of_image", node, pixels)


def _pixels(form: Network, name: str, op: Prepare) -> TensorType:
    """The type of an image that is prepared in the graph; sizes that become free are given a number for reports."""
    batch, channels, *size = form.layer(name)["output"].shape
    if op.fit != "none":
        for index, axis in enumerate(("height", "width")):
            nominal = (op.height, op.width)[index] or dims.evaluate(size[index], form.sizes)
            if isinstance(nominal, int):
                form.sizes[f"{name}_{axis}"] = nominal
            size[index] = symbol(f"{name}_{axis}")
    return TensorType((batch, *size, channels), "uint8")


def _is_boxes(tensor: TensorType) -> bool:
    """Whether an input is N × B × 4: boxes in pixels of the image."""
    return tensor.rank == 3 and tensor.shape[2] == 4 and tensor.dtype == "float32"


def _like(kind: type[Fitting], image: Prepare) -> Fitting:
    return kind(**{name: getattr(image, name) for name in Fitting.model_fields})


def _maker(form: Network, node: str) -> tuple[str, str]:
    """The kind of the op that gives a tensor, and which of its results it is."""
    op: Op | None = form.layer(node)["op"]
    if not isinstance(op, Part):
        return (op.kind if op else "", "")
    maker = form.layer(form.layer(node)["inputs"][0])["op"]
    assert maker is not None
    return maker.kind, node.rpartition(".")[2]


def _origin(form: Network, node: str) -> tuple[str, str]:
    """The same, behind what only places it in the image."""
    op = form.layer(node)["op"]
    return _maker(form, form.layer(node)["inputs"][0] if isinstance(op, Fitting) else node)


def _add(form: Network, op: Op, path: str, *inputs: str) -> str:
    """Adds a layer without weights; returns its path."""
    while path in form.nodes or path in form.containers:
        path += "_"
    form.nodes[path] = Layer(
        op=op,
        module=path,
        arguments=dict(op.__dict__),
        inputs=inputs,
        output=op.output(*(form.layer(node)["output"] for node in inputs)),
        weights={},
        parameters=0,
        macs=0,
        receptive_field=None,
        depth=form.layer(inputs[0])["depth"],
        span=form.layer(inputs[0])["span"],
        expansion=(),
    )
    return path


def _keep_what_is_read(form: Network) -> None:
    """Leaves the layers out from which nothing leads to an output of the served form: heads that only training has."""
    useful: set[str] = set(form.inputs)
    ahead = list(form.outputs.values())
    while ahead:
        node = ahead.pop()
        if node not in useful:
            useful.add(node)
            ahead += form.layer(node)["inputs"]
    # A result of several that nobody reads stays with the others: the op gives all of them.
    form.nodes = {
        path: layer
        for path, layer in form.nodes.items()
        if path in useful or (isinstance(layer["op"], Part) and layer["inputs"][0] in useful)
    }
