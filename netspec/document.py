"""The top level of a spec: which sections there are, and what each must look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

from netspec.binding import bind, if_known
from netspec.diagnostics import Diagnostic, Findings, did_you_mean, nearest
from netspec.dims import Dim, symbol, symbols
from netspec.layers import CONTAINER, CONTAINERS, SHARE, LayerForm
from netspec.names import bad_name, is_name
from netspec.ops.base import discover
from netspec.parameters import Parameter, bind_parameters, read_arguments, read_parameters, read_section
from netspec.source import Span
from netspec.tensor import TensorType
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

LANGUAGE_VERSION = 1
SECTIONS = (
    "netspec", "name", "source", "extends", "use", "args", "inputs", "blocks", "net", "outputs", "expect",
    "train", "deploy",
)  # fmt: skip


@dataclass(slots=True, eq=False)
class Block:
    """A block: a network fragment with arguments, the first being its primary one.

    Attributes:
        inputs: the names of the tensors that it reads, where it declares several; else it reads one, `in`.
        broken: whether the declaration is wrong: what its uses mean is not known then.
    """

    name: str
    parameters: dict[str, Parameter]
    body: LayerForm
    span: Span
    node: Node
    inputs: tuple[str, ...] = ()
    broken: bool = False

    @property
    def net(self) -> Node:
        """What holds the block's layers."""
        return self.body.value or self.node


@dataclass(slots=True, eq=False)
class Input:
    """A declared input. `sizes` gives reports a number for the free dimensions."""

    name: str
    type: TensorType
    sizes: dict[str, int]
    span: Span


@dataclass(slots=True, eq=False)
class Document:
    """A spec, taken apart; what its layers mean is not looked at yet.

    Attributes:
        arguments: the values of the spec's arguments.
        as_written: whether these are the spec's own, none being set to another value from outside.
        served: the section `deploy`, where it has layers.
    """

    root: Mapping
    name: str
    origin: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    as_written: bool = True
    inputs: dict[str, Input] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    net: Node | None = None
    served: Mapping | None = None

    @property
    def bodies(self) -> list[Node]:
        """What holds the layers of the network, and those that only its served form has."""
        return [body for body in (self.net, self.served and self.served.get("net")) if body is not None]


class _InputModel(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True)

    shape: tuple[Annotated[int, Argument(ge=1, le=2**31 - 1)] | str, ...]
    sizes: dict[str, Annotated[int, Argument(ge=1, le=2**31 - 1)]] = {}
    dtype: Literal["float32", "int64", "int32", "uint8", "bool"] = "float32"
    help: ClassVar[str] = "write `image: {shape: [N, 3, H, W], sizes: {H: 224, W: 224}}`"


def read_document(root: Node, file_stem: str, overrides: dict[str, Entry], findings: Findings) -> Document | None:
    """Takes the top level of a spec apart; None where too little of it is there to go on. A library has blocks only.

    Args:
        overrides: values for arguments that replace the spec's own (`--set name=value`).
    """
    if not isinstance(root, Mapping):
        help = "a spec begins with `netspec: 1` and has `inputs` and `net`"
        findings.add(Diagnostic("not-a-spec", "a spec is a mapping of sections", root.span, help=help))
        return None
    meant: set[str | None] = set()  # sections that a mistyped one stands for
    for key, entry in root.entries.items():
        if key not in SECTIONS:
            meant.add(nearest(key, SECTIONS))
            help = did_you_mean(key, SECTIONS) or "the sections are " + ", ".join(f"`{name}`" for name in SECTIONS)
            findings.add(Diagnostic("unknown-key", f"a spec has no section `{key}`", entry.key.span, help=help))
    _check_version(root, findings)
    document = Document(root, _text(root, "name", file_stem, findings), _text(root, "source", "", findings))
    document.blocks = _read_blocks(root.entries.get("blocks"), findings)
    if is_library(root):
        return document
    document.parameters = read_parameters(root.entries.get("args"), findings)
    document.arguments = read_arguments(document.parameters, overrides, findings)
    if isinstance(declared := root.get("args"), Mapping):
        for name in declared.entries:  # what is wrong with a declaration has been told; its uses are not known
            document.arguments.setdefault(name, None)
    if overrides:
        own, _ = bind_parameters(document.parameters, {}, {}, "the spec", None)
        document.as_written = own == document.arguments
    if "inputs" in root.entries or "inputs" not in meant:
        document.inputs = _read_inputs(root, document.arguments, findings)
    document.net = root.get("net")
    deploy = root.get("deploy")
    if isinstance(deploy, Mapping) and "net" in deploy.entries:
        document.served = deploy
    if document.net is None and "net" not in meant:
        findings.add(
            Diagnostic("missing-section", "the spec has no `net`", _first(root), help="add `net:` with the layers")
        )
    return document if document.inputs and document.net is not None else None


