"""Checks on the whole graph, after elaboration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netspec import dims
from netspec.calls import operand_diagnostic
from netspec.diagnostics import Diagnostic, Findings
from netspec.document import Document
from netspec.network import SERVED, Layer, Network, is_under, nominal
from netspec.ops.base import Op, Part
from netspec.parameters import LayerValue, Parameter
from netspec.source import Span
from netspec.tensor import ShapeError, TensorType
from netspec.uses import idle_blocks
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence


def check_at_sizes(network: Network, findings: Findings) -> None:
    """Works the shapes out once more with the free dimensions at `sizes`: what was left open with names must hold.

    A kernel may not fit any more, or two branches may differ: `⌊H/2⌋·2` is H only where H is even.
    """
    if not network.sizes:
        return
    known: dict[tuple[Op, tuple[TensorType, ...]], TensorType] = {}
    outputs: dict[str, TensorType] = {}
    at = " at " + ", ".join(f"{name} = {size}" for name, size in network.sizes.items())
    for path, layer in network.nodes.items():
        op, inputs = layer["op"], layer["inputs"]
        if op is None:
            outputs[path] = nominal(layer["output"], network.sizes)
            continue
        types = tuple(outputs[node] for node in inputs if node in outputs)
        if len(types) < len(inputs) or path in outputs:
            continue  # of a layer that was told of, or a part of one
        try:
            if (op, types) not in known:
                known[op, types] = op.output(*types)
            outputs[path] = known[op, types]
            outputs |= {f"{path}.{name}": tensor for name, tensor in op.parts(*types).items()}
        except ShapeError as error:
            from netspec.requirements import requirements  # only where there is something to mend

            found = operand_diagnostic(network, error, layer["span"], path, inputs, at)
            needs = tuple(f"what the network needs: {need}" for need in requirements(network))
            findings.add(replace(found, notes=found.notes + needs).located(layer["expansion"]))


def check_sizes_are_possible(network: Network, findings: Findings) -> None:
    """A layer whose output has no elements at all can't be meant."""
    for path, layer in network.layers():
        for dim in layer["output"].shape:
            size = dims.evaluate(dim, network.sizes)
            if isinstance(size, int) and size < 1:
                message = f"`{path}` gives {size} along a dimension: nothing would be left of its input"
                diagnostic = Diagnostic("empty-output", message, layer["span"], help="shrink the input less before it")
                findings.add(diagnostic.located(layer["expansion"]))
                break


def check_served_weights(network: Network, findings: Findings) -> None:
    """Refuses weights in layers that are never trained."""
    for path, layer in network.layers():
        if is_under(path, SERVED) and layer["parameters"]:
            assert layer["op"] is not None
            message = f"`{layer['op'].kind}` has weights, which nothing trains: the layers of `deploy` are only served"
            help = "put the layer into `net`, and name it under `outputs` if nothing there reads it"
            found = Diagnostic("recipe-mismatch", message, layer["span"], help=help)
            findings.add(found.located(layer["expansion"]))


def check_everything_is_read(network: Network, outputs: Iterable[str], findings: Findings) -> None:
    """Warns of inputs and layers from which nothing leads to an output."""
    useful: set[str] = set()
    ahead = list(outputs)
    while ahead:
        node = ahead.pop()
        if node not in useful:
            useful.add(node)
            ahead += network.layer(node)["inputs"]
    if len(useful) == len(network.nodes):
        return
    reading = network.readers()
    told: set[Span] = set()
    for path in network.nodes:
        if path in useful:
            continue
        layer: Layer = network.layer(path)
        if isinstance(layer["op"], Part):
            continue
        parts = (node for node in reading[path] if node not in useful)
        readers = [node for node in parts if not isinstance(network.layer(node)["op"], Part)]
        if readers:
            continue  # told of the last layer of a chain that leads nowhere
        if layer["span"] in told:
            continue  # the same text, in another turn of a repeat or another use of a block
        told.add(layer["span"])
        what = "input" if layer["op"] is None else "layer"
        diagnostic = Diagnostic(
            "unused-layer",
            f"nothing reads the {what} `{path}`",
            layer["span"],
            severity="warning",
            help="name it in a layer's `from` or in `outputs`, or remove it",
        )
        findings.add(diagnostic.located(layer["expansion"]))


