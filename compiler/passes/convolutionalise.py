"""A classifier as a fully convolutional network: it takes larger images, and gives scores for every place.

    features ──► pool ──► flatten ──► linear ──► relu ──► linear
    N×C×h×w             N×(C·h·w)     N×F                 N×K

becomes, with the same weights and as many of them,

    features ──► identity ──► identity ──► conv h×w ──► relu ──► conv 1×1
    N×C×H×W                                N×F×(H−h+1)×(W−w+1)   N×K×(H−h+1)×(W−w+1)

A dense layer over a map C × h × w is a convolution whose kernel is the whole map: the F × (C·h·w) weight, read as
F × C × h × w. At the classifier's own size both give the same numbers. At a larger one every place holds what the
dense layers give for the part of the last map under their window. Pooling to a fixed number of parts becomes the
windows that it has at the classifier's own size. Layers that nothing is left of become `identity`, so that every
layer keeps its name.

Source: Sermanet et al. 2013, "OverFeat", section 3.5; Long et al. 2015, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from compiler.errors import CompilerError
from netspec import dims
from netspec.diagnostics import SpecError
from netspec.loading import check_source
from netspec.network import Layer, Network, nominal
from netspec.ops.activation import Glu, Softmax
from netspec.ops.adaptive import AdaptiveAvgPool, AdaptiveMaxPool, GlobalAvgPool, GlobalMaxPool
from netspec.ops.arithmetic import Mean
from netspec.ops.base import Op, Part
from netspec.ops.convolution import Conv
from netspec.ops.linear import Flatten, Linear
from netspec.ops.merging import Concat, Elementwise
from netspec.ops.normalisation import BatchNorm
from netspec.ops.pooling import AvgPool, MaxPool
from netspec.ops.rectifier import PRelu
from netspec.ops.regularisation import Identity
from netspec.ops.shaping import Reshape
from netspec.recipe import LAYERS
from netspec.rewriting import CannotRewrite, Rewrite, plain_spec, rewritten
from netspec.source import Source
from netspec.tensor import TensorType
from netspec.yaml_reader import Mapping as Tree
from netspec.yaml_reader import parse

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Convolutional:
    """What the pass made.

    Attributes:
        network: the fully convolutional network; its `text` is its spec.
        rewrites: what became of which layer, by path.
        before: the network that the pass was given, with its arguments as the spec's defaults.
    """

    network: Network
    rewrites: dict[str, Rewrite]
    before: Network

    @property
    def changed(self) -> bool:
        """Whether there was anything that reads a whole map."""
        return bool(self.rewrites)

    def weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The classifier's weights in the shapes of the convolutions: the same numbers under the same keys."""
        return {key: weights[key].reshape(weight.shape) for key, weight in self.network.state_dict()}


def convolutionalise(network: Network, size: Sizes = (), labels: tuple[str, ...] = ()) -> Convolutional:
    """The fully convolutional form of a classifier; the same network where no layer reads a whole map.

    Args:
        size: of the images that the new spec names, one number for each spatial axis; the classifier's own if empty.
        labels: of the classes, if the spec has none.

    Raises:
        CompilerError: a layer can't slide over a map, or can't be rewritten where it stands; with the mend.
        SpecError: the network does not work at `size`.
    """
    source = plain_spec(network)
    before = check_source(source).network
    assert before is not None, "the spec was valid"
    before.sizes |= network.sizes
    rewrites = _Pass(before).rewrites()
    if not rewrites:
        return Convolutional(network, {}, network)
    (name,) = before.inputs
    sections = {
        "inputs": {name: _input(before, name, size)},
        "expect": {"parameters": before.parameters()},
        "train": None,
        "deploy": _deploy(before, source, labels),
    }
    try:
        checked = check_source(rewritten(source, before, rewrites, sections))
    except CannotRewrite as error:
        raise CompilerError(error.message, error.help) from None
    if checked.network is None:
        raise SpecError(checked.obstacles)
    return Convolutional(replace(checked.network, name=network.name), rewrites, before)


