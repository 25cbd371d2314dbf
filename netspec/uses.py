"""Which blocks a body uses, seen in the text alone: for warnings, and to refuse blocks that multiply without end.

Blocks are followed without recursion, however long the chain of them is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from netspec.document import Block
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Node, Scalar, Sequence


def reached(net: Node, blocks: Mapping[str, Block]) -> set[str]:
    """The blocks that are used in a body, and in those blocks."""
    found: set[str] = set()
    bodies = [net]
    while bodies:
        for name in set(_words(bodies.pop())) & blocks.keys() - found:
            found.add(name)
            bodies.append(blocks[name].net)
    return found


def _words(node: Node) -> Iterator[str]:
    """Every key, and every value that is a word, below a node."""
    if isinstance(node, Scalar):
        yield node.text
    elif isinstance(node, MappingNode):
        yield from node.entries
        for entry in node.entries.values():
            yield from _words(entry.value)
    else:
        for item in node.items:
            yield from _words(item)


def least_size(net: Node, blocks: Mapping[str, Block]) -> int:
    """How many layers a body has at least: a use of a block is as many as it has; a `repeat` or `when` is one."""
    kinds = {name: list(_kinds(block.net, blocks)) for name, block in blocks.items()}
    sizes: dict[str, int] = {}
    try:
        for name in TopologicalSorter(
            {name: set(inner) & blocks.keys() for name, inner in kinds.items()}
        ).static_order():
            sizes[name] = sum(1 + sizes.get(kind, 0) for kind in kinds[name])
    except CycleError:  # told where it closes
        return 0
    return sum(1 + sizes.get(kind, 0) for kind in _kinds(net, blocks))


def _kinds(body: Node, blocks: Mapping[str, Block]) -> Iterator[str]:
    """A word for each layer that a body is sure to have: the block that it uses, or another."""
    if isinstance(body, Scalar):
        return
    items = body.items if isinstance(body, Sequence) else [entry.value for entry in body.entries.values()]
    for item in items:
        if isinstance(item, Scalar):
            yield item.text
        elif isinstance(item, Sequence):
            yield from _kinds(item, blocks)
        elif "when" not in item.entries and "repeat" not in item.entries:
            yield next((key for key in item.entries if key in blocks), "")
            inner = item.get("net")
            if inner is not None:
                yield from _kinds(inner, blocks)
