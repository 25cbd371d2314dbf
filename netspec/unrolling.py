"""Layers as written become layers of the graph: containers are entered, blocks unrolled, repeats repeated.

Layers are taken in the order in which they stand, and each may read only what stands before it, so one pass gives both
the wiring and the shapes, and expressions may read the shape that comes in. A layer that fails gives a result of
unknown type, on which nothing further is said: one mistake, one diagnostic.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from netspec.binding import show
from netspec.calls import block_arguments, is_dense, turn_name
from netspec.containers import (
    arranged,
    block_inputs,
    handed_on,
    input_names,
    named_references,
    no_shortcut,
    projection,
    unknown_arguments,
)
from netspec.diagnostics import Diagnostic, Findings, Frame, Label
from netspec.document import Block, Document
from netspec.expressions import Shaped
from netspec.layers import (
    BRANCHES,
    CONTAINERS,
    EVERYTHING,
    RESIDUAL,
    SHARE,
    Blocks,
    FormError,
    LayerForm,
    read_layer,
)
from netspec.names import bad_name, is_number
from netspec.network import Network
from netspec.ops.merging import Add, Concat
from netspec.parameters import LayerValue, as_data
from netspec.reading import Reader
from netspec.scope import Result, Scope
from netspec.uses import layer_arguments, says
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

MAX_LAYERS = 200_000  # containers, and layers that a `when` leaves out, count too
MAX_DEPTH = 64


class Unroller(Reader):
    """Unrolls bodies of layers; keeps what is told of at the end: conditions never true, shortcuts never needed."""

    def __init__(self, document: Document, network: Network, findings: Findings) -> None:
        super().__init__(document, network, findings)
        self.forms: dict[int, LayerForm | None] = {}
        self.blocks: Blocks = {name: block.parameters for name, block in document.blocks.items()}
        self.layer_arguments = layer_arguments(document)
        self.shares = any(says(SHARE, body, document.blocks) for body in document.bodies)
        self.conditions: dict[int, tuple[Entry, bool]] = {}  # every `when`, and whether it ever was true
        self.shortcuts: dict[int, tuple[Entry, bool]] = {}  # every `shortcut`, and whether it ever was needed
        self.worked_out: set[int] = set()  # the layers as written that stand somewhere in the network
        self.used_blocks: list[str] = []
        self.depth = 0  # of containers around the layer at hand
        self.steps = 0  # layers and containers met
        self.most_turns = 1  # how often the layer at hand will be met again, by the repeats around it

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
                wrong = None if is_number(name) else bad_name(entry.key, "a layer")
                wrong = wrong or self.taken(entry.key, scope)
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
            wrong = Diagnostic("wrong-type", "`net` takes a mapping or a list of layers", body.span, help=help)
            self.report(wrong, scope)
            return Result(None)
        return previous

    def taken(self, key: Scalar, scope: Scope) -> Diagnostic | None:
        """A layer may not have the name of an input of its container."""
        known = scope.names.get(key.text)
        if known is None:
            return None
        labels = (Label(known.span, "first named here"),) if known.span else ()
        return Diagnostic("duplicate-name", f"`{key.text}` names an input already", key.span, labels=labels)

    def layer(self, name: str, node: Node, scope: Scope, previous: Result | None) -> Result:
        """One layer as written: once, repeated, over several tensors, or not at all."""
        form = self.form(node, scope)
        if form is None:
            return Result(None)
        for key in ("connect", "as"):
            if key in form.modifiers and "repeat" not in form.modifiers:
                message = f"`{key}` says something of the turns of a `repeat`, and there is none"
                help = f"add `repeat: …`, or leave `{key}` out"
                self.report(Diagnostic("missing-argument", message, form.modifiers[key].key.span, help=help), scope)
        path = scope.join(name)
        if "over" in form.modifiers:
            result = self.over(form, scope, path)
        else:
            result = self.turns(form, scope, path, self.reads(form, scope, previous))
        if self.shares:
            result.maker = (form, scope, path)
        return result

    def form(self, node: Node, scope: Scope, variables: dict[str, Any] | None = None) -> LayerForm | None:
        """A layer taken apart, where these arguments, else those of the scope, are known; None after a mistake."""
        key = id(node)
        if key not in self.forms:
            known = self.blocks
            if self.layer_arguments:
                held = scope.variables if variables is None else variables
                known = known | dict.fromkeys(filter(partial(self.is_layer, held), self.layer_arguments), EVERYTHING)
            try:
                self.forms[key] = read_layer(node, known)
            except FormError as error:
                self.forms[key] = None
                self.report(error.diagnostic, scope)
        return self.forms[key]

    def is_layer(self, variables: dict[str, Any], name: str) -> bool:
        """Whether an argument holds a layer, or would if what was given to it were right."""
        return name in self.layer_arguments and isinstance(variables.get(name, name), LayerValue | None)

    def turns(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """A layer as often as it says."""
        if "repeat" in form.modifiers:
            return self.repeat(form, scope, path, reads)
        return self.once(form, scope, path, reads)

    def repeat(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """The layer `repeat` times, each turn reading the one before, or with `connect: dense` all before it.

        The turns are called 0, 1, 2, …, or as `as` says.
        """
        entry = form.modifiers["repeat"]
        count = self.number(entry.value, scope)
        dense = self.bound(lambda: is_dense(form), scope)
        if count is None or dense is None:
            return Result(None)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            message = f"`repeat` takes a whole number of at least 0, got {show(count)}"
            self.report(Diagnostic("wrong-type", message, entry.value.span), scope)
            return Result(None)
        self.place_container(path, "repeat", {"repeat": count}, form.where)
        children: dict[str, Result] = {}
        before, around = self.steps, self.most_turns
        self.most_turns = min(around * count, MAX_LAYERS + 1)
        result = Result(None)
        for i in range(count):
            turn = scope.inner(path, scope.input, {"i": i})
            child = self.named_turn(form, i, children, turn)
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
                reads = handed_on(result, form, self.document.blocks)
            if i == 0:
                if (self.steps - before) * self.most_turns > MAX_LAYERS:
                    message = f"`repeat: {count:,}` makes more than {MAX_LAYERS:,} layers"
                    self.too_large(message, entry.value.span, scope)
                self.most_turns = around
        if not count:
            return self.left_out(form, scope, entry, reads)
        if result.several and not dense:
            last = {name: result.children[name] for name in result.several}
            return Result(None, children | last, several=result.several)
        return Result(reads[0].node, children)

    def named_turn(self, form: LayerForm, i: int, taken: dict[str, Result], turn: Scope) -> str | None:
        return self.bound(lambda: turn_name(form, i, taken, self.variables(turn)), turn)

    def over(self, form: LayerForm, scope: Scope, path: str) -> Result:
        """One module on each of several tensors: one set of weights, a result for each, called after what it reads."""
        node = form.modifiers["over"].value
        if "from" in form.modifiers:
            message = "`over` names what the layer reads, and so does `from`"
            self.report(Diagnostic("duplicate-key", message, form.modifiers["from"].key.span), scope)
            return Result(None)
        whole = self.reference(node, scope) if isinstance(node, Scalar) else Result(None)
        sources = {name: whole.children[name] for name in whole.several}
        places = dict.fromkeys(sources, node.span)
        if not sources:
            named = self.bound(lambda: named_references(node, "a result"), scope)
            if named is None:
                return Result(None)
            places = {name: item.span for name, item in named.items()}
            sources = {name: self.one(self.reference(item, scope), item, scope) for name, item in named.items()}
        self.place_container(path, "over", {}, form.where)
        children: dict[str, Result] = {}
        first, start = "", next(iter(places.values()), None)
        for name, source in sources.items():
            application = f"{path}.{name}"
            first = first or application
            with self.applied(application, path, places[name]):
                children[name] = self.turns(form, scope, application, [source])
            children[name].span = form.where
            if not self.findings.failed and self.differ(first, application, places[name], scope, start):
                return Result(None)
        return Result(None, children, several=tuple(children))

    def share(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """An earlier layer once more, with the same weights, on what this one reads."""
        if form.value is None or form.arguments:
            span = next((entry.key.span for entry in form.arguments.values()), form.where)
            message = "`share` takes the name of a layer, and no arguments: the layer's own hold"
            self.report(Diagnostic("wrong-type", message, span, help="write `{share: encoder, from: other}`"), scope)
            return Result(None)
        target = self.reference(form.value, scope)
        if target.maker is None:
            if target.node is not None or target.several:
                message = (
                    f"`{form.value.text if isinstance(form.value, Scalar) else ''}` is no layer that can be shared"
                )
                help = "name a layer or a container that stands before, with a name of its own"
                self.report(Diagnostic("unknown-reference", message, form.value.span, help=help), scope)
            return Result(None)
        made, home, first = target.maker
        if "over" in made.modifiers:
            message = f"`{first}` is applied over several tensors already"
            self.report(
                Diagnostic("wrong-type", message, form.value.span, help="add what this reads to its `over`"), scope
            )
            return Result(None)
        given = self.bound(lambda: input_names(form), scope)
        wanted = self.bound(lambda: input_names(made), scope)
        if given is None or wanted is None:
            return Result(None)
        if wanted:
            found = self.bound(lambda: arranged(reads, given, wanted, f"`{first}`", form.where), scope)
            if found is None:
                return Result(None)
            reads = found
        again = Scope(home.path, home.variables, home.input, scope.expansion, home.names, parent=home.parent)
        with self.applied(path, first, form.value.span):
            result = self.turns(made, again, path, reads)
        if not self.findings.failed and self.differ(first, path, form.where, scope, target.span):
            return Result(None)
        return result

    def left_out(self, form: LayerForm, scope: Scope, entry: Entry, reads: list[Result]) -> Result:
        """A layer that is not there is its input."""
        if len(reads) != 1:
            message = f"a layer that is left out is its input, and this `{form.kind}` has {len(reads) or 'none'}"
            help = "leave out the layers that lead here instead, or read one tensor"
            self.report(Diagnostic("wrong-input-count", message, entry.value.span, help=help), scope)
            return Result(None)
        return Result(reads[0].node, reads[0].children, several=reads[0].several)

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
            self.conditions[id(entry)] = (entry, condition or self.conditions.get(id(entry), (entry, False))[1])
            if not condition:
                self.network.left_out[path] = self.reason(entry.value, scope)
                return self.left_out(form, scope, entry, reads)
        self.worked_out.add(id(form))
        if self.is_layer(scope.variables, form.kind) and form.kind not in (*CONTAINERS, SHARE, *self.blocks):
            return self.given_layer(form, scope, path, reads)
        return self.named(form, scope, path, reads)

    def named(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """A layer whose kind is what it is called: a container, a block, `share` or an op."""
        if form.kind in CONTAINERS:
            return self.container(form, scope, path, reads)
        if form.kind in self.document.blocks:
            return self.block(self.document.blocks[form.kind], form, scope, path, reads)
        if form.kind == SHARE:
            return self.share(form, scope, path, reads)
        return self.operation(form, scope, path, reads)

    # -- containers and blocks

    def container(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        names = self.bound(lambda: input_names(form), scope)
        self.place_container(path, form.kind, {}, form.where)
        inner = scope.inner(path, None)
        self.enter(inner, names or (), reads, form, scope)
        return self.inside(form, inner)

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
        sources = self.bound(lambda: block_inputs(block, form, reads), scope)
        if arguments is None or sources is None:
            return Result(None)
        self.place_container(path, block.name, as_data(arguments), form.where)
        inner = Scope(path, arguments, None, (*scope.expansion, frame), outer=scope)
        self.enter(inner, block.inputs, sources, form, scope)
        self.used_blocks.append(block.name)
        result = self.inside(block.body, inner)
        self.used_blocks.pop()
        return result

    def given_layer(self, form: LayerForm, scope: Scope, path: str, reads: list[Result]) -> Result:
        """A layer whose kind is an argument: the layer that the argument was given."""
        value = scope.variables[form.kind]
        if not isinstance(value, LayerValue):
            return Result(None)  # a mistake that was told where it was given
        own = self.form(value.node, scope, value.variables)
        if own is None:
            return Result(None)
        if value.word is not None:
            # The word is no argument of the place where it was written, so it is none of the block's either.
            return self.named(LayerForm(own.kind, form.where, form.value, form.arguments, {}), scope, path, reads)
        wrong = next((own.modifiers[key] for key in ("from", "over") if key in own.modifiers), None)
        if wrong is not None or form.value is not None or form.arguments:
            message = f"`{form.kind}` is a layer with its arguments already"
            help = f"write `{form.kind}` alone here, or give a word for it where the block is used"
            span = form.where
            if wrong is not None:
                message, span = "a layer given as an argument reads what the block has for it", wrong.key.span
                help = f"leave `{wrong.key.text}` out"
            self.report(Diagnostic("unknown-argument", message, span, help=help), scope)
            return Result(None)
        there = Scope(scope.path, value.variables, scope.input, scope.expansion)
        return self.turns(own, there, path, reads)

    def inside(self, form: LayerForm, inner: Scope) -> Result:
        """What stands in a container or a block: layers in a row, side by side, or beside a shortcut."""
        for wrong in unknown_arguments(form):
            self.report(wrong, inner)
        if form.value is None:
            self.report(Diagnostic("missing-argument", f"`{form.kind}` has no layers", form.where), inner)
            return Result(None)
        outputs = form.arguments.get("outputs")
        if form.kind == RESIDUAL:
            return self.residual(form, inner)
        if form.kind == BRANCHES:
            last = self.branches(form, form.value, inner, outputs is not None)
        else:
            last = self.sequence(form.value, inner)
        if outputs is not None:
            return self.outputs(outputs, inner)
        several = last.several if last else ()
        if last is not None and several:
            return Result(None, inner.names | {name: last.children[name] for name in several}, several=several)
        return Result(last.node if last else None, inner.names, positional=isinstance(form.value, Sequence))

    def outputs(self, entry: Entry, inner: Scope) -> Result:
        """What a container gives, where it says so: one tensor, or several by name."""
        if isinstance(entry.value, Scalar):
            whole = self.reference(entry.value, inner)
            if whole.several:
                children = {name: whole.children[name] for name in whole.several}
                return Result(None, inner.names | children, several=whole.several)
        named = self.bound(lambda: named_references(entry.value, "an output"), inner)
        if named is None:
            return Result(None)
        found = {name: self.one(self.reference(item, inner), item, inner) for name, item in named.items()}
        if len(found) == 1 and not isinstance(entry.value, Mapping):
            return Result(next(iter(found.values())).node, inner.names)
        return Result(None, inner.names | found, several=tuple(found))

    def branches(self, form: LayerForm, body: Node, inner: Scope, outputs: bool) -> Result | None:
        """Layers that each read the container's input, brought together by the layer `merge`."""
        if not isinstance(body, Mapping):
            help = "write `branches: {left: …, right: …}`"
            self.report(Diagnostic("wrong-type", "`branches` takes a mapping of layers", body.span, help=help), inner)
            return Result(None)
        if "merge" in body.entries:
            message = "`merge` can't name a branch: it is the layer that brings them together"
            self.report(Diagnostic("reserved-name", message, body.entries["merge"].key.span), inner)
            return Result(None)
        self.sequence(body, inner, side_by_side=True)
        merge = form.arguments.get("merge")
        if merge is None:
            if not outputs:
                help = "add `merge: concat`, `merge: add` or `merge: multiply`, or name the `outputs`"
                message = "`branches` needs the argument `merge`"
                self.report(Diagnostic("missing-argument", message, form.where, help=help), inner)
            return Result(None)
        ends = [self.one(inner.names.get(name, Result(None)), None, inner, form.where) for name in body.entries]
        path = inner.join("merge")
        how = self.form(merge.value, inner)
        cls = self.op_class(how, inner) if how else None
        if how is None or cls is None or not cls.wiring or how.value is not None or how.modifiers:
            if how is not None:
                message = "`merge` takes an op that brings tensors together"
                help = "write `merge: concat`, `merge: add` or `merge: multiply`"
                self.report(Diagnostic("wrong-type", message, merge.value.span, help=help), inner)
            return Result(None)
        merged = self.once(how, inner, path, ends)
        inner.names["merge"] = merged
        return merged

    def residual(self, form: LayerForm, inner: Scope) -> Result:
        """The sum of what a container's layers give and a shortcut past them, projected where the shapes differ.

        Source: He et al. 2015, equations 1 and 2; the projection is their option B, a 1×1 convolution with
        normalisation.
        """
        assert form.value is not None
        last = self.sequence(form.value, inner)
        given = form.arguments.get("shortcut")
        source = inner.input
        if last is None or last.node is None or source is None or source.node is None:
            if inner.input is None:
                message = "`residual` adds what its layers give to the one tensor that it reads, and it reads several"
                self.report(Diagnostic("wrong-input-count", message, form.where), inner)
            return Result(None)
        if taken := {"shortcut", "add"} & inner.names.keys():
            name = min(taken)
            message = f"`{name}` is the name of the residual container's own layer"
            self.report(Diagnostic("reserved-name", message, inner.names[name].span or form.where), inner)
            return Result(None)
        x, y = (self.network.layer(node)["output"] for node in (source.node, last.node))
        shortcut = source
        if given is not None:
            self.shortcuts[id(given)] = (given, x != y or self.shortcuts.get(id(given), (given, False))[1])
        if x != y:
            needed = projection(x, y)
            if given is not None:
                sizes = {**self.shaped(last).attributes, "stride": needed[1][0] if needed else None}
                there = inner.inner(inner.path, source, {"out": Shaped(sizes)})
                shortcut = self.layer("shortcut", given.value, there, source)
            elif needed is not None:
                shortcut = self.project(needed, y.rank, inner, form.where, source)
            else:
                self.report(no_shortcut(self.network, form.where, inner.path, source.node, last.node), inner)
                return Result(None)
        added = self.place(Add(), inner.join("add"), form.where, inner, [last, shortcut])
        inner.names |= {"shortcut": shortcut, "add": added}
        return Result(added.node, inner.names)
