"""Which blocks a body uses, seen in the text alone: for warnings, and to refuse blocks that multiply without end.

Blocks are followed without recursion, however long the chain of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from netspec.document import Block, Document
from netspec.parameters import LayerValue, Parameter
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Node, Scalar, Sequence


def reached(nets: Iterable[Node], blocks: Mapping[str, Block]) -> set[str]:
    """The blocks that are used in some bodies, and in those blocks."""
    found: set[str] = set()
    bodies = list(nets)
    while bodies:
        for name in set(_words(bodies.pop())) & blocks.keys() - found:
            found.add(name)
            defaults = [p.default for p in blocks[name].parameters.values() if p.type is LayerValue]
            bodies += [blocks[name].net, *(node for node in defaults if node is not None)]
    return found


def idle_blocks(document: Document) -> list[str]:
    """The blocks that no layer uses; none, where the network has an argument that could name any of them."""
    if document.net is None or layers_among(document.parameters):
        return []
    given = [value.node for value in document.arguments.values() if isinstance(value, LayerValue)]
    used = reached([*document.bodies, *given], document.blocks)
    return [name for name in document.blocks if name not in used]


def says(word: str, net: Node, blocks: Mapping[str, Block]) -> bool:
    """Whether a word stands anywhere among the layers."""
    return any(word in _words(body) for body in (net, *(block.net for block in blocks.values())))


def layer_arguments(document: Document) -> set[str]:
    """The names of all arguments that hold a layer, of the network and of its blocks."""
    declared = [document.parameters, *(block.parameters for block in document.blocks.values())]
    return {name for parameters in declared for name in layers_among(parameters)}


def layers_among(parameters: Mapping[str, Parameter]) -> set[str]:
    """The names of those arguments, of one network or block, that hold a layer."""
    return {name for name, parameter in parameters.items() if parameter.type is LayerValue}


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
