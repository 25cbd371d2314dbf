"""What changed between two networks, layer by layer.

Layers are matched by their names, and where these are only numbers, by what stands in the same order. What is left over
on both sides and does the same in the same order has moved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from netspec import dims
from netspec.drawing.tree import Box, containers, name_of
from netspec.network import Layer, Network

MAX_ALIGNED = 2_000  # aligning takes the square of this; longer runs are matched one by one


@dataclass(slots=True, eq=False)
class Node:
    """A container or a layer of either network, or of both.

    Attributes:
        before, after: its box in either; None in the network that lacks it.
        facts: what of a layer is not the same, each before and after; None for what is not there.
        children: in the order of the second network, with what was removed in its old place.
    """

    before: Box | None
    after: Box | None
    facts: dict[str, Any] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    @property
    def box(self) -> Box:
        """The box of the network in which it stands, the second where it is in both."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def change(self) -> str:
        """`added`, `removed`, `changed`, `moved` where nothing but the path is another, or "" where nothing is."""
        if self.before is None or self.after is None:
            return "added" if self.before is None else "removed"
        if self.facts:
            return "changed"
        return "moved" if self.box.role == "layers" and self.before.path != self.after.path else ""

    def leaves(self) -> Iterator[Node]:
        """The layers below, or itself."""
        if not self.children and self.box.role == "layers":
            yield self
        for child in self.children:
            yield from child.leaves()


@dataclass(slots=True, eq=False)
class Diff:
    """Two networks and the tree of both."""

    before: Network
    after: Network
    root: Node

    def as_data(self) -> dict[str, Any]:
        """Everything that changed, for programs. Sizes are taken at each spec's `sizes`, for one sample."""
        layers = [_layer_data(node) for node in self.root.leaves() if node.change]
        sums = totals(self)
        return {
            "before": {"name": self.before.name, "file": self.before.file},
            "after": {"name": self.after.name, "file": self.after.file},
            "differ": bool(layers) or any(a != b for a, b in sums.values()),
            **{name: {"before": a, "after": b} for name, (a, b) in sums.items()},
            "state_dict": state_dict(self),
            "layers": layers,
        }


def compare(before: Network, after: Network) -> Diff:
    """What changed from one network to another."""
    return _Comparison(before, after).diff()


def totals(diff: Diff) -> dict[str, list[Any]]:
    """What is said of the networks as wholes, before and after."""

    def of(network: Network) -> dict[str, Any]:
        shapes = {
            kind: {name: list(network.concrete(network.layer(node)["output"].shape)) for name, node in nodes.items()}
            for kind, nodes in (("inputs", {name: name for name in network.inputs}), ("outputs", network.outputs))
        }
        fields = [network.layer(node)["receptive_field"] for node in network.outputs.values()]
        return {
            "arguments": network.arguments,
            **shapes,
            "parameters": network.parameters(),
            "macs": _plain(network.macs()),
            "depth": network.depth(),
            "receptive_field": next((list(network.concrete(found.size)) for found in fields if found), None),
        }

    before, after = of(diff.before), of(diff.after)
    return {name: [before[name], after[name]] for name in before}


def state_dict(diff: Diff) -> dict[str, int]:
    """How many tensors of a checkpoint of the first network the second one takes as they are, and how many not."""
    before, after = (dict(network.state_dict()) for network in (diff.before, diff.after))
    shared = before.keys() & after.keys()
    same = sum(before[key].shape == after[key].shape for key in shared)
    return {
        "same": same,
        "other_shape": len(shared) - same,
        "only_before": len(before) - len(shared),
        "only_after": len(after) - len(shared),
    }


def _layer_data(node: Node) -> dict[str, Any]:
    found = {"change": node.change, "name": node.box.path}
    if node.before is not None and node.before.path != node.box.path:
        found["was"] = node.before.path
    return found | node.facts


