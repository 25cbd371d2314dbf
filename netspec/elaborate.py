"""From a document to a graph: blocks are unrolled, references resolved, and every layer's shape worked out on the way.

Layers are taken in the order in which they stand, and each may read only what stands before it, so one pass gives both
the wiring and the shapes, and expressions may read the shape that comes in. A layer that fails gives a result of
unknown type, on which nothing further is said: one mistake, one diagnostic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netspec.binding import NotKnown, Refused, bind, evaluate, show, value_of
from netspec.diagnostics import Diagnostic, Findings, Frame, Label, did_you_mean, nearest
from netspec.dims import Dim, TooComplex
from netspec.document import Block, Document, bad_name, bind_parameters
from netspec.expressions import Shaped
from netspec.layers import CONTAINER, FormError, LayerForm, find_op, read_layer
from netspec.network import Container, Layer, Network
from netspec.ops.base import Op, through
from netspec.scope import Result, Scope, resolve
from netspec.source import Span
from netspec.tensor import Field, ShapeError, TensorType, Weight, merge_fields, write_shape
from netspec.uses import least_size
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

MAX_LAYERS = 1_000_000  # containers, and layers that a `when` leaves out, count too
MAX_DEPTH = 64


class TooLarge(Exception):
    """The network is over a bound; elaboration stops."""


@dataclass(frozen=True, slots=True)
class _Inferred:
    """What follows from an op and the types of its inputs; equal layers share it."""

    output: TensorType
    weights: dict[str, Weight]
    parameters: int
    macs: Dim


@dataclass(frozen=True, slots=True)
class Elaborated:
    """The top level's names, and the result of its last layer."""

    scope: Scope
    last: Result


def elaborate(document: Document, network: Network, findings: Findings) -> Elaborated:
    """Fills the network's graph, containers, inputs and sizes."""
    return _Elaborator(document, network, findings).run()


