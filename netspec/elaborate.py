"""From a document to a graph: blocks are unrolled, references resolved, and every layer's shape worked out on the way.

Layers are taken in the order in which they stand, and each may read only what stands before it, so one pass gives both
the wiring and the shapes, and expressions may read the shape that comes in. A layer that fails gives a result of
unknown type, on which nothing further is said: one mistake, one diagnostic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from netspec.binding import NotKnown, Refused, evaluate, show, value_of
from netspec.calls import block_arguments, fill_in, op_arguments, operand_diagnostic, place_of, wrong_count
from netspec.diagnostics import Diagnostic, Findings, Frame, Label, did_you_mean
from netspec.dims import Dim, TooComplex
from netspec.document import Block, Document, bad_name, is_name
from netspec.expressions import Shaped
from netspec.layers import BRANCHES, CONTAINERS, MODIFIERS, FormError, LayerForm, find_op, read_layer
from netspec.network import Container, Layer, Network
from netspec.ops.base import Op, through
from netspec.ops.merging import Concat
from netspec.scope import Result, Scope, resolve
from netspec.source import Span
from netspec.tensor import Field, ShapeError, TensorType, Weight, merge_fields
from netspec.uses import least_size
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

T = TypeVar("T")

MAX_LAYERS = 200_000  # containers, and layers that a `when` leaves out, count too
MAX_DEPTH = 64


class TooLarge(Exception):
    """The network is over a bound; elaboration stops."""


@dataclass(slots=True, eq=False)
class _Inferred:
    """What follows from an op and the types of its inputs; equal layers share it."""

    output: TensorType
    weights: dict[str, Weight]
    parameters: int
    macs: Dim


@dataclass(slots=True, eq=False)
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
        self.blocks = {name: block.parameters for name, block in document.blocks.items()}
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

    def sequence(self, body: Node, scope: Scope, side_by_side: bool = False) -> Result | None:
        """The layers of a container, each reading the one before, or side by side its input; the last one's result."""
        if self.depth >= MAX_DEPTH:
            self.too_large(f"layers are nested deeper than {MAX_DEPTH} levels", body.span, scope)
        self.depth += 1
        try:
            return self.layers(body, scope, side_by_side)
        finally:
            self.depth -= 1

    def layers(self, body: Node, scope: Scope, side_by_side: bool) -> Result | None:
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
                previous = self.layer(name, entry.value, scope, scope.input if side_by_side else previous)
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
        for key in ("connect", "as"):
            if key in form.modifiers and "repeat" not in form.modifiers:
                message = f"`{key}` says something of the turns of a `repeat`, and there is none"
                self.report(Diagnostic("missing-argument", message, form.modifiers[key].key.span), scope)
        reads = self.reads(form, scope, previous)
        if "repeat" in form.modifiers:
            return self.repeat(name, form, scope, reads)
        return self.once(form, scope, scope.join(name), reads)

    def form(self, node: Node, scope: Scope) -> LayerForm | None:
        key = id(node)
        if key not in self.forms:
            try:
                self.forms[key] = read_layer(node, self.blocks)
            except FormError as error:
                self.forms[key] = None
                self.report(error.diagnostic, scope)
        return self.forms[key]

    def repeat(self, name: str, form: LayerForm, scope: Scope, reads: list[Result]) -> Result:
        """The layer `repeat` times, each turn reading the one before, or with `connect: dense` all before it.

        The turns are called 0, 1, 2, …, or as `as` says.
        """
        entry = form.modifiers["repeat"]
        count = self.number(entry.value, scope)
        dense = self.is_dense(form, scope)
        if count is None or dense is None:
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
            child = self.turn_name(form, turn, i, children)
            if child is None:
                return Result(None)
            result = self.once(form, turn, f"{path}.{child}", reads)
            result.span = result.span or form.where
            children[child] = result
            if dense:
                joined = self.place(Concat(), f"{path}.concat{i + 1}", form.where, turn, [*reads, result])
                children[f"concat{i + 1}"] = joined
                reads = [joined]
            else:
                reads = [result]
            if i == 0:
                if (self.steps - before) * self.turns > MAX_LAYERS:
                    message = f"`repeat: {count:,}` makes more than {MAX_LAYERS:,} layers"
                    self.too_large(message, entry.value.span, scope)
                self.turns = turns
        if not count:
            return self.left_out(form, scope, entry, reads)
        return Result(reads[0].node, children)

    def is_dense(self, form: LayerForm, scope: Scope) -> bool | None:
        """Whether a `repeat` has `connect: dense`; None after a mistake."""
        entry = form.modifiers.get("connect")
        if entry is None:
            return False
        if isinstance(entry.value, Scalar) and entry.value.text == "dense":
            return True
        self.report(Diagnostic("wrong-type", "`connect` is `dense`, or is left out", entry.value.span), scope)
        return None

    def turn_name(self, form: LayerForm, turn: Scope, i: int, taken: dict[str, Result]) -> str | None:
        """What turn `i` of a `repeat` is called; None after a mistake."""
        entry = form.modifiers.get("as")
        if entry is None:
            return str(i)
        name = self.bound(lambda: fill_in(entry.value, self.variables(turn)), turn)
        if name is None:
            return None
        wrong = None
        if name in taken:
            help = "let the name depend on the turn: `as: layer{i + 1}`"
            wrong = Diagnostic("duplicate-name", f"two turns are called `{name}`", entry.value.span, help=help)
        elif not is_name(name):
            wrong = Diagnostic("bad-name", f"`{name}` can't name a turn", entry.value.span)
        if wrong is None:
            return name
        self.report(wrong, turn)
        return None

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
        if form.kind in CONTAINERS:
            return self.container(form, scope, path, reads)
        if form.kind in self.document.blocks:
            return self.block(self.document.blocks[form.kind], form, scope, path, reads)
        return self.operation(form, scope, path, reads)

    # -- containers and blocks

    def container(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        source = self.single(form, scope, reads)
        self.network.containers[path] = Container(path, form.kind, {}, form.where)
        return self.inside(form, scope.inner(path, source), source)

    def inside(self, form: LayerForm, inner: Scope, source: Result | None) -> Result:
        """What stands in a container or a block: `net`, layers in a row, or `branches`, layers side by side."""
        known = ("merge",) if form.kind == BRANCHES else ()
        for key, entry in form.arguments.items():
            if key not in known:
                help = did_you_mean(key, (*known, *MODIFIERS))
                message = f"`{form.kind}` has no argument `{key}`"
                self.report(Diagnostic("unknown-argument", message, entry.key.span, help=help), inner)
        if form.value is None:
            self.report(Diagnostic("missing-argument", f"`{form.kind}` has no layers", form.where), inner)
            return Result(None)
        if form.kind == BRANCHES:
            return self.branches(form, inner, source)
        last = self.sequence(form.value, inner)
        return Result(last.node if last else None, inner.names, positional=isinstance(form.value, Sequence))

    def branches(self, form: LayerForm, inner: Scope, source: Result | None) -> Result:
        """Layers that each read the container's input, brought together by the layer `merge`."""
        body = form.value
        if not isinstance(body, Mapping) or not body.entries:
            span = body.span if body else form.where
            help = "name them: `branches: {left: …, right: …}`"
            self.report(Diagnostic("wrong-type", "`branches` takes a mapping of layers", span, help=help), inner)
            return Result(None)
        if "merge" in body.entries:
            message = "`merge` can't name a branch: it is the layer that brings them together"
            self.report(Diagnostic("reserved-name", message, body.entries["merge"].key.span), inner)
            return Result(None)
        self.sequence(body, inner, side_by_side=True)
        merge = form.arguments.get("merge")
        if merge is None:
            help = "say how they are brought together: `merge: concat`, `merge: add`"
            self.report(
                Diagnostic("missing-argument", "`branches` needs the argument `merge`", form.where, help=help), inner
            )
            return Result(None)
        ends = [inner.names.get(name, Result(None)) for name in body.entries]
        path = inner.join("merge")
        how = self.form(merge.value, inner)
        cls = find_op(how.kind) if how else None
        if how is None or cls is None or not cls.wiring or how.value is not None or how.modifiers:
            if how is not None:
                message = "`merge` takes an op that brings tensors together"
                help = "write `merge: concat`, `merge: add` or `merge: multiply`"
                self.report(Diagnostic("wrong-type", message, merge.value.span, help=help), inner)
            return Result(None)
        merged = self.operation(how, inner, path, ends)
        inner.names["merge"] = merged
        return Result(merged.node, inner.names)

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
        arguments = self.bound(lambda: block_arguments(block, form, self.variables(scope)), scope)
        source = self.single(form, scope, reads)
        if arguments is None:
            return Result(None)
        self.network.containers[path] = Container(path, block.name, arguments, form.where)
        inner = Scope(path, arguments, source, (*scope.expansion, frame), outer=scope)
        self.used_blocks.append(block.name)
        result = self.inside(block.body, inner, source)
        self.used_blocks.pop()
        return result

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
        op = self.bound(lambda: op_arguments(cls, form, self.variables(scope)), scope)
        wrong = wrong_count(cls, form, len(reads), self.network.inputs)
        if wrong is not None:
            self.report(wrong, scope)
        if wrong is not None or op is None:
            return Result(None)
        return self.place(op, path, form.where, scope, reads, form)

    def place(
        self, op: Op, path: str, where: Span, scope: Scope, reads: list[Result], form: LayerForm | None = None
    ) -> Result:
        """Adds a layer to the graph, with all that follows from its op and what it reads.

        Args:
            form: the layer as written, to point into when it fails; None for one that a container adds.
        """
        nodes = tuple(read.node for read in reads if read.node is not None)
        if len(nodes) < len(reads):
            return Result(None)
        layers = [self.network.layer(node) for node in nodes]
        types = tuple(layer["output"] for layer in layers)
        try:
            inferred = self.infer(op, types)
            field = through(merge_fields([layer["receptive_field"] for layer in layers]), op.window(*types))
        except ShapeError as error:
            span = place_of(error, form) if form else where
            self.report(operand_diagnostic(self.network, error, span, path, nodes), scope)
            return Result(None)
        except TooComplex:
            message = f"the size of `{path}` is too long a formula of the free dimensions"
            self.report(Diagnostic("too-large", message, where, help="give the input a fixed size"), scope)
            return Result(None)
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
            span=where,
            expansion=scope.expansion,
        )
        self.graph.add_node(path, **attributes)
        for node in nodes:
            self.graph.add_edge(node, path)
        return Result(path, span=where)

    def infer(self, op: Op, types: tuple[TensorType, ...]) -> _Inferred:
        key = (op, types)
        found = self.inferred.get(key)
        if found is None:
            output = op.output(*types)
            weights = op.weights(*types)
            trained = sum(weight.size for weight in weights.values() if weight.kind == "parameter")
            found = self.inferred[key] = _Inferred(output, weights, trained, op.macs(types, output))
        return found

    # -- references

    def reads(self, form: LayerForm, scope: Scope, previous: Result | None) -> list[Result]:
        """What a layer reads: what `from` or its own value names, else the layer above."""
        cls = None if form.kind in CONTAINERS or form.kind in self.document.blocks else find_op(form.kind)
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
        return self.bound(lambda: resolve(node, scope, self.network.inputs), scope) or Result(None)

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
        if isinstance(node, Scalar) and node.value is None:
            self.report(Diagnostic("wrong-type", "a value is expected here, nothing found", node.span), scope)
            return None
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return self.bound(lambda: evaluate(node, self.variables(scope)), scope)
        return self.bound(lambda: value_of(node, scope.variables), scope)

    def bound(self, make: Callable[[], T], scope: Scope) -> T | None:
        """What `make` gives; None where it is refused, which is reported, or not known."""
        try:
            return make()
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