class _Comparison:
    def __init__(self, before: Network, after: Network) -> None:
        self.before, self.after = before, after
        self.signatures: dict[Hashable, int] = {}
        self.partners: dict[str, str] = {}  # a node of the first network, and the second's
        self.extra: set[str] = set()  # nodes of the second network that the first one lacks

    def diff(self) -> Diff:
        root = Node(containers(self.before), containers(self.after))
        self.match(root)
        _join_moved(root, self.before, self.after)
        self.partners.update((name, name) for name in self.before.inputs if name in self.after.inputs)
        if len(self.before.inputs) == len(self.after.inputs) == 1:
            self.partners[self.before.inputs[0]] = self.after.inputs[0]
        for leaf in root.leaves():
            if leaf.after is not None and leaf.before is not None:
                self.partners[leaf.before.path] = leaf.after.path
            elif leaf.after is not None:
                self.extra.add(leaf.after.path)
        for leaf in root.leaves():
            if leaf.before is not None and leaf.after is not None:
                leaf.facts = self.facts(leaf.before.path, leaf.after.path)
            elif leaf.after is not None:
                leaf.facts = {k: [None, v] for k, v in _facts(self.after, self.after.layer(leaf.after.path)).items()}
            elif leaf.before is not None:
                leaf.facts = {k: [v, None] for k, v in _facts(self.before, self.before.layer(leaf.before.path)).items()}
        return Diff(self.before, self.after, root)

    # -- matching

    def match(self, node: Node) -> None:
        """Fills a container; what only one of the networks has stands there with all that it holds."""
        before = node.before.children if node.before else []
        after = node.after.children if node.after else []
        if all(name_of(box.path).isdigit() for box in (*before, *after)):
            old, new = ([(self.signature(n, b), _kind(n, b)) for b in boxes] for n, boxes in self.sides(before, after))
            pairs = list(_in_order(old, new))
        else:
            old_names, new_names = ([(box.role, name_of(box.path)) for box in boxes] for boxes in (before, after))
            pairs = list(_by_name(old_names, new_names))
        for i, j in pairs:
            child = Node(None if i is None else before[i], None if j is None else after[j])
            node.children.append(child)
            if child.box.role == "container":
                self.match(child)

    def sides(self, before: list[Box], after: list[Box]) -> tuple[tuple[Network, list[Box]], ...]:
        return (self.before, before), (self.after, after)

    def signature(self, network: Network, box: Box) -> int:
        """A number that boxes share that hold the same ops with the same arguments."""
        what: Hashable = network.layer(box.path)["op"] if box.role == "layers" else None
        if box.role == "container":
            what = (_kind(network, box), *(self.signature(network, child) for child in box.children))
        return self.signatures.setdefault(what, len(self.signatures))

    # -- what is not the same of a layer that both have

    def facts(self, before: str, after: str) -> dict[str, Any]:
        old, new = self.before.layer(before), self.after.layer(after)
        found: dict[str, Any] = {}
        pairs = zip(_facts(self.before, old).items(), _facts(self.after, new).values(), strict=True)
        for (name, was), now in pairs:
            if was != now:
                found[name] = [was, now]
        if "op" not in found and old["arguments"] != new["arguments"]:
            arguments = old["arguments"], new["arguments"]
            names = [name for name in arguments[0] if arguments[0][name] != arguments[1][name]]
            found["arguments"] = {name: [arguments[0][name], arguments[1][name]] for name in names}
        if self.reads(old) != [self.through(node) for node in new["inputs"]]:
            found["inputs"] = [list(old["inputs"]), list(new["inputs"])]
        return found

    def reads(self, old: Layer) -> list[str | None]:
        """What a layer of the first network reads, by the names of the second; what was taken out is passed by."""
        nodes = []
        for node in old["inputs"]:
            while node not in self.partners and len(self.before.layer(node)["inputs"]) == 1:
                (node,) = self.before.layer(node)["inputs"]
            nodes.append(self.partners.get(node))
        return nodes

    def through(self, node: str) -> str:
        """A node of the second network, or what leads to it where it was put in between."""
        while node in self.extra and len(self.after.layer(node)["inputs"]) == 1:
            (node,) = self.after.layer(node)["inputs"]
        return node


def _facts(network: Network, layer: Layer) -> dict[str, Any]:
    receptive = layer["receptive_field"]
    assert layer["op"] is not None
    return {
        "op": layer["op"].kind,
        "output": list(network.concrete(layer["output"].shape)),
        "parameters": layer["parameters"],
        "macs": _plain(dims.evaluate(layer["macs"], network.sizes)),
        "receptive_field": list(network.concrete(receptive.size)) if receptive else None,
    }