class _Elaborator:
    def __init__(self, document: Document, network: Network, findings: Findings) -> None:
        self.document = document
        self.network = network
        self.graph = network.graph
        self.findings = findings
        self.forms: dict[int, LayerForm | None] = {}
        self.inferred: dict[tuple[Op, tuple[TensorType, ...]], _Inferred] = {}
        self.used_blocks: list[str] = []
        self.depth = 0  # of containers around the layer at hand
        self.steps = 0  # layers and containers met
        self.turns = 1  # how often the layer at hand will be met again, by the repeats around it

    def run(self) -> Elaborated:
        names: dict[str, Result] = {}
        for declared in self.document.inputs.values():
            spatial = len(declared.type.spatial)
            whole = Field((1,) * spatial, (1,) * spatial) if spatial else None
            attributes = Layer(
                op=None, arguments={}, inputs=(), output=declared.type, weights={}, parameters=0, macs=0,
                receptive_field=whole, depth=0, span=declared.span, expansion=(),
            )  # fmt: skip
            self.graph.add_node(declared.name, **attributes)
            names[declared.name] = Result(declared.name, span=declared.span)
            self.network.sizes.update(declared.sizes)
        self.network.inputs = tuple(names)
        only = next(iter(names.values())) if len(names) == 1 else None
        scope = Scope("", self.document.arguments, only, names=names)
        assert self.document.net is not None
        try:
            if self.document.blocks and least_size(self.document.net, self.document.blocks) > MAX_LAYERS:
                span = next(iter(self.document.blocks.values())).span
                self.too_large(f"the blocks make more than {MAX_LAYERS:,} layers of one another", span, scope)
            last = self.sequence(self.document.net, scope)
        except TooLarge:
            last = None
        return Elaborated(scope, last or Result(None))

    # -- sequences of layers

    def sequence(self, body: Node, scope: Scope) -> Result | None:
        """The layers of a container, one after the other; the result of the last."""
        if self.depth >= MAX_DEPTH:
            self.too_large(f"layers are nested deeper than {MAX_DEPTH} levels", body.span, scope)
        self.depth += 1
        try:
            return self.layers(body, scope)
        finally:
            self.depth -= 1

    def layers(self, body: Node, scope: Scope) -> Result | None:
        previous = scope.input
        if isinstance(body, Mapping):
            scope.later = {name: entry.key.span for name, entry in body.entries.items()}
            for name, entry in body.entries.items():
                del scope.later[name]
                scope.current = name
                wrong = bad_name(entry.key, "a layer") or self._taken(entry.key, scope)
                if wrong:
                    self.report(wrong, scope)
                    previous = Result(None)
                    continue
                previous = self.layer(name, entry.value, scope, previous)
                previous.span = previous.span or entry.key.span
                scope.names[name] = previous
            scope.current = None
        elif isinstance(body, Sequence):
            for index, item in enumerate(body.items):
                name = str(index)
                previous = self.layer(name, item, scope, previous)
                scope.names[name] = previous
        else:
            help = "name the layers, as in `net: {fc: {linear: 10}}`, or list them"
            self.report(
                Diagnostic("wrong-type", "`net` takes a mapping or a list of layers", body.span, help=help), scope
            )
            return Result(None)
        return previous

    def _taken(self, key: Scalar, scope: Scope) -> Diagnostic | None:
        """A layer at the top may not have an input's name."""
        taken = scope.names.get(key.text)
        if taken is None:
            return None
        labels = (Label(taken.span, "first named here"),) if taken.span else ()
        return Diagnostic("duplicate-name", f"`{key.text}` names an input already", key.span, labels=labels)

    def layer(self, name: str, node: Node, scope: Scope, previous: Result | None) -> Result:
        """One layer as written: once, repeated, or not at all."""
        form = self.form(node, scope)
        if form is None:
            return Result(None)
        reads = self.reads(form, scope, previous)
        if "repeat" in form.modifiers:
            return self.repeat(name, form, scope, reads)
        return self.once(form, scope, scope.join(name), reads)

    def form(self, node: Node, scope: Scope) -> LayerForm | None:
        key = id(node)
        if key not in self.forms:
            try:
                self.forms[key] = read_layer(node, self.document.blocks)
            except FormError as error:
                self.forms[key] = None
                self.report(error.diagnostic, scope)
        return self.forms[key]

    def repeat(self, name: str, form: LayerForm, scope: Scope, reads: list[Result]) -> Result:
        """The layer `repeat` times, each reading the one before; the children are named 0, 1, 2, …"""
        entry = form.modifiers["repeat"]
        count = self.number(entry.value, scope)
        if count is None:
            return Result(None)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            message = f"`repeat` takes a whole number of at least 0, got {show(count)}"
            self.report(Diagnostic("wrong-type", message, entry.value.span), scope)
            return Result(None)
        path = scope.join(name)
        self.network.containers[path] = Container(path, "repeat", {"repeat": count}, form.where)
        children: dict[str, Result] = {}
        before, turns = self.steps, self.turns
        self.turns = min(turns * count, MAX_LAYERS + 1)
        for i in range(count):
            turn = scope.inner(path, scope.input, {"i": i})
            result = self.once(form, turn, f"{path}.{i}", reads)
            result.span = result.span or form.where
            children[str(i)] = result
            reads = [result]
            if i == 0:
                if (self.steps - before) * self.turns > MAX_LAYERS:
                    message = f"`repeat: {count:,}` makes more than {MAX_LAYERS:,} layers"
                    self.too_large(message, entry.value.span, scope)
                self.turns = turns
        if not count:
            return self.left_out(form, scope, entry, reads)
        return Result(reads[0].node, children)

    def left_out(self, form: LayerForm, scope: Scope, entry: Entry, reads: list[Result]) -> Result:
        """A layer that is not there is its input."""
        if len(reads) != 1:
            message = f"a layer that is left out is its input, and this `{form.kind}` has {len(reads) or 'none'}"
            help = "leave out the layers that lead here instead, or read one tensor"
            self.report(Diagnostic("wrong-input-count", message, entry.value.span, help=help), scope)
            return Result(None)
        return Result(reads[0].node)

    def once(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        self.steps += 1
        if self.steps > MAX_LAYERS:
            self.too_large(f"the network has more than {MAX_LAYERS:,} layers", form.where, scope)
        if "when" in form.modifiers:
            entry = form.modifiers["when"]
            condition = self.number(entry.value, scope)
            if condition is None:
                return Result(None)
            if not isinstance(condition, bool):
                message = f"`when` takes a condition, got {show(condition)}"
                self.report(Diagnostic("wrong-type", message, entry.value.span, help="compare: `stride != 1`"), scope)
                return Result(None)
            if not condition:
                return self.left_out(form, scope, entry, reads)
        if form.kind == CONTAINER:
            return self.container(form, scope, path, reads)
        if form.kind in self.document.blocks:
            return self.block(self.document.blocks[form.kind], form, scope, path, reads)
        return self.operation(form, scope, path, reads)

    # -- containers and blocks

    def container(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        for key, entry in form.arguments.items():
            help = did_you_mean(key, ("from", "when", "repeat"))
            self.report(
                Diagnostic("unknown-argument", f"`net` has no argument `{key}`", entry.key.span, help=help), scope
            )
        if form.value is None:
            self.report(Diagnostic("missing-argument", "`net` has no layers", form.where), scope)
            return Result(None)
        source = self.single(form, scope, reads)
        self.network.containers[path] = Container(path, CONTAINER, {}, form.where)
        inner = scope.inner(path, source)
        last = self.sequence(form.value, inner)
        node = last.node if last else None
        return Result(node, inner.names, positional=isinstance(form.value, Sequence))

    def block(self, block: Block, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """A use of a block: its arguments in the caller's scope, its layers in a scope of their own."""
        frame = Frame(path, block.name, form.where)
        if block.broken:
            return Result(None)
        if block.name in self.used_blocks:
            chain = " → ".join([*self.used_blocks[self.used_blocks.index(block.name) :], block.name])
            labels = (Label(block.span, "the block"),)
            message = f"the block `{block.name}` contains itself: {chain}"
            help = "a block is made of ops and other blocks; for a chain of them use `repeat`"
            self.report(Diagnostic("block-cycle", message, form.where, labels=labels, help=help), scope)
            return Result(None)
        arguments = self.block_arguments(block, form, scope)
        source = self.single(form, scope, reads)
        if arguments is None:
            return Result(None)
        self.network.containers[path] = Container(path, block.name, arguments, form.where)
        inner = Scope(path, arguments, source, (*scope.expansion, frame), outer=scope)
        self.used_blocks.append(block.name)
        last = self.sequence(block.net, inner)
        self.used_blocks.pop()
        return Result(last.node if last else None, inner.names, positional=isinstance(block.net, Sequence))

    def block_arguments(self, block: Block, form: LayerForm, scope: Scope) -> dict[str, Any] | None:
        given = dict(form.arguments)
        wrong: list[Diagnostic] = []
        first = next(iter(block.parameters), None)
        for key, entry in form.arguments.items():
            if key not in block.parameters:
                help = did_you_mean(key, block.parameters) or "the block takes no arguments"
                labels = (Label(block.span, "the block"),)
                message = f"the block `{block.name}` has no argument `{key}`"
                wrong.append(Diagnostic("unknown-argument", message, entry.key.span, labels=labels, help=help))
                del given[key]
        if form.value is not None:
            if first is None:
                message = f"the block `{block.name}` takes no arguments"
                wrong.append(
                    Diagnostic("unknown-argument", message, form.value.span, labels=(Label(block.span, "the block"),))
                )
            elif first in given:
                label = Label(form.value.span, "this value already sets it")
                message = f"the block `{block.name}` is given `{first}` twice"
                wrong.append(Diagnostic("duplicate-key", message, given[first].key.span, labels=(label,)))
            else:
                given[first] = Entry(Scalar(first, first, False, form.where), form.value)
        # a mistyped argument is told once, not also as a missing one
        strange = [key for key in form.arguments if key not in block.parameters]
        meant = {nearest(key, block.parameters) for key in strange}
        arguments, more = bind_parameters(
            block.parameters, given, self.variables(scope), f"the block `{block.name}`", form.where, meant
        )
        for diagnostic in (*wrong, *more):
            self.report(diagnostic, scope)
        return None if wrong or more else arguments

    def single(self, form: LayerForm, scope: Scope, reads: list[Result]) -> Result | None:
        """The one tensor that a container reads; None after a mistake, or where the network has several inputs."""
        if len(reads) > 1:
            message = f"a container reads one tensor, {len(reads)} are given"
            help = "bring them together first, with `concat` or `add`"
            self.report(Diagnostic("wrong-input-count", message, form.modifiers["from"].value.span, help=help), scope)
            return Result(None)
        return reads[0] if reads else None

    # -- ops

    def operation(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        cls = find_op(form.kind)
        assert cls is not None, "the form was read with the same ops"
        failed = Result(None)
        op = self.arguments(cls, form, scope)
        known = [read for read in reads if read.node is not None]
        if not self.count_inputs(cls, form, scope, reads) or op is None or len(known) < len(reads):
            return failed
        nodes = tuple(read.node for read in known if read.node is not None)
        layers = [self.network.layer(node) for node in nodes]
        types = tuple(layer["output"] for layer in layers)
        try:
            inferred = self.infer(op, types)
            field = through(merge_fields([layer["receptive_field"] for layer in layers]), op.window(*types))
        except ShapeError as error:
            self.report(shape_diagnostic(self.network, error, form, path, nodes), scope)
            return failed
        except TooComplex:
            message = f"the size of `{path}` is too long a formula of the free dimensions"
            help = "give the input a fixed size"
            self.report(Diagnostic("too-large", message, form.where, help=help), scope)
            return failed
        attributes = Layer(
            op=op,
            arguments=op.__dict__,
            inputs=nodes,
            output=inferred.output,
            weights=inferred.weights,
            parameters=inferred.parameters,
            macs=inferred.macs,
            receptive_field=field if inferred.output.rank > 1 else None,
            depth=max(layer["depth"] for layer in layers) + op.weighted,
            span=form.where,
            expansion=scope.expansion,
        )
        self.graph.add_node(path, **attributes)
        for node in nodes:
            self.graph.add_edge(node, path)
        return Result(path, span=form.where)

    def arguments(self, cls: type[Op], form: LayerForm, scope: Scope) -> Op | None:
        name = cls.primary()
        primary = None
        if form.value is not None and not cls.wiring:
            if name is None:
                message = f"`{form.kind}` takes no arguments"
                self.report(
                    Diagnostic("unknown-argument", message, form.value.span, help=f"write `{form.kind}`"), scope
                )
                return None
            primary = (name, form.value, form.where)
        try:
            return bind(cls, form.arguments, self.variables(scope), f"`{form.kind}`", form.where, primary)
        except Refused as refused:
            for diagnostic in refused.diagnostics:
                self.report(diagnostic, scope)
        except NotKnown:
            pass
        return None

    def infer(self, op: Op, types: tuple[TensorType, ...]) -> _Inferred:
        key = (op, types)
        found = self.inferred.get(key)
        if found is None:
            output = op.output(*types)
            weights = op.weights(*types)
            trained = sum(weight.size for weight in weights.values() if weight.kind == "parameter")
            found = self.inferred[key] = _Inferred(output, weights, trained, op.macs(types, output))
        return found

    def count_inputs(self, cls: type[Op], form: LayerForm, scope: Scope, reads: list[Result]) -> bool:
        least, most = cls.least_inputs, cls.most_inputs
        if len(reads) >= least and (most is None or len(reads) <= most):
            return True
        if not reads and ("from" in form.modifiers or (cls.wiring and form.value is not None)):
            message = f"`{form.kind}` reads nothing: its list of layers is empty"
            help = "name a layer in it"
        elif not reads:
            message = f"`{form.kind}` reads nothing: the network has several inputs and none is named"
            help = "say which one: `from: " + next(iter(self.document.inputs)) + "`"
        else:
            wanted = f"{least}" if most == least else f"at least {least}"
            message = f"`{form.kind}` reads {wanted} tensor{'s' if wanted != '1' else ''}, {len(reads)} given"
            help = (
                f"name them: `{form.kind}: [a, b]`"
                if cls.wiring
                else "bring them together first, with `concat` or `add`"
            )
        self.report(Diagnostic("wrong-input-count", message, form.where, help=help), scope)
        return False

    # -- references

    def reads(self, form: LayerForm, scope: Scope, previous: Result | None) -> list[Result]:
        """What a layer reads: what `from` or its own value names, else the layer above."""
        cls = None if form.kind == CONTAINER or form.kind in self.document.blocks else find_op(form.kind)
        wiring = cls is not None and cls.wiring and form.value is not None
        entry = form.modifiers.get("from")
        if wiring and entry is not None:
            message = f"`{form.kind}` is told twice what it reads"
            labels = (Label(form.where, "its own value names the layers already"),)
            self.report(Diagnostic("duplicate-key", message, entry.key.span, labels=labels), scope)
        node = form.value if wiring else entry.value if entry else None
        if node is None:
            return [previous] if previous is not None else []
        if wiring and not isinstance(node, Sequence):
            help = f"write `{form.kind}: [a, b]`"
            self.report(Diagnostic("wrong-type", f"`{form.kind}` takes a list of layers", node.span, help=help), scope)
            return [Result(None)] * 2
        items = node.items if isinstance(node, Sequence) else [node]
        return [self.reference(item, scope) for item in items]

    def reference(self, node: Node, scope: Scope) -> Result:
        try:
            return resolve(node, scope, self.network.inputs)
        except Refused as refused:
            for diagnostic in refused.diagnostics:
                self.report(diagnostic, scope)
            return Result(None)

    # -- values

    def variables(self, scope: Scope) -> dict[str, Any]:
        """What expressions may read: the arguments in scope, `i`, and `in`, the shape that comes in."""
        if scope.visible is None:
            scope.visible = dict(scope.variables)
            if scope.input is not None:
                scope.visible["in"] = self.shaped(scope.input)
        return scope.visible

    def shaped(self, source: Result) -> Shaped:
        """The sizes that `in` has in expressions: those that are known; None for all after a mistake."""
        names = ("channels", "height", "width")
        if source.node is None:
            return Shaped(dict.fromkeys((*names, "rank")))
        shape = self.network.layer(source.node)["output"].shape
        sizes = {name: size for name, size in zip(names, shape[1:], strict=False) if isinstance(size, int)}
        return Shaped({**sizes, "rank": len(shape)})

    def number(self, node: Node, scope: Scope) -> Any:
        """The value of a modifier; None after a mistake."""
        try:
            if isinstance(node, Scalar) and isinstance(node.value, str):
                return evaluate(node, self.variables(scope))
            return value_of(node, scope.variables)
        except Refused as refused:
            for diagnostic in refused.diagnostics:
                self.report(diagnostic, scope)
        except NotKnown:
            pass
        return None

    def report(self, diagnostic: Diagnostic, scope: Scope) -> None:
        self.findings.add(diagnostic.located(scope.expansion) if scope.expansion else diagnostic)

    def too_large(self, message: str, span: Span, scope: Scope) -> None:
        self.report(Diagnostic("too-large", message, span), scope)
        raise TooLarge


def shape_diagnostic(
    network: Network, error: ShapeError, form: LayerForm, path: str, nodes: tuple[str, ...], at: str = ""
) -> Diagnostic:
    """A shape rule's refusal as a diagnostic that names every operand, its shape, and where it comes from."""
    entry = form.arguments.get(error.argument) if error.argument else None
    span = entry.value.span if entry else form.where
    if error.argument and entry is None and form.value is not None:
        cls = find_op(form.kind)
        if cls is not None and cls.primary() == error.argument:
            span = form.value.span
    return operand_diagnostic(network, error, span, path, nodes, at)


def operand_diagnostic(
    network: Network, error: ShapeError, span: Span, path: str, nodes: tuple[str, ...], at: str = ""
) -> Diagnostic:
    """As `shape_diagnostic`, for a place that is known already."""
    labels = []
    for node in dict.fromkeys(nodes):
        layer = network.layer(node)
        shape = write_shape(layer["output"].shape, network.sizes if at else None)
        labels.append(Label(layer["span"], f"`{node}` gives {shape}"))
    return Diagnostic(
        error.code, f"`{path}`: {error.message}{at}", span, labels=tuple(labels), notes=error.notes, help=error.help
    )
