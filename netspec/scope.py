"""Names in a spec: what a reference may read from a given place, and what it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netspec.binding import Refused
from netspec.diagnostics import Diagnostic, Frame, Label, did_you_mean
from netspec.layers import LayerForm
from netspec.source import Span
from netspec.yaml_reader import Node, Scalar


@dataclass(slots=True, eq=False)
class Result:
    """What a name stands for: a tensor, and for a container also the names inside it.

    Attributes:
        node: the graph's node that gives the tensor; None after a mistake, and where there are several.
        children: by name, for a container.
        positional: whether the children are items of a list, which can't be referred to by their position.
        several: the names of the tensors, where the name alone stands for none of them.
        maker: the layer as written, the scope that it stands in and its path, where it may be shared.
    """

    node: str | None
    children: dict[str, Result] = field(default_factory=dict)
    positional: bool = False
    several: tuple[str, ...] = ()
    span: Span | None = None
    maker: tuple[LayerForm, Scope, str] | None = None


@dataclass(slots=True, eq=False)
class Scope:
    """What can be read at a place in the spec.

    Attributes:
        path: of the enclosing container, "" at the top.
        variables: arguments, and the repeat index `i`.
        names: layers that stand before, by name.
        later: layers that stand after.
        current: the layer that is being worked out.
        input: what the container reads; None where it reads several tensors.
        inputs: the names of these.
        parent: the container around this one, within the same block.
        outer: the scope from which the block was used; not readable, named in help.
        visible: the variables with `in`, made when first asked for.
        values: theirs, where they can be told from those of another scope of the same block.
    """

    path: str
    variables: dict[str, Any]
    input: Result | None
    expansion: tuple[Frame, ...] = ()
    names: dict[str, Result] = field(default_factory=dict)
    later: dict[str, Span] = field(default_factory=dict)
    current: str | None = None
    parent: Scope | None = None
    outer: Scope | None = None
    inputs: tuple[str, ...] = ()
    visible: dict[str, Any] | None = None
    values: tuple[Any, ...] | None = None

    def join(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def inner(self, path: str, source: Result | None, variables: dict[str, Any] | None = None) -> Scope:
        """The scope of a container written inside this one."""
        return Scope(path, self.variables | (variables or {}), source, self.expansion, parent=self)


def resolve(node: Node, scope: Scope) -> Result:
    """What a reference stands for: a layer before it, an input, `in`, or a path into a container.

    Raises:
        Refused: nothing is called so there.
    """
    if not isinstance(node, Scalar) or node.value is None:
        help = "write the name of a layer, as in `from: conv1` or `from: backbone.layer3`"
        raise Refused(Diagnostic("wrong-type", "a reference is a name", node.span, help=help))
    first, *rest = node.text.split(".")
    found = _lookup(first, node, scope)
    path = first
    for part in rest:
        inner = found.children.get(part)
        if inner is None or found.positional:
            if found.node is None and not found.children:
                return found  # a mistake that was told where it was made
            raise Refused(_no_child(node, path, part, found))
        found, path = inner, f"{path}.{part}"
    return found


def _lookup(name: str, node: Scalar, scope: Scope) -> Result:
    if name == "in":
        if scope.input is None:
            help = "name the input: " + ", ".join(f"`{known}`" for known in nearest_inputs(scope))
            raise Refused(Diagnostic("unknown-reference", "`in` could be any of the inputs", node.span, help=help))
        return scope.input
    names: set[str] = {"in"}
    place: Scope | None = scope
    while place is not None:
        if name in place.names and not name.isdigit():
            return place.names[name]
        if name in place.later:
            raise Refused(_forward_reference(name, node, place.later[name]))
        names |= {key for key in place.names if not key.isdigit()}
        place = place.parent
    raise Refused(_unknown_reference(name, node, scope, names))


def nearest_inputs(scope: Scope) -> tuple[str, ...]:
    """The names of the several tensors that a place's container reads."""
    place: Scope | None = scope
    while place is not None and not place.inputs:
        place = place.parent
    return place.inputs if place else ()


def the_one(found: Result, node: Node) -> Result:
    """A result that is read as one tensor.

    Raises:
        Refused: it is several, and the reference names none of them.
    """
    if not found.several:
        return found
    raise Refused(several_tensors(node.text if isinstance(node, Scalar) else "", found, node.span))


def several_tensors(name: str, found: Result, span: Span) -> Diagnostic:
    """What is said where one tensor is read, and a name, "" for an unnamed layer above, stands for several."""
    shown = ", ".join(f"`{part}`" for part in found.several)
    what = f"`{name}`" if name else "the layer above"
    help = (
        f"say which one: `from: {name}.{found.several[0]}`" if name else "give it a name, and say which one: `from: …`"
    )
    return Diagnostic("ambiguous-reference", f"{what} gives several tensors: {shown}", span, help=help)


def _unknown_reference(name: str, node: Scalar, scope: Scope, names: set[str]) -> Diagnostic:
    message = f"nothing that stands before is called `{name}`"
    if name.removeprefix("-").isdigit():
        message = f"`{name}` is a position; layers are referred to by name"
        help = "name the layer, and use the name: positions would silently mean another layer after an insertion"
        return Diagnostic("unknown-reference", message, node.span, help=help)
    place: Scope | None = scope
    crossed = False
    while place is not None:
        if name == place.current and not crossed:
            note = "layers run in the order in which they stand; reading itself would be a cycle"
            return Diagnostic("forward-reference", f"`{name}` reads itself", node.span, notes=(note,))
        if crossed and name in place.names:
            help = "a block reads only its own layers and `in`; pass the tensor through `in`"
            return Diagnostic("unknown-reference", message, node.span, help=help)
        crossed = crossed or place.parent is None
        place = place.parent or place.outer
    return Diagnostic("unknown-reference", message, node.span, help=did_you_mean(name, names))


def _no_child(node: Scalar, path: str, part: str, found: Result) -> Diagnostic:
    start = len(path) + 1
    span = node.span.within(start + node.quoted, len(part))
    if found.positional:
        help = "name the layers of the list, and use the name: positions would silently mean another after an insertion"
        return Diagnostic("unknown-reference", f"`{path}` is a list; its layers have no names", span, help=help)
    if not found.children:
        return Diagnostic("unknown-reference", f"`{path}` is a single layer; nothing is inside it", span)
    names = [name for name in found.children if name]
    return Diagnostic("unknown-reference", f"`{path}` holds no `{part}`", span, help=did_you_mean(part, names))


def _forward_reference(name: str, node: Scalar, definition: Span) -> Diagnostic:
    return Diagnostic(
        "forward-reference",
        f"`{name}` stands after the layer that reads it",
        node.span,
        labels=(Label(definition, f"`{name}` stands here"),),
        notes=("layers run in the order in which they stand; reading a later one would be a cycle",),
        help=f"move `{name}` above its reader",
    )
