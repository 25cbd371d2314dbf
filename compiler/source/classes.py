"""Which classes a network's source has: one for each block, and for each other container that is no chain."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from compiler.module import submodule
from compiler.plan import Plan, plans_of
from compiler.source.block_texts import BlockTexts
from compiler.source.bodies import Body, body_of, inline, is_chain, is_dense
from compiler.source.construction import Chain, Expression, New, Raw, constructor_of, drawn, shape_of
from compiler.source.fitting import Extra, unified
from netspec.network import Network, is_under

PARTS_OF_THE_LANGUAGE = ("net", "branches", "residual", "repeat", "over")


@dataclass(slots=True)
class Child:
    """A child module: how it is made, and when, where not always."""

    name: str
    expression: Expression
    condition: str | None = None


@dataclass(slots=True)
class SourceClass:
    """A class of the source.

    Attributes:
        uses: the plans of the modules that it is the class of.
        model: the one of them that has every child; comments show its shapes.
        body: its forward pass.
        arguments: the names of its arguments, each with the value of every use.
        defaults: of some of these.
    """

    name: str
    uses: list[Plan]
    model: Plan
    body: Body
    children: list[Child] = field(default_factory=list)
    arguments: dict[str, list[Any]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


class Classes:
    """Finds the classes of a network; a class is known once its children's are, so inner ones come first."""

    def __init__(self, network: Network, module: nn.Module) -> None:
        self.network = network
        self.module = module
        self.plans = plans_of(network)
        self.texts = BlockTexts(network)
        self.known: dict[str, Expression | None] = {}
        self.classes: list[SourceClass] = []
        self.of_module: dict[str, SourceClass] = {}
        self.tensors = {layer["module"]: layer["op"] for _, layer in network.layers() if "" in layer["weights"]}
        self.names = {"DenseBlock", "OrderedDict", "Tensor"}
        self.groups: dict[tuple[str, str], list[Plan]] = {}
        for plan in self.plans.values():
            self.groups.setdefault(self.group(plan), []).append(plan)

    def root(self) -> SourceClass:
        """The class of the whole network; the others stand before it in `classes`."""
        self.make(self.groups[self.group(self.plans[""])])
        return self.of_module[""]

    def group(self, plan: Plan) -> tuple[str, str]:
        """What containers must have in common to be of one class: their block, or their place in an enclosing block."""
        path, inside = plan.use, ""
        while path:
            container = self.network.containers[path]
            if container.kind not in PARTS_OF_THE_LANGUAGE:
                return container.kind, inside
            path, _, name = path.rpartition(".")
            inside = f"{name}.{inside}" if inside else name
        return "", inside

    def expression(self, path: str) -> Expression | None:
        """How the module at a path is made; None where an expression in the forward pass stands for it."""
        if path not in self.known:
            self.known[path] = self.made(path)
        return self.known[path]

    def made(self, path: str) -> Expression | None:
        plan = self.plans.get(path)
        tensor = self.tensors.get(path)
        if tensor is not None:
            return drawn(tensor)
        if plan is None:
            return constructor_of(submodule(self.module, path))
        kind, inside = self.group(plan)
        if (inside or not kind) and not borrowed_by(self.plans, path):
            if is_dense(plan, self.network):
                layers = [step for step in plan.steps if not inline(self.network, step)]
                return Chain(self.members(plan, [step.module for step in layers]), named=True, dense=True)
            if is_chain(plan, self.network, lambda name: not hasattr(nn.Sequential, name)):
                digits = all(name == str(index) for index, name in enumerate(plan.children))
                return Chain(self.members(plan, list(plan.children.values())), named=not digits)
        if path not in self.of_module:
            self.make(self.groups[kind, inside])
        return self.call(self.of_module[path], path)

    def members(self, plan: Plan, modules: list[str]) -> dict[str, Expression]:
        names = {module: name for name, module in plan.children.items()}
        found = {names[module]: self.expression(module) for module in modules}
        return {name: expression for name, expression in found.items() if expression is not None}

    def call(self, cls: SourceClass, path: str) -> New:
        """The call that makes one use of a class."""
        index = [plan.path for plan in cls.uses].index(path)
        arguments = {name: values[index] for name, values in cls.arguments.items()}
        required = tuple(name for name in arguments if name not in cls.defaults)
        return New(cls.name, arguments, required, cls.defaults)

    # -- making a class

    def make(self, plans: list[Plan]) -> None:
        """The classes of containers that are alike: one, but for what no condition can tell apart."""
        bodies = {plan.path: body_of(self.network, plan) for plan in plans}
        parts = {plan.path: self.parts(plan, bodies[plan.path]) for plan in plans}
        left = list(plans)
        while left:
            largest = max(left, key=lambda plan: len(bodies[plan.path].actions))
            alike = []
            whole = parts[largest.path]
            for plan in left:
                some = parts[plan.path]
                missing = [name for name in whole if name not in some]
                same = all(name in whole and shape_of(whole[name]) == shape_of(part) for name, part in some.items())
                if same and bodies[largest.path].without(missing) == bodies[plan.path]:
                    alike.append(plan)
            self.declare(alike, largest, bodies[largest.path], parts)
            left = [plan for plan in left if plan not in alike]

    def parts(self, plan: Plan, body: Body) -> dict[str, Expression]:
        found = {name: self.expression(plan.children[name]) for name in body.children() if name in plan.children}
        return {name: expression for name, expression in found.items() if expression is not None}

    def declare(self, plans: list[Plan], model: Plan, body: Body, parts: dict[str, dict[str, Expression]]) -> None:
        columns = self.columns(plans)
        extra = Extra()
        cls = SourceClass(self.name(plans), plans, model, body)
        for name in (name for name in body.children() if any(name in parts[plan.path] for plan in plans)):
            there = [name in parts[plan.path] for plan in plans]
            kept = [index for index, present in enumerate(there) if present]
            some = {key: [values[index] for index in kept] for key, values in columns.items()}
            more = Extra()
            made = unified(name, [parts[plans[index].path][name] for index in kept], some, more)
            for key, values in more.columns.items():
                spread = [next(iter(values))] * len(plans)
                for index, value in zip(kept, values, strict=True):
                    spread[index] = value
                made = _renamed(made, key, extra.add(key, spread).text)
            condition = None
            if not all(there):
                kind, inside = self.group(plans[0])
                written = None if inside else self.texts.of(kind, name, columns, there)
                condition = written or extra.add(f"has_{name}", there).text
            cls.children.append(Child(name, made, condition))
        used = {word for child in cls.children for word in _words(child)}
        for name, values in (columns | extra.columns).items():
            if name in used:
                cls.arguments[name] = values
        self.set_defaults(cls)
        self.classes.append(cls)
        for plan in plans:
            self.of_module[plan.path] = cls

    def columns(self, plans: list[Plan]) -> dict[str, list[Any]]:
        """The arguments of a block, with their values at each use, and the channels that come in."""
        if len(plans) < 2:
            return {}
        found: dict[str, list[Any]] = {}
        incoming = [tuple(self.network.layer(value)["output"].shape[1:2]) for plan in plans for value in plan.reads[:1]]
        if len(incoming) == len(plans) and all(len(shape) and isinstance(shape[0], int) for shape in incoming):
            found["in_channels"] = [shape[0] for shape in incoming]
        kind, inside = self.group(plans[0])
        if kind and not inside:
            given = [self.network.containers[plan.use].arguments for plan in plans]
            for name in given[0]:
                values = [arguments.get(name) for arguments in given]
                if name != "in_channels" and all(isinstance(value, int | float | str | tuple) for value in values):
                    found[name] = values
        # The block's own arguments first: an expression is made of the first that fits.
        return {name: values for name, values in found.items() if name != "in_channels"} | {
            name: values for name, values in found.items() if name == "in_channels"
        }

    def set_defaults(self, cls: SourceClass) -> None:
        """A block's own defaults hold; an argument that had to be added has the value of most uses. These come last."""
        kind, inside = self.group(cls.uses[0])
        added = cls.arguments.keys() - self.columns(cls.uses).keys()
        for name, values in cls.arguments.items():
            if name in added:
                common, count = Counter(map(repr, values)).most_common(1)[0]
                if count * 2 > len(values):
                    cls.defaults[name] = next(value for value in values if repr(value) == common)
            elif not inside and (default := self.texts.default(kind, name)) is not None:
                cls.defaults[name] = default
        order = ["in_channels", *cls.arguments]
        ordered = sorted(cls.arguments, key=lambda name: (name in cls.defaults, order.index(name)))
        cls.arguments = {name: cls.arguments[name] for name in ordered}

    def name(self, plans: list[Plan]) -> str:
        """A class name, in capitals: after the block, or after the container's place."""
        kind, inside = self.group(plans[0])
        words = f"{kind}_{inside}".strip("_") if kind or inside else self.network.name
        made = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", words) if word)
        made = made if made[:1].isalpha() else f"Net{made}"
        unique, count = made, 2
        while unique in self.names:
            unique, count = f"{made}{count}", count + 1
        self.names.add(unique)
        return unique


