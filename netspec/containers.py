"""What containers read and give by name: `from` and `outputs` as mappings, the tensors that `over` goes through."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Names

from netspec.binding import Refused
from netspec.diagnostics import Diagnostic, Label, did_you_mean
from netspec.document import Block
from netspec.layers import CONTAINERS, MODIFIERS, LayerForm
from netspec.names import bad_name
from netspec.network import Network
from netspec.ops.sliding import strides_between
from netspec.scope import Result
from netspec.source import Span
from netspec.tensor import TensorType, write_shape
from netspec.yaml_reader import Mapping as MappingNode
from netspec.yaml_reader import Node, Scalar, Sequence


def unknown_arguments(form: LayerForm) -> list[Diagnostic]:
    """The keys beside a container's layers that it doesn't take."""
    known = CONTAINERS[form.kind]
    found = []
    for key, entry in form.arguments.items():
        if key not in known:
            help = did_you_mean(key, (*known, *MODIFIERS))
            message = f"`{form.kind}` has no argument `{key}`"
            found.append(Diagnostic("unknown-argument", message, entry.key.span, help=help))
    return found


def input_names(form: LayerForm) -> tuple[str, ...]:
    """The names that a container's `from` gives to the tensors it reads; none where it names none.

    Raises:
        Refused: one can't be a name.
    """
    entry = form.modifiers.get("from")
    if entry is None or not isinstance(entry.value, MappingNode):
        return ()
    wrong = [bad_name(item.key, "an input") for item in entry.value.entries.values()]
    if any(wrong):
        raise Refused(*[diagnostic for diagnostic in wrong if diagnostic])
    return tuple(entry.value.entries)


def arranged(
    reads: list[Result], given: Names[str], wanted: Names[str], what: str, where: Span, labels: tuple[Label, ...] = ()
) -> list[Result]:
    """The tensors in the order of the names that are wanted, given by these names or in that order.

    Raises:
        Refused: there are others, or another number of them.
    """
    if given and set(given) != set(wanted):
        strange = [name for name in given if name not in wanted]
        missing = [name for name in wanted if name not in given]
        message = f"{what} reads no `{strange[0]}`" if strange else f"{what} is not given its input `{missing[0]}`"
        help = (did_you_mean(strange[0], missing) if strange else "") or (
            "it reads " + ", ".join(f"`{name}`" for name in wanted)
        )
        raise Refused(Diagnostic("wrong-input-count", message, where, labels=labels, help=help))
    if len(reads) != len(wanted):
        shown = ", ".join(wanted)
        message = f"{what} reads {len(wanted)} tensors ({shown}), {len(reads)} given"
        help = "name them: `from: {" + ", ".join(f"{name}: …" for name in wanted) + "}`"
        raise Refused(Diagnostic("wrong-input-count", message, where, labels=labels, help=help))
    by_name = dict(zip(given or wanted, reads, strict=True))
    return [by_name[name] for name in wanted]


def block_inputs(block: Block, form: LayerForm, reads: list[Result]) -> list[Result]:
    """What a block reads, in the order of its declared inputs.

    Raises:
        Refused: the block declares none and is given names, or others than these.
    """
    labels = (Label(block.span, "the block"),)
    given = input_names(form)
    if block.inputs:
        return arranged(reads, given, block.inputs, f"the block `{block.name}`", form.where, labels)
    if given:
        message = f"the block `{block.name}` reads one tensor, and is given names for {len(given)}"
        help = "declare them in the block: `inputs: [" + ", ".join(given) + "]`"
        span = form.modifiers["from"].value.span
        raise Refused(Diagnostic("wrong-input-count", message, span, labels=labels, help=help))
    return reads


def handed_on(result: Result, form: LayerForm, blocks: Mapping[str, Block]) -> list[Result]:
    """What one turn of a `repeat` gives the next: several tensors by their names, where these are what it reads."""
    wanted = input_names(form) or (blocks[form.kind].inputs if form.kind in blocks else ())
    names = wanted if set(wanted) == set(result.several) else result.several
    return [result.children[name] for name in names] or [result]


def named_references(node: Node, what: str) -> dict[str, Node]:
    """References with the names that they go by: those of a mapping, else the last part of each reference.

    Raises:
        Refused: it is no list or mapping of references, or two go by one name.
    """
    if isinstance(node, MappingNode):
        wrong = [bad_name(entry.key, what) for entry in node.entries.values()]
        if any(wrong):
            raise Refused(*[diagnostic for diagnostic in wrong if diagnostic])
        return {name: entry.value for name, entry in node.entries.items()}
    named: dict[str, Node] = {}
    items = node.items if isinstance(node, Sequence) else [node]
    for item in items:
        if not isinstance(item, Scalar) or item.value is None:
            help = (
                "write names, as in `[backbone.layer3, backbone.layer4]`, or give them others: `{c4: backbone.layer3}`"
            )
            raise Refused(Diagnostic("wrong-type", "a reference is a name", item.span, help=help))
        name = item.text.rpartition(".")[2]
        if name in named:
            labels = (Label(named[name].span, "first here"),)
            help = "tell them apart: `{a: …, b: …}`"
            message = f"two of them would be called `{name}`"
            raise Refused(Diagnostic("duplicate-name", message, item.span, labels=labels, help=help))
        named[name] = item
    if not named:
        raise Refused(Diagnostic("missing-argument", "the list names nothing", node.span, help="name a layer in it"))
    return named


def projection(x: TensorType, y: TensorType) -> tuple[int, tuple[int, ...]] | None:
    """The channels and strides of the 1×1 convolution that brings `x` to the shape of `y`; None where none does."""
    channels = y.shape[1] if y.rank > 1 else None
    if x.rank != y.rank or x.rank not in (2, 3, 4, 5) or not isinstance(channels, int):
        return None
    strides = strides_between(x.spatial, y.spatial)
    return (channels, strides) if strides is not None else None


def no_shortcut(network: Network, where: Span, path: str, source: str, last: str) -> Diagnostic:
    """What to say of a residual container where no convolution brings its input to the shape of its layers' result."""
    x, y = (write_shape(network.layer(node)["output"].shape) for node in (source, last))
    labels = tuple(
        Label(network.layer(node)["span"], f"`{node}` gives {shape}") for node, shape in ((source, x), (last, y))
    )
    message = f"`{path}`: {x} goes in and {y} comes out of its layers, and no stride brings the one to the other"
    help = "keep the size with `padding: same`, or divide it with a stride; or write the `shortcut` that fits"
    return Diagnostic("shape-mismatch", message, where, labels=labels, help=help)
