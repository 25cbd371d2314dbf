"""Puts layers into the graph, with all that follows from an op and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from netspec import dims
from netspec.calls import operand_diagnostic, place_of
from netspec.diagnostics import Diagnostic, Findings, Label
from netspec.dims import Dim, TooComplex
from netspec.evaluation import Evaluator
from netspec.layers import LayerForm
from netspec.network import Container, Layer, Network, is_under
from netspec.ops.base import Op, Part, discover, through
from netspec.scope import Result, Scope
from netspec.source import Span
from netspec.strides import check_strides
from netspec.tensor import Field, ShapeError, TensorType, Weight, merge_fields


@dataclass(slots=True, eq=False)
class _Inferred:
    """What follows from an op and the types of its inputs; equal layers share it."""

    output: TensorType
    parts: dict[str, TensorType]
    weights: dict[str, Weight]
    parameters: int
    macs: Dim


@dataclass(slots=True)
class _Applying:
    """What is placed at or below `path` applies the modules at or below `module`, as the spec says at `where`."""

    path: str
    module: str
    where: Span


def made(kind: str) -> Callable[..., Op]:
    """An op that the elaboration adds by itself; its family is imported only then."""
    return discover()[kind]


def check_element_types(op: Op, types: tuple[TensorType, ...]) -> None:
    """Refuses a tensor of other elements than the op reads.

    Raises:
        ShapeError: with the types that it reads.
    """
    for tensor in types:
        if tensor.dtype not in op.reads:
            help = "put `{cast: float32}` before it"
            if "int64" in op.reads and "float32" not in op.reads:
                help = "declare the input so, `ids: {shape: [N, T], dtype: int64}`, or put `{cast: int64}` before it"
            elif tensor.dtype in ("int64", "int32"):
                help += "; what numbers stand for words goes through an `embedding`"
            wanted = " or ".join(op.reads)
            raise ShapeError(f"`{op.kind}` reads {wanted}, and is given {tensor.dtype}", help, code="element-type")
    if op.wiring and len({tensor.dtype for tensor in types}) > 1:
        given = " and ".join(dict.fromkeys(tensor.dtype for tensor in types))
        help = "bring all to one type first, with `cast`"
        raise ShapeError(f"`{op.kind}` is given {given}", help, code="element-type")


class Placer(Evaluator):
    """Adds inputs, layers and containers to the network; keeps which of them apply the module of another."""

    def __init__(self, network: Network, findings: Findings) -> None:
        super().__init__(network, findings)
        self.nodes = network.nodes
        self.inferred: dict[tuple[Op, tuple[TensorType, ...]], _Inferred] = {}
        self.applying: list[_Applying] = []  # from the outermost on
        self.owners: dict[str, str] = {}  # the layer that a module belongs to, by the module's path

    def place_input(self, name: str, tensor: TensorType, span: Span) -> Result:
        """Adds an input of the network."""
        spatial = len(tensor.spatial)
        whole = Field((1,) * spatial, (1,) * spatial) if spatial else None
        self._node(name, None, {}, (), tensor, whole, 0, span, ())
        return Result(name, span=span)

    def place_container(self, path: str, kind: str, arguments: dict[str, Any], span: Span) -> None:
        """Adds a container: a module that holds what is placed below its path."""
        self.network.containers[path] = Container(path, kind, arguments, span, self.module_of(path))

    def place(
        self, op: Op, path: str, where: Span, scope: Scope, reads: list[Result], form: LayerForm | None = None
    ) -> Result:
        """Adds a layer.

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
            check_strides(self.network, op, nodes, types)
            field = merge_fields([layer["receptive_field"] for layer in layers])
            field = through(field, op.window(*types)) if types else None
        except ShapeError as error:
            span = place_of(error, form) if form else where
            self.report(operand_diagnostic(self.network, error, span, path, nodes), scope)
            return Result(None)
        except TooComplex:
            message = f"the size of `{path}` is too long a formula of the free dimensions"
            self.report(Diagnostic("too-large", message, where, help="give the input a fixed size"), scope)
            return Result(None)
        module, parameters = path, inferred.parameters
        if self.applying:
            module = self.module_of(path)
            owner = self.owners.setdefault(module, module if module in self.nodes else path)
            if owner != path:
                parameters = 0
                self.network.shared.add(module)
                if self.differs(owner, op, types, inferred.weights, where, scope):
                    return Result(None)
        depth = max((layer["depth"] for layer in layers), default=0) + op.weighted
        field = field if inferred.output.rank > 1 else None
        self._node(
            path, op, op.__dict__, nodes, inferred.output, field, depth, where, scope.expansion,
            module, inferred.weights, parameters, inferred.macs,
        )  # fmt: skip
        if not inferred.parts:
            return Result(path, span=where)
        children = {}
        for name, tensor in inferred.parts.items():
            part = f"{path}.{name}"
            self._node(part, Part(), {}, (path,), tensor, field, depth, where, scope.expansion)
            children[name] = Result(part, span=where)
        if op.main is not None:
            return Result(children[op.main].node, children, span=where)
        return Result(None, children, several=tuple(children), span=where)

    def _node(
        self, path: str, op: Op | None, arguments: dict[str, Any], inputs: tuple[str, ...], output: TensorType,
        field: Field | None, depth: int, span: Span, expansion: Any, module: str = "",
        weights: dict[str, Weight] | None = None, parameters: int = 0, macs: Dim = 0,
    ) -> None:  # fmt: skip
        self.nodes[path] = Layer(
            op=op,
            module=module or path,
            arguments=arguments,
            inputs=inputs,
            output=output,
            weights=weights or {},
            parameters=parameters,
            macs=macs,
            receptive_field=field,
            depth=depth,
            span=span,
            expansion=expansion,
        )

    def infer(self, op: Op, types: tuple[TensorType, ...]) -> _Inferred:
        """What follows from an op and the types that it reads.

        Raises:
            ShapeError: it can't take them.
        """
        key = (op, types)
        found = self.inferred.get(key)
        if found is None:
            check_element_types(op, types)
            output = op.output(*types)
            weights = op.weights(*types)
            trained = sum(weight.size for weight in weights.values() if weight.kind == "parameter")
            macs = op.macs(types, output)
            if macs != 0:
                macs = macs * self.rows_of_sample(output)
            found = _Inferred(output, op.parts(*types), weights, trained, macs)
            self.inferred[key] = found
        return found

    def rows_of_sample(self, tensor: TensorType) -> Dim:
        """How many rows of a tensor belong to one sample: as many as it has boxes, where `fold_batch` stands before."""
        batch = self.network.layer(next(iter(self.nodes)))["output"].shape[0]
        return dims.per(tensor.shape[0], str(batch)) if tensor.shape[0] != batch else 1

    def project(
        self, needed: tuple[int, tuple[int, ...]], rank: int, inner: Scope, where: Span, source: Result
    ) -> Result:
        """The shortcut of a residual container whose layers change the shape."""
        channels, strides = needed
        path = inner.join("shortcut")
        if rank == 2:
            return self.place(made("linear")(features=channels, bias=False), path, where, inner, [source])
        self.place_container(path, "net", {}, where)
        stride = strides[0] if len(set(strides)) == 1 else strides
        conv = made("conv")(channels=channels, kernel=1, stride=stride, bias=False)
        projected = self.place(conv, f"{path}.0", where, inner, [source])
        return self.place(made("batchnorm")(), f"{path}.1", where, inner, [projected])

    # -- weights that several layers share

    @contextmanager
    def applied(self, path: str, module: str, where: Span) -> Iterator[None]:
        """While it is entered, what is placed at or below `path` applies the modules at or below `module`.

        Args:
            where: the place in the spec that says so.
        """
        self.applying.append(_Applying(path, module, where))
        try:
            yield
        finally:
            self.applying.pop()

    def module_of(self, path: str) -> str:
        """The module that a layer or container at a path applies: its own, but for shared weights."""
        for application in reversed(self.applying):
            if is_under(path, application.path):
                path = application.module + path[len(application.path) :]
        return path

    def differs(
        self, owner: str, op: Op, types: tuple[TensorType, ...], weights: dict[str, Weight], where: Span, scope: Scope
    ) -> bool:
        """Whether a layer can't apply the module of another, which is reported: its op or its weights are others."""
        first = self.network.layer(owner)
        message = ""
        others = tuple(self.network.layer(node)["output"] for node in first["inputs"])
        if first["op"] != op:
            message = "the layer comes out differently here, so it can't share its weights"
        elif len(types) != len(others):
            message = f"{len(types)} tensors are read here, and {len(others)} where it is shared from"
        elif op.held(*types) != op.held(*others):
            message = f"one `{op.kind}` can't be of both sizes: what it does depends on the size that it reads"
        for name, weight in weights.items():
            known = first["weights"].get(name)
            if known is not None and known.shape != weight.shape:
                here, there = (" × ".join(map(str, shape)) for shape in (weight.shape, known.shape))
                message = f"`{name or 'it'}` would have to be {here} here, but is {there} where it is shared from"
        if not message:
            return False
        labels = [Label(first["span"], f"`{owner}` stands here")]
        labels += [Label(use.where, f"`{use.path}` applies it here") for use in self.applying]
        labels = [label for label in labels if label.span != where]
        help = "bring what is read to the same channels first, or give this layer weights of its own"
        self.report(Diagnostic("share-mismatch", message, where, labels=tuple(labels), help=help), scope)
        return True

    def differ(self, first: str, second: str, where: Span, scope: Scope, start: Span | None) -> bool:
        """Whether two uses of one module are not made alike, which is reported: other layers, or other ways between.

        Args:
            where, start: the places in the spec that make the second use, and the first.
        """
        if self.structure(first) == self.structure(second):
            return False
        message = f"`{second}` comes out differently from `{first}`, so it can't share its weights"
        help = "what a `when` or a reference makes of the module has to be the same wherever it is used"
        labels = (Label(start, f"`{first}` is made here"),) if start not in (None, where) else ()
        self.report(Diagnostic("share-mismatch", message, where, labels=labels, help=help), scope)
        return True

    def structure(self, path: str) -> list[tuple[str, tuple[str | int, ...]]]:
        """The layers at or below a path with what they read: paths below it as they are, other tensors numbered."""
        outside: dict[str, int] = {}
        found = []
        for node, layer in self.network.layers():
            if is_under(node, path):
                reads = tuple(
                    name[len(path) :] if is_under(name, path) else outside.setdefault(name, len(outside))
                    for name in layer["inputs"]
                )
                found.append((node[len(path) :], reads))
        return found
