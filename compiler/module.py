"""A checked graph as a PyTorch module: real modules in the tree that the YAML draws.

Every container becomes a `Container` with its layers as children, so that keys of the state-dict are the spec's paths,
and a container can be sharded, checkpointed or replaced like any module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from compiler.errors import CompilerError
from compiler.lowering.base import lowering_of
from compiler.lowering.drawing import undrawn, unshared
from compiler.lowering.table import OwnParameter, same_for_all
from compiler.plan import Plan, plans_of
from netspec.garbage import without_collections
from netspec.network import Layer, Network, key_of
from netspec.ops.base import Part

# Held while the seed's numbers are drawn: PyTorch has one random state for all threads.
_random_state = RLock()

Step = tuple[str, tuple[int, ...], tuple[int, ...]]


class OwnTensor:
    """A trained tensor of a container itself, called like a module: it gives the tensor for every sample."""

    def __init__(self, module: OwnParameter) -> None:
        self.owner: nn.Module = module
        self.name = "weight"

    def move_to(self, owner: nn.Module, name: str) -> None:
        """Makes it a parameter of a container under the layer's name, past the checks as other children are."""
        owner._parameters[name] = self.owner._parameters[self.name]
        self.owner, self.name = owner, name

    def __call__(self, x: Tensor) -> Tensor:
        tensor = self.owner._parameters[self.name]
        assert tensor is not None
        return same_for_all(tensor, x)


Callee = nn.Module | OwnTensor


class Container(nn.Module):
    """Runs its children in order, each on the values that the spec says.

    Values live in numbered slots that are used again once their last reader has run, so no activation is kept longer
    than in code written by hand.

    Attributes:
        tensors: trained tensors of its own, which it calls like modules.
        borrowed: modules of other containers that it calls as well, by path.
    """

    tensors: dict[str, OwnTensor]
    borrowed: dict[str, Callee]
    steps: list[Step]
    slots: int
    outputs: tuple[int, ...]

    def __init__(
        self,
        children: dict[str, Callee],
        steps: list[Step],
        slots: int,
        outputs: tuple[int, ...],
        borrowed: dict[str, Callee],
    ) -> None:
        super().__init__()
        tensors: dict[str, OwnTensor] = {}
        for name, child in children.items():
            if isinstance(child, OwnTensor):
                tensors[name] = child
                child.move_to(self, name)
            else:  # past `add_module`, which would refuse names such as `type` that a layer may well have
                self._modules[name] = child
        # Past `__setattr__`, which looks for modules and tensors: a network may have many containers.
        self.__dict__.update(tensors=tensors, borrowed=borrowed, steps=steps, slots=slots, outputs=outputs)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        modules: dict[str, Any] = self._modules
        if self.borrowed or self.tensors:
            modules = {**modules, **self.tensors, **self.borrowed}
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


