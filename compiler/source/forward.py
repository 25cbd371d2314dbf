"""The forward pass of a class, line by line: values get short names, free again after their last use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compiler.lowering.base import lowering_of
from compiler.source.bodies import Action, Body

SHORT = ("x", "y", "z", "u", "v", "w")
UNREAD = "_"  # a result that nothing reads
LONG_LIVED = 8  # steps after which a value is called after the layer that makes it


@dataclass(slots=True)
class Line:
    """A line of a forward pass, and the value whose shape stands beside it."""

    code: str
    value: str | None = None


def attribute(name: str, bare: bool = False) -> str:
    """A child as it is written: `self.conv1`, or past attribute access where that means something else.

    Args:
        bare: it is a tensor and no module.
    """
    if not name.isidentifier() or hasattr(nn.Module, name):
        return f'self.{"_parameters" if bare else "_modules"}["{name}"]'
    return f"self.{name}"


class _Names:
    """Names for values, none of which is taken from a value that is still to be read."""

    def __init__(self, inputs: Sequence[str]) -> None:
        self.of = {f"in{index}": name for index, name in enumerate(inputs)}
        self.taken = set(inputs)

    def free(self, value: str) -> None:
        self.taken.discard(self.of[value])

    def give(self, value: str, lasts: int) -> str:
        own = value.strip(".").replace(".", "_")
        own = own if own.isidentifier() and own != UNREAD else f"value_{own}"
        choices = (own, *SHORT) if lasts > LONG_LIVED else (*SHORT, own)
        name = next((name for name in choices if name not in self.taken), "")
        count = 2
        while not name:
            name = f"{own}_{count}" if f"{own}_{count}" not in self.taken else ""
            count += 1
        self.taken.add(name)
        self.of[value] = name
        return name


def forward_lines(
    body: Body, inputs: Sequence[str], conditional: Mapping[str, bool], lent: Mapping[str, Sequence[str]]
) -> list[Line]:
    """The lines of a forward pass.

    Args:
        inputs: the names of what comes in.
        conditional: whether a child may be missing, by its name.
        lent: by child, the expressions of modules of other containers that it is given to call.
    """
    last = {value: index for index, action in enumerate(body.actions) for value in action.reads}
    last |= dict.fromkeys(body.gives, len(body.actions))
    names = _Names(inputs)
    for value in [value for value in names.of if value not in last]:
        names.free(value)
    lines = []
    for index, action in enumerate(body.actions):
        arguments = [names.of[value] for value in action.reads]
        for value in dict.fromkeys(action.reads):
            if last[value] == index:
                names.free(value)
        targets = [names.give(value, last[value] - index) if value in last else UNREAD for value in action.writes]
        code = _call(action, arguments, conditional.get(action.child, False), lent.get(action.child, ()))
        shown = action.writes[0] if len(action.writes) == 1 else None
        lines.append(Line(f"{', '.join(targets)} = {code}" if targets else code, shown))
    if body.gives:  # all but a container that nothing reads
        lines.append(Line(f"return {', '.join(names.of[value] for value in body.gives)}"))
    return lines


def _call(action: Action, arguments: list[str], conditional: bool, lent: Sequence[str]) -> str:
    if action.op is not None:
        return lowering_of(action.op).expression(action.op, arguments)
    module = attribute(action.child, action.bare) if not lent or lent[0] != action.child else action.child
    if "." in action.child:
        module, lent = lent[0], lent[1:]
    call = f"{module}({', '.join([*arguments, *lent])})"
    if action.bare:
        call = f"same_for_all({module}, {arguments[0]})"
    return f"{call} if {module} is not None else {arguments[0]}" if conditional else call
