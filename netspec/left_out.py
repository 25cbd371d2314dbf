"""Layers that stand in a spec's text and not in its network, because their `when` is false."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netspec.binding import NotKnown, Refused
from netspec.calls import fill_in
from netspec.expressions import Shaped
from netspec.extension import extend
from netspec.layers import CONTAINERS, LayerForm, read_layer
from netspec.network import Network, is_under
from netspec.source import Span
from netspec.yaml_reader import Mapping, Node, Scalar, Sequence, parse, read_file

_READ = re.compile(r"\bin\.\w+|\b[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A layer that is not there.

    Attributes:
        path: its own, or that of the container around it that is left out as a whole.
        condition: what its `when` says.
        values: what the condition reads, by name, as far as it is known.
        span: where the condition stands.
    """

    path: str
    condition: str
    values: dict[str, Any]
    span: Span


def find_left_out(network: Network, path: str) -> LeftOut | None:
    """Why a layer of the spec's text is not in the network; None where the text has no such layer.

    Raises:
        SpecError: the spec's file can no longer be read.
    """
    file = Path(network.file)
    root = extend(parse(read_file(file)), file.parent)
    assert isinstance(root, Mapping)
    try:
        return _Walk(network, root).follow(path)
    except (Refused, NotKnown):  # a turn is named after a size that the network does not tell
        return None


class _Walk:
    """Goes down a path in the text, beside the network, until one of its steps is in the text alone."""

    def __init__(self, network: Network, root: Mapping) -> None:
        self.network = network
        found = root.get("blocks")
        self.blocks = {name: entry.value for name, entry in found.entries.items()} if isinstance(found, Mapping) else {}
        self.arguments = {name: _declared(block) for name, block in self.blocks.items()}
        self.body = root.get("net")
        self.place = ""  # the container that is being looked into
        self.variables: dict[str, Any] = network.arguments | {"in": self.shaped(network.inputs)}

    def follow(self, path: str) -> LeftOut | None:
        names = iter(path.split("."))
        for name in names:
            node = _child(self.body, name)
            if node is None:
                return None
            form = read_layer(node, self.arguments)
            place = f"{self.place}.{name}" if self.place else name
            turn = next(names, None) if "repeat" in form.modifiers and place in self.network.containers else None
            if turn is not None:
                turns = self.turns(form, place)
                if turn not in turns:
                    return None
                self.variables["i"] = turns[turn]
                place = f"{place}.{turn}"
            if place not in self.network.graph and place not in self.network.containers:
                return self.reason(form, place)
            self.enter(form, place)
        return None

    def turns(self, form: LayerForm, place: str) -> dict[str, int]:
        """The number of each turn of a `repeat`, by its name."""
        template = form.modifiers.get("as")
        return {
            fill_in(template.value, self.variables | {"i": i}) if template else str(i): i
            for i in range(self.network.containers[place].arguments["repeat"])
        }

    def enter(self, form: LayerForm, place: str) -> None:
        """Goes into a container, whose layers stand in its own text or in that of its block."""
        self.place, self.body = place, form.value if form.kind in CONTAINERS else None
        block = self.blocks.get(form.kind)
        if isinstance(block, Mapping):
            self.body = next((block.get(kind) for kind in CONTAINERS if kind in block.entries), None)
            self.variables = self.network.containers[place].arguments | {"in": self.shaped(self.read(place))}
        else:
            self.variables["in"] = Shaped(
                {}
            )  # a container reads what it likes: the network does not tell which is `in`

    def read(self, block: str) -> set[str]:
        """What the layers of a block read from outside of it, which can only be its `in`."""
        layers = [layer for path, layer in self.network.layers() if is_under(path, block)]
        return {node for layer in layers for node in layer["inputs"] if not is_under(node, block)}

    def shaped(self, sources: Collection[str]) -> Shaped:
        """The sizes of what comes in, where that is one tensor."""
        if len(sources) != 1:
            return Shaped({})
        shape = self.network.layer(next(iter(sources)))["output"].shape
        sizes = zip(("channels", "height", "width"), shape[1:], strict=False)
        return Shaped({"rank": len(shape)} | {name: size for name, size in sizes if isinstance(size, int)})

    def reason(self, form: LayerForm, place: str) -> LeftOut | None:
        entry = form.modifiers.get("when")
        if entry is None:
            return None
        assert isinstance(entry.value, Scalar)
        condition = entry.value.text
        known = self.variables | {f"in.{name}": size for name, size in self.variables["in"].attributes.items()}
        read = {name: known[name] for name in _READ.findall(condition) if name in known}
        return LeftOut(place, condition, read, entry.value.span)


def _child(body: Node | None, name: str) -> Node | None:
    if isinstance(body, Mapping):
        return body.get(name)
    if isinstance(body, Sequence):
        return {str(index): item for index, item in enumerate(body.items)}.get(name)
    return None


def _declared(block: Node) -> list[str]:
    """The names of a block's arguments."""
    arguments = block.get("args") if isinstance(block, Mapping) else None
    return list(arguments.entries) if isinstance(arguments, Mapping) else []
