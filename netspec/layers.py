"""How a layer is written: a word, a mapping with exactly one kind, or a list.

This reads the form only; what the kind does with its arguments is the elaboration's matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from netspec.diagnostics import Diagnostic, did_you_mean, nearest
from netspec.ops.base import Op, discover
from netspec.other_names import known_elsewhere
from netspec.source import Span
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence

MODIFIERS = ("from", "over", "when", "repeat", "connect", "as")
CONTAINER = "net"
BRANCHES = "branches"
RESIDUAL = "residual"
# What a container takes beside its layers.
CONTAINERS: dict[str, tuple[str, ...]] = {
    CONTAINER: ("outputs",),
    BRANCHES: ("merge", "outputs"),
    RESIDUAL: ("shortcut",),
}
SHARE = "share"  # the kind of a layer that is an earlier one again, with the same weights

# The blocks in reach, each with the names of its arguments; and the arguments that hold a layer.
Blocks = dict[str, Collection[str]]


@dataclass(slots=True, eq=False)
class LayerForm:
    """A layer as written, taken apart.

    Attributes:
        kind: an op, a block, a container, an argument that holds a layer, or `share`.
        where: the place of the kind's name.
        value: the kind's own value, None where nothing was given.
        arguments: the other keys, without the modifiers.
        modifiers: `from`, `over`, `when`, `repeat`, `connect`, `as`.
    """

    kind: str
    where: Span
    value: Node | None
    arguments: dict[str, Entry]
    modifiers: dict[str, Entry]


class _Everything(frozenset[str]):
    """The arguments that a layer not known yet may take."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING = _Everything()


class FormError(Exception):
    """Carries what is wrong with the way a layer is written."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic


def find_op(kind: str) -> type[Op] | None:
    """The op of that name; packages that add ops are asked only when no built-in one has it."""
    return discover().get(kind) or discover(plugins=True).get(kind)


def read_layer(node: Node, blocks: Blocks) -> LayerForm:
    """Takes a layer apart.

    Raises:
        FormError: it is none of the three forms, its kind is not known, or it has two kinds.
    """
    if isinstance(node, Sequence):
        return LayerForm(CONTAINER, node.span, node, {}, {})
    if isinstance(node, Scalar):
        if not isinstance(node.value, str):
            found = "nothing" if node.value is None else f"`{node.text}`"
            raise FormError(
                Diagnostic("not-a-layer", f"a layer is expected, {found} found", node.span, help=_LAYER_HELP)
            )
        if not _is_kind(node.text, blocks):
            raise FormError(_unknown_kind(node.text, node.span, blocks))
        return LayerForm(node.text, node.span, None, {}, {})
    kinds = [key for key in node.entries if key not in MODIFIERS and _is_kind(key, blocks)]
    if len(kinds) > 1:
        # `{lstm: 64, dropout: 0.1}`: a word may be an op's name and another op's argument
        owners = [kind for kind in kinds if _takes_all(kind, [other for other in kinds if other != kind], blocks)]
        if len(owners) > 1:  # what an argument holds is a kind only where nothing else is
            owners = [kind for kind in owners if blocks.get(kind) is not EVERYTHING]
        if len(owners) != 1:
            first, second = kinds[0], kinds[1]
            raise FormError(
                Diagnostic(
                    "two-kinds",
                    f"a layer has one kind; this has `{first}` and `{second}`",
                    node.entries[second].key.span,
                    help="write two layers, one after the other",
                )
            )
        kinds = owners
    if not kinds:
        raise FormError(_no_kind(node, blocks))
    kind = kinds[0]
    entry = node.entries[kind]
    value = None if isinstance(entry.value, Scalar) and entry.value.value is None else entry.value
    rest = {key: entry for key, entry in node.entries.items() if key != kind}
    modifiers = {key: rest.pop(key) for key in MODIFIERS if key in rest}
    return LayerForm(kind, entry.key.span, value, rest, modifiers)


_LAYER_HELP = "a layer is a word (`relu`), a mapping with one kind (`{conv: 64, kernel: 3}`), or a list of layers"


def _is_kind(word: str, blocks: Blocks) -> bool:
    return word in CONTAINERS or word == SHARE or word in blocks or find_op(word) is not None


def _takes_all(kind: str, arguments: list[str], blocks: Blocks) -> bool:
    op = find_op(kind)
    known: Collection[str] = CONTAINERS.get(kind) or blocks.get(kind, op.model_fields if op else ())
    return all(name in known for name in arguments)


def _unknown_kind(word: str, span: Span, blocks: Blocks) -> Diagnostic:
    names = [*discover(plugins=True), *blocks, *CONTAINERS, SHARE]
    other = known_elsewhere(word)
    help = f"did you mean `{other}`?" if other else did_you_mean(word, names)
    if not other and not nearest(word, names):
        known = ", ".join(f"`{name}`" for name in blocks)
        help = "`netspec list --ops` shows the ops" + (f"; the blocks here are {known}" if known else "")
    return Diagnostic("unknown-op", f"there is no op or block called `{word}`", span, help=help)


def _no_kind(node: Mapping, blocks: Blocks) -> Diagnostic:
    others = [entry.key for key, entry in node.entries.items() if key not in MODIFIERS]
    if not others:
        return Diagnostic("no-kind", "this layer has no kind: no op, block or `net`", node.span, help=_LAYER_HELP)
    names = [*discover(plugins=True), *blocks, *CONTAINERS]
    arguments = {name for op in discover().values() for name in op.model_fields}
    # A key that looks like a kind is the likelier slip than one that is some op's argument.
    meant = (key for key in others if known_elsewhere(key.text) or nearest(key.text, names))
    mistyped = next((key for key in meant if key.text not in arguments), None)
    suspect = mistyped or next((key for key in others if key.text not in arguments), None)
    if suspect is None:
        return Diagnostic(
            "no-kind", "this layer has arguments but no kind", others[0].span, help="say what it is: " + _LAYER_HELP
        )
    return _unknown_kind(suspect.text, suspect.span, blocks)
