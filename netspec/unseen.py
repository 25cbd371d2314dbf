"""Layers that stand in the text and nowhere in the network: their words and arguments are checked all the same.

What a `when` leaves out, and a shortcut that no shape asks for, is not worked out. Its shapes are not known, but a
mistyped op or argument is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from netspec.diagnostics import Diagnostic, did_you_mean
from netspec.document import Document
from netspec.layers import CONTAINERS, EVERYTHING, SHARE, Blocks, FormError, LayerForm, find_op, read_layer
from netspec.uses import layers_among, reached
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Node, Sequence


def unseen_mistakes(
    document: Document,
    forms: Mapping[int, LayerForm | None],
    worked_out: Collection[int],
) -> Iterator[Diagnostic]:
    """What is wrong with the words and arguments of layers that the network does not have, or of a library's blocks.

    Args:
        forms: the layers that were taken apart, by the identity of their nodes; None for what was told already.
        worked_out: the identities of the forms of layers that stand in the network.
    """
    blocks: Blocks = {name: block.parameters for name, block in document.blocks.items()}
    used = document.blocks.keys() if document.net is None else reached(document.bodies, document.blocks)
    within = [document.blocks[name] for name in used if not document.blocks[name].broken]
    bodies = [(body, document.parameters) for body in document.bodies]
    bodies += [(block.net, block.parameters) for block in within]
    for body, parameters in bodies:
        known = blocks | dict.fromkeys(layers_among(parameters), EVERYTHING)
        for node in _layers(body):
            form = forms.get(id(node))
            if id(node) in forms and (form is None or id(form) in worked_out):
                continue
            try:
                found = form or read_layer(node, known)
            except FormError as error:
                yield error.diagnostic
            else:
                yield from _unknown_arguments(found, known)


def _layers(body: Node) -> Iterator[Node]:
    """Every layer below a body, containers and what is in them."""
    if isinstance(body, Sequence):
        items = list(body.items)
    elif isinstance(body, MappingNode):
        items = [entry.value for entry in body.entries.values()]
    else:
        return
    for item in items:
        yield item
        if isinstance(item, Sequence):
            yield from _layers(item)
        elif isinstance(item, MappingNode):
            for kind in CONTAINERS:
                inner = item.get(kind)
                if inner is not None:
                    yield from _layers(inner)
            shortcut = item.get("shortcut")
            if shortcut is not None:
                yield shortcut
                yield from _layers(shortcut) if isinstance(shortcut, Sequence) else ()


def _unknown_arguments(form: LayerForm, blocks: Blocks) -> Iterator[Diagnostic]:
    if form.kind == SHARE:
        return
    op = None if form.kind in CONTAINERS or form.kind in blocks else find_op(form.kind)
    taken: Collection[str] = CONTAINERS.get(form.kind) or blocks.get(form.kind, op.model_fields if op else ())
    for name, entry in form.arguments.items():
        if name not in taken:
            message = f"`{form.kind}` has no argument `{name}`"
            yield Diagnostic("unknown-argument", message, entry.key.span, help=did_you_mean(name, list(taken)))
