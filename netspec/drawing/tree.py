"""What a picture shows: a network's layers as boxes within boxes, and the tensors as arrows between them.

Two things make a picture smaller and keep it true. Equal turns of a `repeat`, each reading only the one before, are one
box that stands for several. Layers that read one tensor, keep its shape and own no convolution or matrix, as
normalisation and activation do, share the box of the layer that they follow.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from netspec.network import Network
from netspec.tensor import Shape

Role = Literal["input", "output", "layers", "container"]


@dataclass(slots=True, eq=False)
class Box:
    """A container with its children, a stack of layers, an input or an output of the network.

    Attributes:
        path: the container's path, or the first layer's; an output's is its name.
        layers: the nodes in the box, in order; all below a container, those that it leaves out for others too.
        times: how many equal ones in a row it stands for.
        last: the name of the last of these.
    """

    role: Role
    path: str
    parent: Box | None = None
    layers: list[str] = field(default_factory=list)
    children: list[Box] = field(default_factory=list)
    times: int = 1
    last: str = ""

    @property
    def level(self) -> int:
        """How many containers are around it."""
        return 0 if self.parent is None or not self.parent.path else self.parent.level + 1

    def all(self) -> Iterator[Box]:
        """The boxes below it, outer before inner."""
        for child in self.children:
            yield child
            yield from child.all()


@dataclass(slots=True, eq=False)
class Arrow:
    """A tensor that goes from one box to another; `skip` where another way between them passes other boxes."""

    source: Box
    target: Box
    shape: Shape
    skip: bool = False


@dataclass(slots=True, eq=False)
class Tree:
    """The boxes of a network: `root` is the network itself.

    Attributes:
        lenders: the layers and containers that apply the weights of another, by path, with that one's path.
    """

    network: Network
    root: Box
    arrows: list[Arrow]
    lenders: dict[str, str]


def plant(network: Network) -> Tree:
    """The boxes and arrows of a network."""
    return _Planter(network).tree()


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition(".")[2]


def containers(network: Network) -> Box:
    """A box for every container and one for every layer, within a box for the network."""
    root = Box("container", "")
    boxes = {"": root}

    def container(path: str) -> Box:
        if path not in boxes:
            parent = container(path.rpartition(".")[0])
            boxes[path] = Box("container", path, parent)
            parent.children.append(boxes[path])
        return boxes[path]

    for path, _ in network.layers():
        parent: Box | None = container(path.rpartition(".")[0])
        assert parent is not None
        parent.children.append(Box("layers", path, parent, [path]))
        while parent is not None:
            parent.layers.append(path)
            parent = parent.parent
    return root


def lenders(network: Network) -> dict[str, str]:
    """The layers and containers that apply the weights of another, by path, with the first that has them."""
    if not network.shared:
        return {}
    layers = {path: layer["module"] for path, layer in network.layers() if layer["weights"]}
    around = {path[: dot.start()] for path in layers for dot in re.finditer(r"\.", path)}
    holders = {
        path: container.module
        for path, container in network.containers.items()
        if path in around and container.kind != "over"  # which only names the results of what it applies
    }
    found: dict[str, str] = {}
    for modules in (holders, layers):
        first: dict[str, str] = {}
        found |= {path: first[module] for path, module in modules.items() if first.setdefault(module, path) != path}
    return found


class _Planter:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.outputs = set(network.outputs.values())
        self.stand_ins: dict[str, str] = {}  # a turn that is left out, and the one that stands for it

    def tree(self) -> Tree:
        root = containers(self.network)
        self.join_turns(root)
        self.stack(root)
        homes = {layer: box for box in root.all() if box.role == "layers" for layer in box.layers}
        inputs = [Box("input", name, root, [name]) for name in self.network.inputs]
        outputs = [Box("output", name, root, [node]) for name, node in self.network.outputs.items()]
        homes.update({box.path: box for box in inputs})
        arrows = []
        for layer, target in homes.items():
            for node in dict.fromkeys(self.network.layer(layer)["inputs"]):
                source = homes[self.stand_in(node)]
                if source is not target:
                    arrows.append(Arrow(source, target, self.network.layer(node)["output"].shape))
        for box in outputs:
            node = box.layers[0]
            arrows.append(Arrow(homes[self.stand_in(node)], box, self.network.layer(node)["output"].shape))
        root.children = [*inputs, *root.children, *outputs]
        _mark_skips(root, arrows)
        return Tree(self.network, root, arrows, lenders(self.network))

    # -- equal turns

    def join_turns(self, box: Box) -> None:
        container = self.network.containers.get(box.path)
        if container is not None and container.kind == "repeat":
            turns, box.children = box.children, []
            before: Box | None = None
            for turn in turns:
                if before is not None and self.continues(before, turn):
                    first = box.children[-1]
                    first.times += 1
                    first.last = name_of(turn.path)
                    self.stand_ins[turn.path] = first.path
                else:
                    box.children.append(turn)
                before = turn
            if len(box.children) == 1 and len(turns) > 1:  # `3 × block` needs no frame for the block within its own
                box.children = box.children[0].children or box.children
                for child in box.children:
                    child.parent = box
        for child in box.children:
            self.join_turns(child)

    def continues(self, before: Box, turn: Box) -> bool:
        """Whether a turn does what the one before it does, with that one's result, which nothing else reads."""
        reads, exits = self.reads(turn), self.exits(before)
        if len(reads) != 1 or exits != set(reads) or reads[0] in self.outputs:
            return False
        readers = set(self.network.graph.successors(reads[0]))
        return readers.issubset([*before.layers, *turn.layers]) and self.form(before) == self.form(turn)

    def form(self, box: Box) -> tuple[Any, ...]:
        """What makes two boxes equal: their layers, how these read one another, and which are read outside."""
        inside = set(box.layers)
        outside = {node: index for index, node in enumerate(self.reads(box))}

        def within(node: str) -> str | int:
            return node.removeprefix(box.path) if node in inside else outside[node]

        layers = [
            (
                within(path),
                layer["op"],
                layer["output"],
                layer["parameters"],
                [within(node) for node in layer["inputs"]],
            )
            for path, layer in ((path, self.network.layer(path)) for path in box.layers)
        ]
        return layers, {within(node) for node in self.exits(box)}

    def reads(self, box: Box) -> list[str]:
        """The nodes outside that a box reads."""
        inside = set(box.layers)
        nodes = (node for path in box.layers for node in self.network.layer(path)["inputs"])
        return list(dict.fromkeys(node for node in nodes if node not in inside))

    def exits(self, box: Box) -> set[str]:
        """The nodes of a box that are read outside, or are outputs of the network."""
        inside = set(box.layers)
        successors = self.network.graph.successors
        return {path for path in box.layers if path in self.outputs or not inside.issuperset(successors(path))}

    def stand_in(self, path: str) -> str:
        """The node that is drawn for a node."""
        parts = path.split(".")
        drawn = ""
        for part in parts:
            drawn = f"{drawn}.{part}" if drawn else part
            drawn = self.stand_ins.get(drawn, drawn)
        return drawn

    # -- stacks

    def stack(self, box: Box) -> None:
        kept: list[Box] = []
        ends: dict[str, Box] = {}  # the boxes of layers by their last layer
        for child in box.children:
            if child.role == "layers":
                above = ends.pop(self.above(child), None)
                if above is not None:
                    above.layers += child.layers
                    ends[child.path] = above
                    continue
                if child.times == 1:
                    ends[child.path] = child
            else:
                self.stack(child)
            kept.append(child)
        box.children = kept

    def above(self, box: Box) -> str:
        """The layer whose box a layer may share; "" if none."""
        layer = self.network.layer(box.path)
        if box.times > 1 or len(layer["inputs"]) != 1 or layer["op"] is None or layer["op"].weighted:
            return ""
        (node,) = layer["inputs"]
        alone = self.network.graph.out_degree(node) == 1 and node not in self.outputs
        return node if alone and self.network.layer(node)["output"] == layer["output"] else ""


def _mark_skips(root: Box, arrows: list[Arrow]) -> None:
    """Finds the arrows beside which a longer way leads from the same box to the same box."""
    sources: dict[Box, list[Box]] = {}
    for arrow in arrows:
        sources.setdefault(arrow.target, []).append(arrow.source)
    order = {box: index for index, box in enumerate(root.all())}
    for arrow in arrows:
        others = [box for box in sources[arrow.target] if box is not arrow.source]
        arrow.skip = bool(others) and _leads_to(arrow.source, others, sources, order)


def _leads_to(start: Box, ends: list[Box], sources: dict[Box, list[Box]], order: dict[Box, int]) -> bool:
    """Whether a way leads from one box to one of others; boxes that stand before it can't be on that way."""
    met = set(ends)
    waiting = deque(ends)
    while waiting:
        for box in sources.get(waiting.popleft(), ()):
            if box is start:
                return True
            if box not in met and order[box] > order[start]:
                met.add(box)
                waiting.append(box)
    return False