class _Pass:
    """Goes through the layers in order, with what stands behind each vector: the map that it was made of."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.maps: dict[str, tuple[int, Sizes]] = {}  # of a node N × F: channels and spatial sizes, product F
        self.made: dict[str, Rewrite] = {}

    def rewrites(self) -> dict[str, Rewrite]:
        if len(self.network.inputs) != 1 or self.type(self.network.inputs[0]).rank < 3:
            shapes = " and ".join(f"`{name}`" for name in self.network.inputs)
            message = f"the network reads {shapes}, and only one image, N × C × height × width, can be larger"
            raise CompilerError(message, "give it an image as its input")
        for path, layer in self.network.layers():
            if any(node in self.maps for node in layer["inputs"]):
                self.behind_a_map(path, layer)
            else:
                self.before_a_vector(path, layer)
        for name, node in self.network.outputs.items():
            if node in self.maps and set(self.maps[node][1]) != {1}:
                message = f"the output `{name}` is a map laid out as a vector, which has another length at another size"
                raise CompilerError(message, "let a `linear` follow, or give the map itself as the output")
        return self.made

    def type(self, node: str) -> TensorType:
        """What a node gives at the classifier's own size."""
        return nominal(self.network.layer(node)["output"], self.network.sizes)

    def before_a_vector(self, path: str, layer: Layer) -> None:
        """A layer that reads no flattened map: where it flattens one, it goes."""
        op, first = layer["op"], next(iter(layer["inputs"]), None)
        if first is None or self.type(first).rank < 3 or self.type(path).rank != 2:
            return
        channels, *spatial = (size if isinstance(size, int) else 0 for size in self.type(first).shape[1:])
        if isinstance(op, Flatten | Reshape):
            self.maps[path] = channels, tuple(spatial)
            self.made[path] = Rewrite(Identity())
            self.pooling_before(first, path)
        elif isinstance(op, Mean) and sorted(op.reduced(self.type(first))) == list(range(2, self.type(first).rank)):
            self.maps[path] = channels, (1,) * len(spatial)
            self.made[path] = Rewrite(AvgPool(kernel=_short(tuple(spatial)), stride=1))

    def pooling_before(self, node: str, flattened: str) -> None:
        """Pooling to a fixed number of parts, on the way to what is flattened, gets the windows that it has here."""
        layer = self.network.layer(node)
        while self.sees_one_place(layer):
            (node,) = layer["inputs"]
            layer = self.network.layer(node)
        op = layer["op"]
        if not isinstance(op, AdaptiveAvgPool | AdaptiveMaxPool | GlobalAvgPool | GlobalMaxPool):
            return
        whole = self.type(layer["inputs"][0]).spatial
        parts = self.type(node).spatial
        if whole == parts:
            self.made[node] = Rewrite(Identity())
            return
        known = [(a, b) for a, b in zip(whole, parts, strict=True) if isinstance(a, int) and isinstance(b, int)]
        uneven = next(((a, b) for a, b in known if a % b), None)
        if uneven or len(known) < len(whole):
            shown = f"{uneven[0]} places in {uneven[1]} parts of unlike width" if uneven else "a size that is not known"
            message = f"`{node}` ({op.kind}) pools {shown}, which is no window that slides"
            help = "let the parts divide the map: change the pooling's size, or `sizes` of the input"
            raise CompilerError(message, f"{help} (`{flattened}` flattens it)")
        kernel = tuple(a // b for a, b in known)
        stride = tuple(a // b if b > 1 else 1 for a, b in known)  # a single window slides by one place
        pool = AvgPool if isinstance(op, AdaptiveAvgPool | GlobalAvgPool) else MaxPool
        self.made[node] = Rewrite(pool(kernel=_short(kernel), stride=_short(stride)))

    def sees_one_place(self, layer: Layer) -> bool:
        """Whether each place of what a layer gives follows from the same place of the one map that it reads."""
        op = layer["op"]
        if op is None or isinstance(op, Part) or len(layer["inputs"]) != 1:
            return False
        read = self.type(layer["inputs"][0])
        window = op.window(read)
        if window is None:
            return read.rank > 2
        return bool(window.extent) and {*window.extent, *window.stride, *window.grow} == {1}

    def behind_a_map(self, path: str, layer: Layer) -> None:
        """A layer that reads a vector made of a map."""
        op = layer["op"]
        assert op is not None
        read = [self.maps.get(node) for node in layer["inputs"]]
        channels, spatial = next(known for known in read if known is not None)
        single = all(known is not None and set(known[1]) == {1} for known in read)
        if isinstance(op, Linear) and len(read) == 1:
            conv = Conv(channels=op.features, kernel=_short(spatial), bias=op.bias)
            self.made[path] = Rewrite(conv, {"features": "channels", "bias": "bias"})
            self.maps[path] = op.features, (1,) * len(spatial)
        elif isinstance(op, Flatten):
            self.made[path] = Rewrite(Identity())
            self.maps[path] = channels, spatial
        elif _is_pointwise(op):
            self.maps[path] = channels, spatial
        elif single and isinstance(op, BatchNorm | PRelu | Elementwise | Softmax | Glu | Concat):
            if isinstance(op, Softmax | Glu | Concat) and op.axis != 1:
                self.made[path] = Rewrite(op.model_copy(update={"axis": 1}))
            width = self.type(path).shape[1]
            assert isinstance(width, int)
            self.maps[path] = width, (1,) * len(spatial)
        else:
            raise CompilerError(*self.refusal(path, op, all(known is not None for known in read)))

    def refusal(self, path: str, op: Op, only_maps: bool) -> tuple[str, str]:
        """Why a layer can't follow, and the mend."""
        if not only_maps:
            message = f"`{path}` ({op.kind}) brings features of a map together with others, which have no places"
            return message, "a heat map needs all of them to come from the image: leave the other branch out"
        message = f"`{path}` ({op.kind}) works on the features of a vector, and does not slide over a map"
        return message, "between the map and the scores there may be `linear`, activations, `dropout` and `batchnorm`"


def _is_pointwise(op: Op | None) -> bool:
    """Whether an op works on every element by itself, whatever the shape: it has no rule of shapes and no window."""
    if op is None or op.wiring or op.least_inputs != 1:
        return False
    kind = type(op)
    return kind.output is Op.output and kind.window is Op.window and kind.weights is Op.weights


def _short(sizes: Sizes) -> int | Sizes:
    """One number for all axes, where they are alike."""
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _input(network: Network, name: str, size: Sizes) -> dict[str, object]:
    """The declaration of the input with free spatial sizes."""
    declared = network.layer(name)["output"]
    own = tuple(dims.evaluate(dim, network.sizes) for dim in declared.spatial)
    if size and len(size) != len(own):
        raise CompilerError(f"{len(size)} sizes are given, and `{name}` has {len(own)} spatial axes")
    for axis, (asked, least) in enumerate(zip(size, own, strict=False), start=1):
        if isinstance(least, int) and asked < least:
            message = f"the size {asked} of axis {axis} is less than the classifier's own, {least}"
            raise CompilerError(message, "give at least the size that the classifier was trained at")
    taken = {*network.arguments, str(declared.shape[0])}
    free = [
        str(dim) if not isinstance(dim, int) else next(word for word in _names(letter) if word not in taken)
        for dim, letter in zip(declared.spatial, "DHW"[-len(own) :], strict=True)
    ]
    found: dict[str, object] = {
        "shape": [str(declared.shape[0]), declared.shape[1], *free],
        "sizes": dict(zip(free, size or own, strict=True)),
    }
    return found | ({} if declared.dtype == "float32" else {"dtype": declared.dtype})


def _names(letter: str) -> list[str]:
    return [letter, *(f"{letter}{number}" for number in range(1, 100))]


def _deploy(network: Network, source: Source, labels: tuple[str, ...]) -> dict[str, object] | None:
    """The section of the new spec: images at their own size, and probabilities for every place.

    Layers that the old section has are kept.
    """
    deploy, train = network.sections.get("deploy"), network.sections.get("train")
    names = list(deploy.labels if deploy and deploy.labels else labels)
    found: dict[str, object] = {}
    if deploy is not None and deploy.preprocess is not None:
        steps = deploy.preprocess
        found["preprocess"] = {"mean": steps.mean, "std": steps.std, "resize": steps.resize, "fit": "none"}
    elif train is not None and train.data.images:
        found["preprocess"] = {"fit": "none"}
    if names:
        found["labels"] = names
    scores = deploy.postprocess if deploy and deploy.postprocess else None
    root = parse(source)
    section = root.get("deploy") if isinstance(root, Tree) else None
    if network.serving is not None:
        assert isinstance(section, Tree)
        found |= {key: section.get(key) for key in LAYERS}
    elif scores == "softmax" or (scores is None and train is not None and train.loss.kind == "cross_entropy"):
        output, node = next(iter(network.outputs.items()))
        found |= {"net": {"heat": {"softmax": 1, "from": node}}, "outputs": {output: "heat"}}
    return found or None