def _words(child: Child) -> set[str]:
    """The names that a child's expression and condition read."""
    found = set(re.findall(r"[A-Za-z_]\w*", child.condition or ""))

    def look(expression: Expression) -> None:
        values = expression.members.values() if isinstance(expression, Chain) else expression.arguments.values()
        for value in values:
            if isinstance(value, New | Chain):
                look(value)
            elif isinstance(value, Raw):
                found.update(re.findall(r"[A-Za-z_]\w*", value.text))

    look(child.expression)
    return found


def _renamed(expression: Expression, old: str, new: str) -> Expression:
    """The expression with one argument called otherwise."""
    if old == new:
        return expression
    if isinstance(expression, Chain):
        members = {name: _renamed(member, old, new) for name, member in expression.members.items()}
        return Chain(members, expression.named, expression.dense)
    arguments = {
        name: Raw(new) if isinstance(value, Raw) and value.text == old else value
        for name, value in expression.arguments.items()
    }
    return New(expression.callee, arguments, expression.required, expression.defaults, expression.source)


def borrowed_by(plans: dict[str, Plan], path: str) -> list[str]:
    """The modules that a container or those in it call, and that belong to none of them."""
    found: dict[str, None] = {}
    for step in plans[path].steps:
        if not is_under(step.module, path):
            found[step.module] = None
        elif step.module in plans:
            found |= {module: None for module in borrowed_by(plans, step.module) if not is_under(module, path)}
    return list(found)
