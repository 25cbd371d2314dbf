"""What a container does, free of where it stands: its steps in names of its own, so that two uses can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compiler.lowering.base import lowering_of
from compiler.plan import Plan, Step
from netspec.network import Network
from netspec.ops.base import Op


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a forward pass.

    Attributes:
        child: the child that is called, or the path of another container's module; "" for an expression.
        op: for an expression, what is worked out.
        bare: whether the child is a tensor and no module.
        reads, writes: values: `.conv1` for what is made inside, `in0` for the first thing that comes in.
    """

    child: str
    op: Op | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """The steps of a container with what it returns."""

    actions: tuple[Action, ...]
    gives: tuple[str, ...]
    inputs: int

    def children(self) -> list[str]:
        """The children that are called, in order."""
        return list(dict.fromkeys(action.child for action in self.actions if action.child))

    def without(self, left_out: Sequence[str]) -> Body | None:
        """The same with some children left out, each being what it reads; None where one reads or gives several."""
        meant: dict[str, str] = {}
        kept = []
        for action in self.actions:
            reads = tuple(meant.get(value, value) for value in action.reads)
            if action.child not in left_out:
                kept.append(replace(action, reads=reads))
            elif len(reads) == len(action.writes) == 1:
                meant[action.writes[0]] = reads[0]
            else:
                return None
        return Body(tuple(kept), tuple(meant.get(value, value) for value in self.gives), self.inputs)


def body_of(network: Network, plan: Plan) -> Body:
    """The body of a container."""
    numbers = {value: f"in{index}" for index, value in enumerate(plan.reads)}
    names = {path: name for name, path in plan.children.items()}

    def own(value: str) -> str:
        return numbers.get(value) or value[len(plan.use) :]

    actions = []
    for step in plan.steps:
        op = inline(network, step)
        child = "" if op is not None else names.get(step.module, step.module)
        reads, writes = tuple(map(own, step.reads)), tuple(map(own, step.writes))
        actions.append(Action(child, op, reads, writes, is_bare(network, step)))
    return Body(tuple(actions), tuple(map(own, plan.gives)), len(plan.reads))


def inline(network: Network, step: Step) -> Op | None:
    """The op of a step that is written as an expression; None for one that calls a module."""
    if step.application not in network.nodes:
        return None
    op = network.layer(step.application)["op"]
    assert op is not None
    return op if lowering_of(op).expression(op, step.reads) else None


def is_bare(network: Network, step: Step) -> bool:
    """Whether a step gives a tensor of the container itself, which is no module that could be called."""
    return step.application in network.nodes and "" in network.layer(step.application)["weights"]


def is_chain(plan: Plan, network: Network, usable: Callable[[str], bool]) -> bool:
    """Whether every child reads the one before, so that `nn.Sequential` does what the container does."""
    if len(plan.reads) != 1 or len(plan.gives) != 1 or not plan.steps:
        return False
    previous = plan.reads[0]
    for step, child in zip(plan.steps, plan.children.values(), strict=False):
        if step.module != child or step.reads != (previous,) or len(step.writes) != 1:
            return False
        if inline(network, step) or is_bare(network, step):
            return False
        previous = step.writes[0]
    whole = len(plan.steps) == len(plan.children) and plan.gives == (previous,)
    return whole and all(name.isdigit() or usable(name) for name in plan.children)


def is_dense(plan: Plan, network: Network) -> bool:
    """Whether every other step brings together all that came before, as `connect: dense` does."""
    if len(plan.reads) != 1 or len(plan.gives) != 1 or len(plan.steps) % 2 or not plan.steps:
        return False
    previous = plan.reads[0]
    for layer, joined in zip(plan.steps[::2], plan.steps[1::2], strict=True):
        op = inline(network, joined)
        if (
            inline(network, layer)
            or is_bare(network, layer)
            or layer.reads != (previous,)
            or op is None
            or op.kind != "concat"
        ):
            return False
        if op.__dict__ != {"axis": 1} or joined.reads != (previous, *layer.writes):
            return False
        previous = joined.writes[0]
    return plan.gives == (previous,) and len(plan.children) == len(plan.steps)
