"""Ops and what they read: the layer above, or the tensors that are named."""

from __future__ import annotations

from typing import Any

from netspec.calls import op_arguments, wrong_count
from netspec.diagnostics import Diagnostic, Findings, Label
from netspec.document import Document
from netspec.expressions import Shaped
from netspec.layers import BRANCHES, CONTAINER, CONTAINERS, LayerForm, find_op
from netspec.names import is_name
from netspec.network import Network
from netspec.ops.base import Op
from netspec.parameters import LayerValue
from netspec.placing import Placer
from netspec.scope import Result, Scope, nearest_inputs, several_tensors, the_one
from netspec.source import Span
from netspec.yaml_reader import Mapping, Node, Scalar, Sequence


class Reader(Placer):
    """Places ops as they are written, and finds what a layer reads."""

    def __init__(self, document: Document, network: Network, findings: Findings) -> None:
        super().__init__(network, findings)
        self.document = document
        self.ops: dict[tuple[Any, ...], Op | None] = {}
        self.written: dict[tuple[int, int], dict[str, str]] = {}  # the expressions of layers as written
        self.looked_at: set[int] = set()  # layers as written, of which it is known whether all has an effect

    def operation(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        cls = find_op(form.kind)
        assert cls is not None, "the form was read with the same ops"
        op = self.op(cls, form, scope)
        wrong = wrong_count(cls, form, len(reads), nearest_inputs(scope))
        if wrong is not None:
            self.report(wrong, scope)
        if wrong is not None or op is None:
            return Result(None)
        placed = self.place(op, path, form.where, scope, reads, form)
        formulas = self.formulas(cls, form)
        if formulas:
            self.network.formulas[path] = (formulas, self.variables(scope))
        if form.arguments and id(form) not in self.looked_at and (placed.node or placed.several):
            self.looked_at.add(id(form))
            self.warn_without_effect(op, form, [read.node for read in reads if read.node is not None])
        return placed

    def formulas(self, cls: type[Op], form: LayerForm) -> dict[str, str]:
        """The arguments of a layer that are written as expressions, with their texts."""
        key = (id(form.arguments), id(form.value))
        if key not in self.written:
            given = {name: entry.value for name, entry in form.arguments.items()}
            first = cls.primary()
            if form.value is not None and first is not None:
                given = {first: form.value, **given}
            self.written[key] = {
                name: value.text
                for name, value in given.items()
                if isinstance(value, Scalar) and isinstance(value.value, str) and not value.text.isidentifier()
            }
        return self.written[key]

    def op(self, cls: type[Op], form: LayerForm, scope: Scope) -> Op | None:
        """The op with its arguments; one of a block is worked out once for all uses that have the same values."""
        variables = self.variables(scope)
        if scope.values is None:
            scope.values = tuple(
                tuple(value.attributes.items()) if isinstance(value, Shaped) else value for value in variables.values()
            )
        try:
            # Not the form's identity: one that an argument stands for is made anew, of the same arguments, each time.
            key = (cls, id(form.arguments), id(form.value), scope.values, *map(type, scope.values))
            if key not in self.ops:
                self.ops[key] = self.bound(lambda: op_arguments(cls, form, variables), scope)
            return self.ops[key]
        except TypeError:  # an argument that holds a layer has no value to go by
            return self.bound(lambda: op_arguments(cls, form, variables), scope)

    def warn_without_effect(self, op: Op, form: LayerForm, nodes: list[str]) -> None:
        """Warns of arguments that are written out and change nothing."""
        types = [self.network.layer(node)["output"] for node in nodes]
        for name, why in op.without_effect(*types):
            entry = form.arguments.get(name)
            if entry is None or (isinstance(entry.value, Scalar) and isinstance(entry.value.value, str)):
                continue  # an expression may well have another value elsewhere
            message = f"`{name}` has no effect: {why}"
            help = "leave it out"
            self.findings.add(Diagnostic("no-effect", message, entry.key.span, severity="warning", help=help))

    def op_class(self, form: LayerForm, scope: Scope) -> type[Op] | None:
        """The op that a layer is, also where an argument says so; None for a container or a block."""
        given = scope.variables.get(form.kind)
        kind = given.word if isinstance(given, LayerValue) and given.word else form.kind
        return None if kind in CONTAINERS or kind in self.document.blocks else find_op(kind)

    def reads(self, form: LayerForm, scope: Scope, previous: Result | None) -> list[Result]:
        """What a layer reads: what `from` or its own value names, else the layer above."""
        cls = self.op_class(form, scope)
        wiring = cls is not None and cls.wiring and form.value is not None
        entry = form.modifiers.get("from")
        if wiring and entry is not None:
            message = f"`{form.kind}` is told twice what it reads"
            labels = (Label(form.where, "its own value names the layers already"),)
            self.report(Diagnostic("duplicate-key", message, entry.key.span, labels=labels), scope)
        node = form.value if wiring else entry.value if entry else None
        if node is None:
            if previous is None or (cls is not None and cls.most_inputs == 0):
                return []
            if previous.several and form.kind in (CONTAINER, BRANCHES):
                return [previous]  # its layers may well name what they read
            return [self.one(previous, None, scope, form.where)]
        if wiring and not isinstance(node, Sequence):
            help = f"write `{form.kind}: [a, b]`"
            self.report(Diagnostic("wrong-type", f"`{form.kind}` takes a list of layers", node.span, help=help), scope)
            return [Result(None)] * 2
        items = [node]
        if isinstance(node, Sequence):
            items = node.items
        elif isinstance(node, Mapping) and cls is None:
            items = [item.value for item in node.entries.values()]
        return [self.one(self.reference(item, scope), item, scope) for item in items]

    def one(self, found: Result, node: Node | None, scope: Scope, where: Span | None = None) -> Result:
        """A result that is read as one tensor; one of unknown type where it is several, which is reported."""
        if not found.several:
            return found
        if node is not None:
            return self.bound(lambda: the_one(found, node), scope) or Result(None)
        assert where is not None
        name = next((name for name, known in scope.names.items() if known is found), "")
        self.report(several_tensors(name if is_name(name) else "", found, where), scope)
        return Result(None)

    def enter(self, inner: Scope, names: tuple[str, ...], reads: list[Result], form: LayerForm, scope: Scope) -> None:
        """Gives a container what it reads: one tensor, `in`, or several by their names."""
        if names:
            inner.inputs = names
            given = {name: read.node for name, read in zip(names, reads, strict=True) if read.node is not None}
            self.network.containers[inner.path].inputs = given
            inner.names = dict(zip(names, reads, strict=True))
            inner.variables = {name: self.shaped(read) for name, read in inner.names.items()} | inner.variables
            return
        inner.input = reads[0] if reads else None
        if len(reads) > 1:
            message = f"a container reads one tensor, {len(reads)} are given"
            help = "name them, `from: {a: …, b: …}`, or bring them together first, with `concat` or `add`"
            self.report(Diagnostic("wrong-input-count", message, form.modifiers["from"].value.span, help=help), scope)
            inner.input = Result(None)