def is_library(root: Node) -> bool:
    """Whether a file holds blocks for other specs and no network of its own."""
    sections = root.entries.keys() if isinstance(root, Mapping) else set()
    return "blocks" in sections and not sections & {"net", "inputs", "outputs", "extends"}


def _first(root: Mapping) -> Span:
    return next(iter(root.entries.values())).key.span if root.entries else root.span


def _check_version(root: Mapping, findings: Findings) -> None:
    node = root.get("netspec")
    help = f"begin the file with `netspec: {LANGUAGE_VERSION}`"
    if node is None:
        findings.add(Diagnostic("missing-section", "the language version is not given", _first(root), help=help))
    elif not isinstance(node, Scalar) or type(node.value) is not int or node.value != LANGUAGE_VERSION:
        shown = node.text if isinstance(node, Scalar) else "this"
        message = f"language version {shown} is not known; this netspec reads version {LANGUAGE_VERSION}"
        if isinstance(node, Scalar) and node.quoted:
            message = "the language version is a number, not text"
        findings.add(Diagnostic("version", message, node.span, help=help))


def _text(root: Mapping, key: str, default: str, findings: Findings) -> str:
    node = root.get(key)
    if node is None:
        return default
    if not isinstance(node, Scalar) or node.value is None:
        findings.add(Diagnostic("wrong-type", f"`{key}` takes text", node.span))
        return default
    return node.text


def _read_inputs(root: Mapping, arguments: dict[str, Any], findings: Findings) -> dict[str, Input]:
    section = read_section(root.entries.get("inputs"), findings, "`inputs: {image: {shape: [N, 3, 32, 32]}}`")
    inputs: dict[str, Input] = {}
    if section is None or not section.entries:
        help = "add `inputs: {image: {shape: [N, 3, H, W]}}`"
        findings.add(Diagnostic("missing-section", "the spec has no `inputs`", _first(root), help=help))
        return inputs
    for name, entry in section.entries.items():
        wrong = bad_name(entry.key, "an input")
        if wrong:
            findings.add(wrong)
        elif not isinstance(entry.value, Mapping):
            message = f"the input `{name}` takes a mapping with its `shape`"
            findings.add(Diagnostic("wrong-type", message, entry.value.span, help=_InputModel.help))
        else:
            found = _read_input(name, entry, entry.value, arguments, findings)
            if found:
                inputs[name] = found
    _check_sizes_agree(inputs, findings)
    return inputs


def _check_sizes_agree(inputs: dict[str, Input], findings: Findings) -> None:
    """One name of a free dimension is one size, in whichever inputs it stands."""
    batches = {symbol_name for declared in inputs.values() for symbol_name in symbols(declared.type.shape[0])}
    for name, declared in inputs.items():
        inner = {symbol_name for dim in declared.type.shape[1:] for symbol_name in symbols(dim)} & batches
        for symbol_name in sorted(inner):
            message = f"`{symbol_name}` is the batch dimension, and a size of `{name}`: the batch is always free"
            help = "give the size another name"
            findings.add(Diagnostic("fixed-batch", message, declared.span, help=help))
    known: dict[str, tuple[int, str]] = {}
    for name, declared in inputs.items():
        for symbol_name, size in declared.sizes.items():
            other, where = known.setdefault(symbol_name, (size, name))
            if other != size:
                message = f"`{symbol_name}` is {other} in the input `{where}` and {size} in `{name}`"
                help = "one name is one size; give the other dimension another name"
                findings.add(Diagnostic("two-sizes", message, declared.span, help=help))


def _read_input(name: str, entry: Entry, node: Mapping, arguments: dict[str, Any], findings: Findings) -> Input | None:
    shape_node = node.get("shape")
    symbols = {
        item.text: item.text
        for item in (shape_node.items if isinstance(shape_node, Sequence) else ())
        if isinstance(item, Scalar)
        and isinstance(item.value, str)
        and is_name(item.text)
        and item.text not in arguments
    }
    names, what = arguments | symbols, f"the input `{name}`"
    declared = if_known(lambda: bind(_InputModel, node.entries, names, what, entry.key.span), findings.add)
    if declared is None:
        return None
    shape: list[Dim] = [symbol(dim) if isinstance(dim, str) else dim for dim in declared.shape]
    assert isinstance(shape_node, Sequence)
    if not shape or isinstance(shape[0], int):
        span = shape_node.items[0].span if shape else shape_node.span
        help = "begin the shape with a name, as in `[N, 3, 32, 32]`; the batch is always free"
        findings.add(Diagnostic("fixed-batch", f"the batch dimension of `{name}` is not a name", span, help=help))
        return None
    batch = declared.shape[0]
    sizes = declared.sizes
    sizes_entry = node.entries.get("sizes")
    for size in sizes:
        if size not in symbols:
            assert sizes_entry is not None and isinstance(sizes_entry.value, Mapping)
            span = sizes_entry.value.entries[size].key.span
            help = did_you_mean(size, symbols)
            findings.add(Diagnostic("unknown-name", f"no dimension of `{name}` is called `{size}`", span, help=help))
        elif size == batch:
            assert sizes_entry is not None and isinstance(sizes_entry.value, Mapping)
            span = sizes_entry.value.entries[size].key.span
            message = f"`{size}` is the batch dimension of `{name}`, which is always free"
            findings.add(Diagnostic("fixed-batch", message, span, help=f"leave `{size}` out of `sizes`"))
    return Input(name, TensorType(tuple(shape), declared.dtype), sizes, entry.key.span)


