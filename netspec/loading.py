"""From a file to a checked network: the one way in for commands and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netspec.binding import if_known
from netspec.checks import (
    check_arguments_are_used,
    check_at_sizes,
    check_conditions_are_met,
    check_everything_is_read,
    check_layers_exist,
    check_served_weights,
    check_shortcuts_are_needed,
    check_sizes_are_possible,
)
from netspec.diagnostics import Diagnostic, Findings, SpecError
from netspec.document import Document, is_library, read_document
from netspec.elaborate import Elaborated, elaborate
from netspec.expect import check_expectations
from netspec.extension import extend, without, written_out
from netspec.garbage import without_collections
from netspec.model import Model
from netspec.names import bad_name
from netspec.network import Network
from netspec.ops.base import Part
from netspec.overrides import Override, apply_overrides, parse_overrides
from netspec.parameters import as_data
from netspec.scope import Result, Scope, resolve, the_one
from netspec.source import Source, whole_file
from netspec.uses import idle_blocks
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Node, Scalar, Sequence, parse, read_file
from netspec.zoo import find_spec


@dataclass(slots=True, eq=False)
class Checked:
    """The outcome of checking a spec: the network where it is valid, and everything that was found.

    A library of blocks is valid without being a network; `library` says that the file is one.
    """

    file: str
    network: Network | None
    diagnostics: tuple[Diagnostic, ...]
    omitted: int = 0
    library: bool = False

    @property
    def valid(self) -> bool:
        if self.library:
            return all(diagnostic.severity != "error" for diagnostic in self.diagnostics)
        return self.network is not None

    def strictly(self) -> Checked:
        """The outcome with every warning an error."""
        strict = tuple(replace(diagnostic, severity="error") for diagnostic in self.diagnostics)
        return replace(self, network=None if strict else self.network, diagnostics=strict)

    def to_train(self) -> Checked:
        """The outcome where the network is to be trained: it has to fit its data, else a warning."""
        wrong = [replace(found, severity="error") for found in self.diagnostics if found.code == "recipe-mismatch"]
        return replace(self, network=None, diagnostics=tuple(wrong)) if wrong and self.network else self

    @property
    def obstacles(self) -> tuple[Diagnostic, ...]:
        """What stands between the file and a network: the findings, or that a library has none."""
        if self.library and self.valid:
            help = "put it into a spec's `use`"
            return (Diagnostic("library", "a library of blocks is no network", whole_file(self.file), help=help),)
        return self.diagnostics


def load(spec: str | Path, *settings: str, inputs: Iterable[str] = (), **arguments: Any) -> Model:
    """The checked network of a spec: `load("resnet50", classes=10)`.

    Args:
        spec: a file's path, or the name of a spec in the zoo.
        settings: overrides as on the command line, `"classes=10"`, `"train.epochs=5"`.
        inputs: the sizes at which it is checked, `"image=1x3x200x264"`, in place of the spec's own.
        arguments: values for the spec's arguments.

    Raises:
        SpecError: the spec is not valid; it carries the diagnostics.
    """
    given = [f"{name}={json.dumps(value, default=lambda number: number.item())}" for name, value in arguments.items()]
    checked = check(spec, (*settings, *given), inputs)
    if checked.network is None:
        raise SpecError(checked.obstacles)
    return Model.of(checked.network)


def check(spec: str | Path, settings: Iterable[str] = (), inputs: Iterable[str] = ()) -> Checked:
    """Checks a spec, at the sizes of its inputs that are asked for; nothing about its content raises."""
    try:
        path = find_spec(spec)
        overrides = parse_overrides(settings)
        return check_source(read_file(path, str(path)), overrides, inputs)
    except SpecError as error:
        return Checked(str(spec), None, error.diagnostics)


def check_source(source: Source, overrides: Iterable[Override] = (), inputs: Iterable[str] = ()) -> Checked:
    """Checks the text of a spec; nothing about its content raises."""
    with without_collections():
        return _check(source, overrides, inputs)


def _check(source: Source, overrides: Iterable[Override], inputs: Iterable[str]) -> Checked:
    findings = Findings()
    try:
        written = parse(source)
        root = extend(written, Path(source.name).parent)
        arguments = apply_overrides(root, overrides)
    except SpecError as error:
        return Checked(source.name, None, error.diagnostics)
    network = None
    document = read_document(root, Path(source.name).stem, arguments, findings)
    if document is not None and document.net is None:
        from netspec.unseen import unseen_mistakes  # of a library's blocks, which nothing here uses

        for wrong in unseen_mistakes(document, {}, ()):
            findings.add(wrong)
    elif document is not None:
        text = source.text if root is written else written_out(without(root, "blocks", idle_blocks(document)))
        network = Network(document.name, document.origin, source.name, text, as_data(document.arguments))
        try:
            _fill(document, network, tuple(inputs), findings)
        except SpecError as error:
            return Checked(source.name, None, (*findings, *error.diagnostics), findings.omitted)
    found = tuple(findings)
    return Checked(source.name, None if findings.failed else network, found, findings.omitted, is_library(root))


def _fill(document: Document, network: Network, inputs: tuple[str, ...], findings: Findings) -> None:
    elaborated = elaborate(document, network, findings)
    root = document.root
    if "train" in root.entries or "deploy" in root.entries:
        from netspec.recipe import read_deploy, read_train  # its many models are for specs that have these sections

        train = read_train(root.entries.get("train"), document.arguments, findings)
        deploy = read_deploy(root.entries.get("deploy"), document.arguments, findings)
        network.sections = {"train": train, "deploy": deploy}
    _read_outputs(document, network, elaborated, findings)
    if findings.failed:
        return  # what follows would only repeat the same mistakes in other words
    if inputs:
        from netspec.asked_sizes import ask  # only where sizes are asked for

        ask(network, inputs)
    network.as_written = document.as_written and not inputs
    check_layers_exist(network, document, findings)
    check_at_sizes(network, findings)
    if findings.failed:
        return
    check_sizes_are_possible(network, findings)
    if network.sections:
        from netspec.recipe_checks import check_recipe

        check_recipe(network, root, findings)
    names: dict[str, str] = {}
    _flatten(elaborated.scope.names, "", names)
    if network.as_written:  # what a spec asserts of itself need not hold with other arguments or sizes
        check_expectations(network, names, root.entries.get("expect"), findings)
    served = _served(elaborated.served, document, findings) if elaborated.served is not None else {}
    check_everything_is_read(network, (*network.outputs.values(), *served.values()), findings)
    check_arguments_are_used(document, network.file, findings)
    check_conditions_are_met(document, elaborated.never, findings)
    if not document.parameters:  # with other arguments the shapes may differ
        check_shortcuts_are_needed(elaborated.idle, findings)
    if elaborated.served is not None:
        check_served_weights(network, findings)
        network.set_apart(served)


def _resolved(reference: Node, scope: Scope, findings: Findings) -> Result | None:
    """What a reference stands for; None after a mistake, which is told."""
    return if_known(lambda: the_one(resolve(reference, scope), reference), findings.add)


def _read_outputs(document: Document, network: Network, elaborated: Elaborated, findings: Findings) -> None:
    """`outputs`: a list of references, or names for them; the last layer where the section is missing."""
    node = document.root.get("outputs")
    if node is None:
        network.outputs = {node: node for node in _ends(elaborated.last)}
        return
    named: list[tuple[str | None, Node]]
    if isinstance(node, MappingNode):
        named = [(name, entry.value) for name, entry in node.entries.items()]
        for entry in node.entries.values():
            wrong = bad_name(entry.key, "an output")
            if wrong:
                findings.add(wrong)
    else:
        named = [(None, item) for item in (node.items if isinstance(node, Sequence) else [node])]
    if not named:
        help = "name layers, or leave the section out: the last layer is the output then"
        findings.add(Diagnostic("missing-argument", "`outputs` names nothing", node.span, help=help))
    for name, reference in named:
        result = _resolved(reference, elaborated.scope, findings)
        if result is not None and result.node is not None:
            assert isinstance(reference, Scalar)
            given = name or reference.text  # as it is written, whatever stands inside a container
            if given in network.outputs:
                message = f"`{given}` is named twice"
                findings.add(Diagnostic("duplicate-name", message, reference.span, help="name each output once"))
            network.outputs[given] = result.node
            if given in network.nodes and given not in (result.node, _maker(network, result.node)):
                message = f"the output `{given}` is another layer than the one called so"
                help = "give the output a name of its own"
                findings.add(Diagnostic("duplicate-name", message, reference.span, help=help))


def _maker(network: Network, node: str) -> str | None:
    """The layer of which a tensor is one of several results."""
    layer = network.layer(node)
    return layer["inputs"][0] if isinstance(layer["op"], Part) else None


def _served(result: Result, document: Document, findings: Findings) -> dict[str, str]:
    """What the layers of `deploy` give, each tensor called by the last part of its name."""
    ends = {name: result.children[name].node for name in result.several} if result.several else {"": result.node}
    served = {name or node.rpartition(".")[2]: node for name, node in ends.items() if node is not None}
    for name in served.keys() & document.inputs.keys():
        message = f"the served form gives `{name}`, and an input is called so"
        help = "name what it gives, `outputs: {found: …}`, or call the input otherwise"
        findings.add(Diagnostic("duplicate-name", message, document.inputs[name].span, help=help))
    return served


def _ends(result: Result) -> Iterator[str]:
    """The tensors that a result stands for, also where each of several is several."""
    if result.several:
        for name in result.several:
            yield from _ends(result.children[name])
    elif result.node is not None:
        yield result.node


def _flatten(names: dict[str, Result], prefix: str, into: dict[str, str]) -> None:
    """Every path that names a tensor, with its node: containers too."""
    for name, result in names.items():
        path = f"{prefix}{name}"
        if result.node is not None:
            into[path] = result.node
        _flatten(result.children, f"{path}.", into)
