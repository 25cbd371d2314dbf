"""What a layer is given: the arguments of an op or a block, how many tensors it reads, and where its mistakes stand."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from netspec.binding import Refused, bind, evaluate
from netspec.diagnostics import Diagnostic, Label, did_you_mean, nearest
from netspec.document import Block
from netspec.layers import LayerForm, find_op
from netspec.names import is_name
from netspec.network import Network
from netspec.ops.base import Op
from netspec.parameters import bind_parameters
from netspec.source import Span
from netspec.tensor import ShapeError, write_shape
from netspec.yaml_reader import Entry, Node, Scalar


def op_arguments(cls: type[Op], form: LayerForm, scope: dict[str, Any]) -> Op:
    """The op with its arguments as given.

    Raises:
        Refused: with every mistake found.
        NotKnown: a value depends on a shape that is not known.
    """
    name = cls.primary()
    primary = None
    if form.value is not None and not cls.wiring:
        if name is None:
            message = f"`{form.kind}` takes no arguments"
            raise Refused(Diagnostic("unknown-argument", message, form.value.span, help=f"write `{form.kind}`"))
        primary = (name, form.value, form.where)
    return bind(cls, form.arguments, scope, f"`{form.kind}`", form.where, primary)


def block_arguments(block: Block, form: LayerForm, scope: dict[str, Any]) -> dict[str, Any]:
    """The values of a block's arguments for one use of it.

    Raises:
        Refused: with every mistake found.
    """
    given = {key: entry for key, entry in form.arguments.items() if key in block.parameters}
    labels = (Label(block.span, "the block"),)
    wrong: list[Diagnostic] = []
    for key, entry in form.arguments.items():
        if key not in block.parameters:
            help = did_you_mean(key, block.parameters) or "the block takes no arguments"
            message = f"the block `{block.name}` has no argument `{key}`"
            wrong.append(Diagnostic("unknown-argument", message, entry.key.span, labels=labels, help=help))
    first = next(iter(block.parameters), None)
    if form.value is not None:
        if first is None:
            message = f"the block `{block.name}` takes no arguments"
            wrong.append(Diagnostic("unknown-argument", message, form.value.span, labels=labels))
        elif first in given:
            label = Label(form.value.span, "this value already sets it")
            message = f"the block `{block.name}` is given `{first}` twice"
            wrong.append(Diagnostic("duplicate-key", message, given[first].key.span, labels=(label,)))
        else:
            given[first] = Entry(Scalar(first, first, False, form.where), form.value)
    # a mistyped argument is told once, not also as a missing one
    meant = {nearest(key, block.parameters) for key in form.arguments if key not in block.parameters}
    arguments, more = bind_parameters(block.parameters, given, scope, f"the block `{block.name}`", form.where, meant)
    if wrong or more:
        raise Refused(*wrong, *more)
    return arguments


def wrong_count(cls: type[Op], form: LayerForm, count: int, inputs: Collection[str]) -> Diagnostic | None:
    """What is wrong with the number of tensors that an op reads, if anything."""
    least, most = cls.least_inputs, cls.most_inputs
    if count >= least and (most is None or count <= most):
        return None
    if not count and ("from" in form.modifiers or (cls.wiring and form.value is not None)):
        message = f"`{form.kind}` reads nothing: its list of layers is empty"
        help = "name a layer in it"
    elif not count:
        message = f"`{form.kind}` reads nothing: there are several inputs and none is named"
        help = f"say which one: `from: {next(iter(inputs), '…')}`"
    else:
        wanted = f"{least}" if most == least else f"at least {least}"
        message = f"`{form.kind}` reads {wanted} tensor{'s' if wanted != '1' else ''}, {count} given"
        help = "bring them together first, with `concat` or `add`"
        if cls.wiring:
            help = f"name them: `{form.kind}: [a, b]`"
    return Diagnostic("wrong-input-count", message, form.where, help=help)


def is_dense(form: LayerForm) -> bool:
    """Whether a `repeat` has `connect: dense`.

    Raises:
        Refused: `connect` is something else.
    """
    entry = form.modifiers.get("connect")
    if entry is None:
        return False
    if isinstance(entry.value, Scalar) and entry.value.text == "dense":
        return True
    message = "`connect` is `dense`, or is left out"
    raise Refused(Diagnostic("wrong-type", message, entry.value.span, help="write `connect: dense`"))


def turn_name(form: LayerForm, i: int, taken: Collection[str], scope: dict[str, Any]) -> str:
    """What turn `i` of a `repeat` is called: its number, or what `as` says.

    Raises:
        Refused: `as` gives no name, or one that is taken.
        NotKnown: an expression in it depends on a shape that is not known.
    """
    entry = form.modifiers.get("as")
    if entry is None:
        return str(i)
    name = fill_in(entry.value, scope)
    if name in taken:
        help = "let the name depend on the turn: `as: layer{i + 1}`"
        raise Refused(Diagnostic("duplicate-name", f"two turns are called `{name}`", entry.value.span, help=help))
    if not is_name(name):
        raise Refused(Diagnostic("bad-name", f"`{name}` can't name a turn", entry.value.span))
    return name


def fill_in(node: Node, scope: dict[str, Any]) -> str:
    """A text with the values of the expressions in it: `denselayer{i + 1}`.

    Raises:
        Refused: an expression is wrong, or gives no whole number.
        NotKnown: an expression depends on a shape that is not known.
    """
    if not isinstance(node, Scalar):
        raise Refused(Diagnostic("wrong-type", "a name is expected, as in `layer{i + 1}`", node.span))

    def value(match: re.Match[str]) -> str:
        start = match.start(1) + node.quoted
        inner = Scalar(match[1], match[1], False, node.span.within(start, len(match[1])))
        found = evaluate(inner, scope)
        if not isinstance(found, int) or isinstance(found, bool):
            raise Refused(Diagnostic("wrong-type", f"`{match[1]}` gives no whole number", inner.span))
        return str(found)

    return re.sub(r"\{([^{}]*)\}", value, node.text)


def place_of(error: ShapeError, form: LayerForm) -> Span:
    """Where in a layer a shape rule's refusal belongs: the argument at fault, or the kind."""
    entry = form.arguments.get(error.argument) if error.argument else None
    if entry is not None:
        return entry.value.span
    cls = find_op(form.kind)
    if error.argument and form.value is not None and cls is not None and cls.primary() == error.argument:
        return form.value.span
    return form.where


def operand_diagnostic(
    network: Network, error: ShapeError, span: Span, path: str, nodes: tuple[str, ...], at: str = ""
) -> Diagnostic:
    """A shape rule's refusal as a diagnostic that names every operand, its shape, and where it comes from."""
    labels = []
    for node in dict.fromkeys(nodes):
        layer = network.layer(node)
        shape = write_shape(layer["output"].shape, network.sizes if at else None)
        labels.append(Label(layer["span"], f"`{node}` gives {shape}"))
    return Diagnostic(
        error.code, f"`{path}`: {error.message}{at}", span, labels=tuple(labels), notes=error.notes, help=error.help
    )
