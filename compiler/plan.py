"""How the modules of a network call one another: for every container its children, and the steps of its forward pass.

A plan is data, from which the PyTorch module is built and PyTorch source is written. A module that the spec uses in
several places (`share`, `over`) has one plan, made of its first use; the steps that call it name it each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netspec.network import Network
from netspec.ops.base import Op, Part

OVER = "over"  # the kind of a container that only names results, and is no module


@dataclass(slots=True)
class Step:
    """One call of a module.

    Attributes:
        module: the path of the module that is called.
        application: the path of the layer or container that the call is.
        reads: the values that it is given, in order: nodes of the graph.
        writes: the values that it gives.
    """

    module: str
    application: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """A container's module.

    Attributes:
        path: its own; "" for the whole network.
        use: the path of the use that it is made of, to which the values belong.
        reads: the values that its forward pass takes.
        gives: the values that it returns.
        steps: its calls in order; a module that is no child of it belongs to another container.
        children: the names of its child modules with their paths, in order.
    """

    path: str
    use: str = ""
    reads: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    children: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Use:
    """One use of a container: what it reads from outside, in the order of first use, and what is read of it."""

    path: str
    module: str
    parent: str
    reads: dict[str, None] = field(default_factory=dict)
    gives: dict[str, None] = field(default_factory=dict)  # below its own path, as `.conv1`
    members: dict[str, None] = field(default_factory=dict)  # layers and uses in it, by path


def plans_of(network: Network) -> dict[str, Plan]:
    """The plan of every module that is a container, by path, outer before inner; the network's own is under ""."""
    uses = _uses(network)
    gives: dict[str, dict[str, None]] = {}
    for use in uses.values():
        gives.setdefault(use.module, {}).update(use.gives)
    plans: dict[str, Plan] = {}
    for use in uses.values():
        if use.module in plans:
            continue  # made of an earlier use
        plan = Plan(use.module, use.path, tuple(use.reads), tuple(use.path + name for name in gives[use.module]))
        plans[use.module] = plan
        prefix = f"{use.module}." if use.module else ""
        for member in use.members:
            inner = uses.get(member)
            if inner is None:
                layer = network.layer(member)
                module, reads = layer["module"], layer["inputs"]
                results = results_of(network, member)
                writes = tuple([f"{member}.{name}" for name in results]) if results else (member,)
            else:
                module, reads = inner.module, tuple(inner.reads)
                writes = tuple([member + name for name in gives[module]])
            plan.steps.append(Step(module, member, reads, writes))
            name = module.removeprefix(prefix)
            if module.startswith(prefix) and "." not in name:
                plan.children.setdefault(name, module)
    root = plans[""]
    root.reads, root.gives = network.inputs, tuple(network.outputs.values())
    return plans


def results_of(network: Network, path: str) -> tuple[str, ...]:
    """The names of the results of a layer that gives several tensors; none for one that gives one."""
    layer = network.layer(path)
    op = layer["op"]
    assert op is not None
    if type(op).parts is Op.parts:
        return ()  # nearly all of them, and many
    return tuple(op.parts(*(network.layer(node)["output"] for node in layer["inputs"])))


def _uses(network: Network) -> dict[str, _Use]:
    """Every use of a container that holds a layer, with what crosses its border."""
    uses = {"": _Use("", "", "")}
    around: dict[str, tuple[_Use, ...]] = {}
    parents = {path: path.rpartition(".")[0] for path in network.nodes}

    def within(parent: str) -> tuple[_Use, ...]:
        """The uses that hold what is in a container, outermost first, without the network itself."""
        if parent not in around:
            found: tuple[_Use, ...] = ()
            if parent:
                found = within(parent.rpartition(".")[0])
                container = network.containers.get(parent)
                if container is not None and container.kind != OVER:
                    outer = found[-1].path if found else ""
                    use = uses[parent] = _Use(parent, container.module, outer)
                    uses[outer].members[parent] = None
                    found = (*found, use)
            around[parent] = found
        return around[parent]

    for path, layer in network.layers():
        if isinstance(layer["op"], Part):
            continue
        parent = parents[path]
        inside = within(parent)
        uses[inside[-1].path if inside else ""].members[path] = None
        for value in layer["inputs"]:
            if parents[value] == parent:
                continue  # crosses no border
            for use in inside:
                if not value.startswith(use.path + "."):
                    use.reads[value] = None
            for use in within(parents[value]):
                if not path.startswith(use.path + "."):
                    use.gives[value[len(use.path) :]] = None
    for value in network.outputs.values():
        for use in within(parents[value]):
            use.gives[value[len(use.path) :]] = None
    return uses