def _read_blocks(entry: Entry | None, findings: Findings) -> dict[str, Block]:
    section = read_section(entry, findings, "`blocks: {name: {args: {width: int}, net: {…}}}`")
    blocks: dict[str, Block] = {}
    for name, item in section.entries.items() if section else ():
        wrong = bad_name(item.key, "a block") or _shadowed(item.key)
        if wrong:
            findings.add(wrong)
            continue
        if not isinstance(item.value, Mapping):
            help = "write `args: {…}` and `net: {…}` below it"
            findings.add(Diagnostic("wrong-type", f"the block `{name}` takes a mapping", item.value.span, help=help))
            nothing = LayerForm(CONTAINER, item.key.span, None, {}, {})
            blocks[name] = Block(name, {}, nothing, item.key.span, item.value, broken=True)
            continue
        before = len(findings)
        body = _read_body(name, item, item.value, findings)
        parameters = read_parameters(item.value.entries.get("args"), findings)
        reads = _read_block_inputs(item.value.get("inputs"), findings)
        blocks[name] = Block(name, parameters, body, item.key.span, item.value, reads, len(findings) > before)
    return blocks


def _shadowed(key: Scalar) -> Diagnostic | None:
    """What is wrong with a block's name that means something else already."""
    op = discover().get(key.text)
    if op is None and key.text not in (*CONTAINERS, SHARE):
        return None
    what = "an op" if op is not None else "a part of the language"
    help = f"call it something else: `{key.text}_block`, say"
    return Diagnostic(
        "shadowed-name", f"`{key.text}` is {what} already: no block can be called so", key.span, help=help
    )


def _read_block_inputs(node: Node | None, findings: Findings) -> tuple[str, ...]:
    """The names of the tensors that a block reads: `inputs: [c3, c4, c5]`."""
    if node is None:
        return ()
    help = "write `inputs: [c3, c4, c5]`; a block that reads one tensor needs none, it is `in`"
    if not isinstance(node, Sequence) or not node.items:
        findings.add(Diagnostic("wrong-type", "`inputs` of a block is a list of names", node.span, help=help))
        return ()
    names: list[str] = []
    for item in node.items:
        if not isinstance(item, Scalar) or item.value is None:
            findings.add(Diagnostic("wrong-type", "an input of a block is a name", item.span, help=help))
            continue
        wrong = bad_name(item, "an input")
        if item.text in names:
            wrong = Diagnostic("duplicate-name", f"two inputs are called `{item.text}`", item.span)
        if wrong:
            findings.add(wrong)
        names.append(item.text)
    return tuple(names)


def _read_body(name: str, item: Entry, node: Mapping, findings: Findings) -> LayerForm:
    """A block's layers: `net`, `branches` or `residual`, with what such a container takes."""
    kinds = [key for key in CONTAINERS if key in node.entries]
    kind = kinds[0] if kinds else CONTAINER
    for key, part in node.entries.items():
        if key not in ("args", "inputs", kind, *CONTAINERS[kind]):
            help = did_you_mean(key, ("args", "inputs", *CONTAINERS, *CONTAINERS[kind]))
            if len(kinds) > 1 and key in kinds:
                help = "put one of them into the other"
            findings.add(Diagnostic("unknown-key", f"a block has no `{key}`", part.key.span, help=help))
    if not kinds:
        help = "add `net:` with its layers"
        findings.add(Diagnostic("missing-section", f"the block `{name}` has no `net`", item.key.span, help=help))
    arguments = {key: node.entries[key] for key in CONTAINERS[kind] if key in node.entries}
    entry = node.entries.get(kind)
    return LayerForm(kind, entry.key.span if entry else item.key.span, entry.value if entry else None, arguments, {})