def build(network: Network, seed: int = 0, weights: Mapping[str, Tensor] | None = None) -> Container:
    """The network as a module in training mode, with the weights that are given, or freshly drawn ones.

    Its `forward` takes the inputs in the spec's order and gives the output, or a tuple of the outputs in order.

    Args:
        seed: of drawn weights; the global random state is left as it was.
        weights: a state-dict of this network (`compiler.weights.fitting_weights`); its tensors become the module's, and
            none are drawn.

    Raises:
        CompilerError: a layer has no PyTorch lowering.
    """
    readers = Counter(value for _, layer in network.layers() for value in layer["inputs"])
    readers.update(network.outputs.values())
    uses: dict[str, tuple[str, Layer]] = {}  # by module its first use
    for path, layer in network.layers():
        if not isinstance(layer["op"], Part):
            uses.setdefault(layer["module"], (path, layer))
    with _random_state, without_collections(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        with nullcontext() if weights is None else undrawn():
            modules = {module: _leaf(network, layer) for module, (path, layer) in uses.items()}
        if weights is not None:
            for module, (_, layer) in uses.items():
                _fill(modules[module], module, layer["weights"], weights)
        for module, (path, layer) in uses.items():
            if _may_overwrite(network, path, layer, readers):
                modules[module].__dict__["inplace"] = True  # past `__setattr__`, as in `Container`
        return _container(plans_of(network), "", modules)


def submodule(module: nn.Module, path: str) -> nn.Module:
    """A module by its path, also where a name means something else as an attribute.

    Raises:
        KeyError: there is none.
    """
    found: nn.Module | None = module
    for name in path.split("."):
        found = found._modules[name] if found is not None else None
    assert found is not None
    return found


def _leaf(network: Network, layer: Layer) -> Callee:
    op = layer["op"]
    assert op is not None
    inputs = tuple([network.nodes[node]["output"] for node in layer["inputs"]])
    try:
        lowering = lowering_of(op)
    except LookupError as error:
        raise CompilerError(str(error), "the package that brings the op brings it, group `netspec.lowerings`") from None
    if type(op).__module__.startswith("netspec.ops."):
        module = lowering.torch(op, inputs)
    else:  # another package's lowering may build on one of ours, and change the module
        with unshared():
            module = lowering.torch(op, inputs)
    return OwnTensor(module) if isinstance(module, OwnParameter) else module


def _may_overwrite(network: Network, path: str, layer: Layer, readers: Mapping[str, int]) -> bool:
    """Whether a layer may write over its first input: it alone reads that, and what made it needs it no more."""
    op = layer["op"]
    assert op is not None
    if not lowering_of(op).works_in_place or layer["module"] != path or network.is_shared(path):
        return False
    first = layer["inputs"][0]
    maker = network.layer(first)["op"]
    if maker is None or isinstance(maker, Part):  # a part is a view of what others may read
        return False
    return readers[first] == 1 and lowering_of(maker).overwritable


def _fill(callee: Callee, path: str, names: Iterable[str], weights: Mapping[str, Tensor]) -> None:
    """Gives a layer its tensors of a state-dict, as `load_state_dict(assign=True)` does, in a fraction of its time."""
    module = callee.owner if isinstance(callee, OwnTensor) else callee
    for name in names:
        tensor = weights[key_of(path, name)]
        inner, _, last = (name or "weight").rpartition(".")
        owner = module.get_submodule(inner) if inner else module
        parameter = owner._parameters.get(last)
        first = owner._buffers[last] if parameter is None else parameter
        assert first is not None
        if tensor.dtype is not first.dtype:
            tensor = tensor.to(first.dtype)
        if tensor.is_inference() and not torch.is_inference_mode_enabled():
            tensor = tensor.clone()  # those of inference mode can't be trained, nor be parameters
        if parameter is None:
            owner._buffers[last] = tensor.contiguous()
        else:
            owner._parameters[last] = nn.Parameter(tensor.contiguous(), parameter.requires_grad)


def _container(plans: dict[str, Plan], path: str, modules: dict[str, Callee]) -> Container:
    """The module of a container, after those that it calls; all are added to `modules`."""
    plan = plans[path]
    for step in plan.steps:
        if step.module not in modules:
            _container(plans, step.module, modules)
    names = {path: name for name, path in plan.children.items()}
    children = {name: modules[path] for name, path in plan.children.items()}
    borrowed = {step.module: modules[step.module] for step in plan.steps if step.module not in names}
    steps, slots, where = _allocate(plan, names)
    container = Container(children, steps, slots, tuple(where[value] for value in plan.gives), borrowed)
    modules[path] = container
    return container


def _allocate(plan: Plan, names: dict[str, str]) -> tuple[list[Step], int, dict[str, int]]:
    """Numbered slots for values, each free again after the value's last use; returns where every value was put."""
    last_use = {value: index for index, step in enumerate(plan.steps) for value in step.reads}
    last_use |= dict.fromkeys(plan.gives, len(plan.steps))
    where = {value: slot for slot, value in enumerate(plan.reads)}
    free: list[int] = []
    slots = len(plan.reads)
    steps: list[Step] = []
    for index, step in enumerate(plan.steps):
        sources, targets = [], []
        for value in step.reads:
            sources.append(where[value])
            if last_use[value] == index:
                last_use[value] = -1  # not twice, where a step reads it twice
                free.append(where[value])
        for value in step.writes:
            slot = free.pop() if free else slots
            slots = max(slots, slot + 1)
            where[value] = slot
            targets.append(slot)
        free += [where[value] for value in step.writes if value not in last_use]
        steps.append((names.get(step.module, step.module), tuple(sources), tuple(targets)))
    return steps, slots, where