def _plain(size: dims.Dim) -> int | str:
    return size if isinstance(size, int) else str(size)


def _kind(network: Network, box: Box) -> str:
    """What two numbered boxes share that are the same one, changed."""
    if box.role == "layers":
        op = network.layer(box.path)["op"]
        return op.kind if op else ""
    container = network.containers.get(box.path)
    return container.kind if container else ""


Pair = tuple[int | None, int | None]


def _by_name(before: Sequence[Hashable], after: Sequence[Hashable]) -> Iterator[Pair]:
    """Pairs of equals, in the order of the second, what is only in the first after what stood before it there."""
    places = {name: j for j, name in enumerate(after)}
    follow: dict[int, list[int]] = {}
    at = -1
    for i, name in enumerate(before):
        if name in places:
            at = places[name]
        else:
            follow.setdefault(at, []).append(i)
    old = {name: i for i, name in enumerate(before)}
    for j in range(-1, len(after)):
        if j >= 0:
            yield old.get(after[j]), j
        for i in follow.get(j, ()):
            yield i, None


def _in_order(before: Sequence[tuple[int, Hashable]], after: Sequence[tuple[int, Hashable]]) -> Iterator[Pair]:
    """Pairs of boxes with the same signature, in order, and between these of such that are of the same kind."""
    for tag, i1, i2, j1, j2 in _blocks([key for key, _ in before], [key for key, _ in after]):
        if tag == "equal":
            yield from zip(range(i1, i2), range(j1, j2), strict=True)
            continue
        for kind_tag, a1, a2, b1, b2 in _blocks([k for _, k in before[i1:i2]], [k for _, k in after[j1:j2]]):
            if kind_tag == "equal":
                yield from zip(range(i1 + a1, i1 + a2), range(j1 + b1, j1 + b2), strict=True)
                continue
            yield from ((i1 + a, None) for a in range(a1, a2))
            yield from ((None, j1 + b) for b in range(b1, b2))


def _blocks(before: Sequence[Hashable], after: Sequence[Hashable]) -> Iterator[tuple[str, int, int, int, int]]:
    """Which stretches are equal, as difflib tells it; what is equal at both ends costs nothing."""
    least = min(len(before), len(after))
    head = next((k for k in range(least) if before[k] != after[k]), least)
    tail = next((k for k in range(least - head) if before[-1 - k] != after[-1 - k]), least - head)
    ends = len(before) - tail, len(after) - tail
    yield "equal", 0, head, 0, head
    if max(ends) - head > MAX_ALIGNED:
        shared = min(ends) - head
        same = [before[head + k] == after[head + k] for k in range(shared)]
        for k, equal in enumerate(same, start=head):
            yield "equal" if equal else "replace", k, k + 1, k, k + 1
        yield "replace", head + shared, ends[0], head + shared, ends[1]
    else:
        matcher = SequenceMatcher(None, before[head : ends[0]], after[head : ends[1]], autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            yield tag, head + i1, head + i2, head + j1, head + j2
    yield "equal", ends[0], len(before), ends[1], len(after)


def _join_moved(root: Node, before: Network, after: Network) -> None:
    """Makes one of a removed and an added layer that do the same, on tensors of the same shape, in the same order."""
    removed = [leaf for leaf in root.leaves() if leaf.after is None and leaf.before is not None]
    added = [leaf for leaf in root.leaves() if leaf.before is None]
    old, new = (
        [(layer["op"], layer["output"]) for layer in (network.layer(leaf.box.path) for leaf in leaves)]
        for network, leaves in ((before, removed), (after, added))
    )
    gone = set()
    for tag, i1, i2, j1, _ in _blocks(old, new):
        for k in range(i2 - i1 if tag == "equal" else 0):
            added[j1 + k].before = removed[i1 + k].before
            gone.add(removed[i1 + k])
    if gone:
        _take_out(root, gone)


def _take_out(node: Node, gone: set[Node]) -> None:
    """Removes layers that are told of elsewhere, and containers that hold nothing else."""
    for child in node.children:
        _take_out(child, gone)
    node.children = [child for child in node.children if child not in gone and (child.children or _is_layer(child))]


def _is_layer(node: Node) -> bool:
    return node.box.role == "layers"
