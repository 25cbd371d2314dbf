"""From a document to a graph: the inputs, the layers, and those that only the served form has."""

from __future__ import annotations

from dataclasses import dataclass, field

from netspec.diagnostics import Diagnostic, Findings
from netspec.document import Document
from netspec.evaluation import TooLarge
from netspec.layers import CONTAINER, LayerForm
from netspec.network import SERVED, Network
from netspec.scope import Result, Scope
from netspec.unrolling import MAX_LAYERS, Unroller
from netspec.uses import least_size
from netspec.yaml_reader import Entry, Mapping


@dataclass(slots=True, eq=False)
class Elaborated:
    """What the elaboration found beside the graph.

    Attributes:
        scope: the top level's names.
        last: the result of the last layer.
        served: the result of the layers of `deploy`, where there are some.
        never: conditions that never were true.
        idle: shortcuts that never were needed.
    """

    scope: Scope
    last: Result
    served: Result | None = None
    never: list[Entry] = field(default_factory=list)
    idle: list[Entry] = field(default_factory=list)


def elaborate(document: Document, network: Network, findings: Findings) -> Elaborated:
    """Fills the network's graph, containers, inputs and sizes."""
    unroller = Unroller(document, network, findings)
    scope = _top_level(document, unroller)
    found = Elaborated(scope, Result(None))
    assert document.net is not None
    try:
        for body in document.bodies:
            if document.blocks and least_size(body, document.blocks) > MAX_LAYERS:
                span = next(iter(document.blocks.values())).span
                unroller.too_large(f"the blocks make more than {MAX_LAYERS:,} layers of one another", span, scope)
        found.last = unroller.sequence(document.net, scope) or found.last
        if document.served is not None:
            found.served = _served(document.served, unroller, scope, found.last)
    except TooLarge:
        pass  # it has been told
    if network.left_out or unroller.shortcuts:
        from netspec.unseen import unseen_mistakes  # only where there may be some

        for wrong in unseen_mistakes(document, unroller.forms, unroller.worked_out):
            findings.add(wrong)
    found.never = [entry for entry, ever in unroller.conditions.values() if not ever]
    found.idle = [entry for entry, needed in unroller.shortcuts.values() if not needed]
    return found


def _top_level(document: Document, unroller: Unroller) -> Scope:
    """Places the inputs; gives the scope in which the layers stand."""
    network = unroller.network
    names: dict[str, Result] = {}
    for declared in document.inputs.values():
        names[declared.name] = unroller.place_input(declared.name, declared.type, declared.span)
        network.sizes.update(declared.sizes)
    network.inputs = tuple(names)
    only = next(iter(names.values())) if len(names) == 1 else None
    shapes = {name: unroller.shaped(result) for name, result in names.items()}
    variables = {**shapes, **document.arguments}
    return Scope("", variables, only, names=names, inputs=() if only else tuple(names))


def _served(section: Mapping, unroller: Unroller, scope: Scope, last: Result) -> Result:
    """The layers of `deploy`, a container that may read every layer of the net."""
    net = section.entries["net"]
    taken = scope.names.get(SERVED)
    if taken is not None:
        message = f"no layer can be called `{SERVED}` where the served form has layers of its own: those are below it"
        span = taken.span or net.key.span
        unroller.report(Diagnostic("duplicate-name", message, span, help="give the layer another name"), scope)
        return Result(None)
    outputs = {"outputs": section.entries["outputs"]} if "outputs" in section.entries else {}
    unroller.place_container(SERVED, CONTAINER, {}, net.key.span)
    inner = scope.inner(SERVED, None if last.several else last)
    inner.inputs = last.several
    return unroller.inside(LayerForm(CONTAINER, net.key.span, net.value, outputs, {}), inner)
