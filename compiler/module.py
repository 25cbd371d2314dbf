"""A checked graph as a PyTorch module: real modules in the tree that the YAML draws.

Every container becomes a `Container` with its layers as children, so that keys of the state-dict are the spec's paths,
and a container can be sharded, checkpointed or replaced like any module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.lowering.base import lowering_of
from netspec.network import Network

Nodes = tuple[str, ...]
Step = tuple[str, tuple[int, ...], tuple[int, ...]]


class Container(nn.Module):
    """Runs its children in order, each on the values that the spec says.

    Values live in numbered slots that are used again once their last reader has run, so no activation is kept longer
    than in code written by hand.
    """

    def __init__(self, children: dict[str, nn.Module], steps: list[Step], slots: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        # Past `add_module`, which would refuse names such as `type` that a layer may well have.
        self._modules.update(children)
        self.steps = steps
        self.slots = slots
        self.outputs = outputs

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        modules: dict[str, Any] = self._modules
        values: list[Any] = [*inputs, *(None for _ in range(self.slots - len(inputs)))]
        for name, reads, writes in self.steps:
            if len(reads) == 1:  # nearly all of them, and worth the branch
                result = modules[name](values[reads[0]])
            else:
                result = modules[name](*[values[slot] for slot in reads])
            if len(writes) == 1:
                values[writes[0]] = result
            else:
                for slot, part in zip(writes, result, strict=True):
                    values[slot] = part
        outputs = [values[slot] for slot in self.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


@dataclass(slots=True)
class _Part:
    """A container while it is being put together.

    Attributes:
        children: names in order; a layer's or a container's.
        reads: nodes outside that layers inside read, in the order of first use.
        gives: nodes inside that are read outside, or are outputs of the network.
    """

    children: dict[str, str] = field(default_factory=dict)
    reads: dict[str, None] = field(default_factory=dict)
    gives: dict[str, None] = field(default_factory=dict)


def build(network: Network, seed: int = 0) -> Container:
    """The network as a module with freshly drawn weights, in training mode.

    Its `forward` takes the inputs in the spec's order and gives the output, or a tuple of the outputs in order.

    Args:
        seed: of the weights; the global random state is left as it was.

    Raises:
        CompilerError: a layer has no PyTorch lowering.
    """
    parts = _partition(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        leaves = {path: _leaf(network, path) for path, _ in network.layers()}
    return _assemble(network, "", parts, leaves, network.inputs, tuple(network.outputs.values()))


def _leaf(network: Network, path: str) -> nn.Module:
    layer = network.layer(path)
    op = layer["op"]
    assert op is not None
    inputs = tuple(network.layer(node)["output"] for node in layer["inputs"])
    try:
        lowering = lowering_of(op)
    except LookupError as error:
        raise CompilerError(str(error), "the package that brings the op brings it, group `netspec.lowerings`") from None
    module = lowering.torch(op, inputs)
    first, *others = layer["inputs"]
    if lowering.works_in_place and first not in others and _may_overwrite(network, first):
        cast(Any, module).inplace = True
    return module


def _may_overwrite(network: Network, node: str) -> bool:
    """Whether a layer may write over what it reads: it alone reads it, and its maker's backward pass does not."""
    op = network.layer(node)["op"]
    return (
        op is not None
        and network.graph.out_degree(node) == 1
        and node not in network.outputs.values()
        and lowering_of(op).overwritable
    )


def _ancestors(path: str) -> list[str]:
    """The containers around a node, outermost first, without the root."""
    names = path.split(".")
    return [".".join(names[:depth]) for depth in range(1, len(names))]


def _partition(network: Network) -> dict[str, _Part]:
    """Which container holds what, and what crosses its border."""
    parts = {"": _Part()}
    for path, layer in network.layers():
        around = _ancestors(path)
        parent = ""
        for container in [*around, path]:
            name = container[len(parent) + 1 :] if parent else container
            parts[parent].children[name] = container
            parent = container
            if container != path:
                parts.setdefault(container, _Part())
        for node in layer["inputs"]:
            for container in around:
                if not node.startswith(container + "."):
                    parts[container].reads[node] = None
            for container in _ancestors(node):
                if not path.startswith(container + "."):
                    parts[container].gives[node] = None
    for node in network.outputs.values():
        for container in _ancestors(node):
            parts[container].gives[node] = None
    return parts


def _assemble(
    network: Network, path: str, parts: dict[str, _Part], leaves: dict[str, nn.Module], reads: Nodes, gives: Nodes
) -> Container:
    children: dict[str, nn.Module] = {}
    wiring: list[tuple[str, Nodes, Nodes]] = []
    for name, child in parts[path].children.items():
        if child in leaves:
            children[name] = leaves[child]
            wiring.append((name, network.layer(child)["inputs"], (child,)))
        else:
            inner = parts[child]
            inside, outside = tuple(inner.reads), tuple(inner.gives)
            children[name] = _assemble(network, child, parts, leaves, inside, outside)
            wiring.append((name, inside, outside))
    steps, slots, where = _allocate(wiring, reads, gives)
    return Container(children, steps, slots, tuple(where[node] for node in gives))


def _allocate(
    wiring: list[tuple[str, Nodes, Nodes]], reads: Nodes, gives: Nodes
) -> tuple[list[Step], int, dict[str, int]]:
    """Numbered slots for values, each free again after the value's last use; returns where every value was put."""
    last_use = {node: index for index, (_, inputs, _) in enumerate(wiring) for node in inputs}
    where = {node: slot for slot, node in enumerate(reads)}
    free: list[int] = []
    slots = len(reads)
    steps: list[Step] = []
    for index, (name, inputs, outputs) in enumerate(wiring):
        sources = tuple(where[node] for node in inputs)
        for node in dict.fromkeys(inputs):
            if last_use[node] == index and node not in gives:
                free.append(where[node])
        targets = []
        for node in outputs:
            slot = free.pop() if free else slots
            slots = max(slots, slot + 1)
            targets.append(slot)
            where[node] = slot
            if node not in last_use and node not in gives:
                free.append(slot)  # nothing reads it
        steps.append((name, sources, tuple(targets)))
    return steps, slots, where