def check_arguments_are_used(document: Document, file: str, findings: Findings) -> None:
    """Warns of arguments that no expression reads, and of blocks that no layer uses."""
    body = [
        part
        for part in (document.net, *(document.root.get(name) for name in ("inputs", "train", "deploy")))
        if part is not None
    ]
    _warn_unused(document.parameters, [*body, *_defaults(document.parameters)], "the spec", file, findings)
    for block in document.blocks.values():
        _warn_unused(
            block.parameters, [block.net, *_defaults(block.parameters)], f"the block `{block.name}`", file, findings
        )
    for name in idle_blocks(document):
        span = document.blocks[name].span
        if span.source.name == file:  # of a base or a library, one does not need all
            message = f"no layer uses the block `{name}`"
            findings.add(Diagnostic("unused-block", message, span, severity="warning", help="use it or remove it"))


def check_conditions_are_met(document: Document, never: Iterable[Entry], findings: Findings) -> None:
    """Warns of layers that are always left out: their `when` is false, and no argument of the spec can change it."""
    blocks = document.blocks.values()
    bodies = [block.net for block in blocks] + document.bodies
    given: dict[str, set[str]] = {"i": set()}  # the names on which a block's argument, or `i`, depends
    for block in blocks:
        for name, parameter in block.parameters.items():
            given.setdefault(name, set()).update(_names([parameter.default] if parameter.default is not None else []))
    firsts = {block.name: next(iter(block.parameters), "") for block in blocks}
    for entry in (entry for body in bodies for entry in _entries(body)):
        name = firsts.get(entry.key.text, "i" if entry.key.text == "repeat" else entry.key.text)
        if name in given:
            given[name] |= _names([entry.value])
    for condition in never:
        reached: set[str] = set()
        ahead = _names([condition.value])
        while ahead:
            reached |= ahead
            ahead = {name for known in ahead for name in given.get(known, ())} - reached
        shapes = {"in", *document.inputs} & reached and document.parameters
        if shapes or reached & document.parameters.keys():
            continue
        message = "this condition is never true: the layer is always left out"
        help = "remove the layer, or mend the condition"
        span = condition.value.span
        findings.add(Diagnostic("never-true", message, span, severity="warning", help=help))


def check_shortcuts_are_needed(idle: Iterable[Entry], findings: Findings) -> None:
    """Warns of shortcuts of residual containers that keep the shape at every use."""
    for entry in idle:
        message = "`shortcut` has no effect: the layers keep the shape, and the shortcut is the input itself"
        span = entry.key.span
        findings.add(Diagnostic("no-effect", message, span, severity="warning", help="leave it out"))


def _entries(node: Node) -> Iterator[Entry]:
    """Every key with its value, below a node."""
    if isinstance(node, Sequence):
        for item in node.items:
            yield from _entries(item)
    elif isinstance(node, Mapping):
        for entry in node.entries.values():
            yield entry
            yield from _entries(entry.value)


def _names(nodes: Iterable[Node]) -> set[str]:
    return set(_split_words("\n".join(word for node in nodes for word in _texts(node))))


def _defaults(parameters: dict[str, Parameter]) -> list[Node]:
    return [parameter.default for parameter in parameters.values() if parameter.default is not None]


def _warn_unused(
    parameters: dict[str, Parameter], nodes: Iterable[Node], owner: str, file: str, findings: Findings
) -> None:
    if not parameters:
        return
    nodes = list(nodes)
    words = _names(nodes)
    kinds: set[str] = set()
    if any(parameter.type is LayerValue for parameter in parameters.values()):
        kinds = {word for node in nodes for word in _texts(node, keys=True)}
    for name, parameter in parameters.items():
        if parameter.span.source.name != file:
            continue  # of a base, which another spec may use otherwise
        if name not in words and not (parameter.type is LayerValue and name in kinds):
            message = f"nothing in {owner} reads the argument `{name}`"
            help = "use it or remove it"
            findings.add(Diagnostic("unused-argument", message, parameter.span, severity="warning", help=help))


def _split_words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()


def _texts(node: Node, keys: bool = False) -> Iterable[str]:
    """The text of every value below a node, and of the keys if wanted."""
    if isinstance(node, Scalar):
        yield node.text
    else:
        children = node.items if isinstance(node, Sequence) else [entry.value for entry in node.entries.values()]
        if keys and isinstance(node, Mapping):
            yield from node.entries
        for child in children:
            yield from _texts(child, keys)


def check_layers_exist(network: Network, document: Document, findings: Findings) -> None:
    """Refuses a network in which no layer is left."""
    if next(network.layers(), None) is None and document.net is not None:
        findings.add(Diagnostic("no-layers", "the network has no layers", document.net.span))
