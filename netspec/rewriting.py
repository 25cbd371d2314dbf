"""A spec with other layers in the places of some: the text stays the statement of what the network is."""

from __future__ import annotations

import json
from collections.abc import Mapping as Named
from dataclasses import dataclass, field
from typing import Any

from netspec.extension import written_out
from netspec.formatting import CannotFormat, format_spec
from netspec.layers import MODIFIERS, find_op
from netspec.loading import check_source
from netspec.names import is_name
from netspec.network import Network
from netspec.ops.base import Op
from netspec.source import Source, Span, whole_file
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence, parse, plain_value


class CannotRewrite(Exception):
    """Why a layer can't become another where it is written, and the mend."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a layer becomes.

    Attributes:
        op: what it does then.
        kept: the arguments that stay as they are written, each with its name in the new op.
    """

    op: Op
    kept: dict[str, str] = field(default_factory=dict)

    def stated(self) -> dict[str, Any]:
        """The other arguments, where they are not the new op's defaults."""
        names = self.kept.values()
        fields = type(self.op).model_fields
        return {
            name: getattr(self.op, name)
            for name in fields
            if name not in names and getattr(self.op, name) != fields[name].default
        }


def plain_spec(network: Network) -> Source:
    """The network's spec as one that stands alone, with the arguments that it was given as its defaults.

    What it expects of itself is left out, as with other arguments it need not hold.
    """
    source = Source(network.file, network.text)
    root = with_section(_tree(source), "expect", None)
    args = root.get("args")
    if isinstance(args, Mapping):
        before = check_source(source).network
        entries = dict(args.entries)
        for name, value in network.arguments.items():
            if before is None or before.arguments[name] != value:
                entries[name] = Entry(entries[name].key, _with_default(entries[name].value, value))
        root = with_section(root, "args", Mapping(entries, args.span))
    return Source(network.file, written_out(root))


def rewritten(source: Source, network: Network, rewrites: Named[str, Rewrite], sections: Named[str, Any]) -> Source:
    """The text of a spec in which layers are others, and sections are replaced, or left out where they are None.

    Args:
        source: the text that the network was read from.
        rewrites: by the layer's path.

    Raises:
        CannotRewrite: a layer is not written as a layer there, or what is written once would have to become two things.
    """
    root = _tree(source)
    written: dict[tuple[int, int], Rewrite | None] = {}  # what is written there becomes; None where it stays
    for path, layer in network.layers():
        where = layer["span"]
        edit = rewrites.get(path)
        if _text(written.setdefault(_at(where), edit)) != _text(edit):
            message = f"`{path}` is written together with other layers, which would become something else"
            help = "write them apart: a layer for each turn of the `repeat`, a block for each use"
            raise CannotRewrite(message, help)
    edits = {place: edit for place, edit in written.items() if edit is not None}
    found: set[tuple[int, int]] = set()
    changed = _changed(root, edits, found)
    assert isinstance(changed, Mapping)
    for place, edit in edits.items():
        if place not in found:
            path = next(path for path, layer in network.layers() if _at(layer["span"]) == place)
            message = f"`{path}` is given as an argument, so that it can't become `{edit.op.kind}` where it stands"
            help = "write the layer out where the argument is used"
            raise CannotRewrite(message, help)
    for name, content in sections.items():
        changed = with_section(changed, name, None if content is None else as_node(content))
    return _laid_out(Source(source.name, written_out(changed)))


def _text(edit: Rewrite | None) -> tuple[Any, ...]:
    """What is written of a layer's new form, which uses of one text have to have in common."""
    return () if edit is None else (edit.op.kind, edit.kept, edit.stated())


def with_section(root: Mapping, name: str, node: Node | None) -> Mapping:
    """A spec's tree with a section in place of its own, or without it."""
    entries = {key: entry for key, entry in root.entries.items() if node is not None or key != name}
    if node is not None:
        entries[name] = Entry(root.entries[name].key if name in entries else _word(name), node)
    return Mapping(entries, root.span)


def as_node(value: Any) -> Node:
    """Plain data as a tree: mappings, lists, texts, numbers, truth values and None."""
    if isinstance(value, dict):
        where = whole_file("")
        return Mapping({key: Entry(_word(key), as_node(item)) for key, item in value.items()}, where)
    if isinstance(value, list | tuple):
        return Sequence([as_node(item) for item in value], whole_file(""))
    if isinstance(value, Scalar | Mapping | Sequence):
        return value
    if isinstance(value, str) and is_name(value) and isinstance(plain_value(value, whole_file("")), str):
        return _word(value)
    return parse(Source("value", json.dumps(value, ensure_ascii=False)))


def _with_default(declared: Node, value: Any) -> Node:
    """An argument's declaration with another default; a layer's is given as its text."""
    if not isinstance(declared, Mapping):
        return as_node(value)
    kind = declared.get("type")
    is_layer = isinstance(kind, Scalar) and kind.text == "layer"
    node = parse(Source("value", value)) if is_layer else as_node(value)
    return Mapping(declared.entries | {"default": Entry(_word("default"), node)}, declared.span)


def _tree(source: Source) -> Mapping:
    root = parse(source)
    assert isinstance(root, Mapping), "the spec was valid"
    return root


def _at(span: Span) -> tuple[int, int]:
    return span.line, span.column


def _word(text: str) -> Scalar:
    return Scalar(text, text, False, whole_file(""))


def _changed(node: Node, edits: Named[tuple[int, int], Rewrite], found: set[tuple[int, int]]) -> Node:
    """The tree with every layer that stands at one of these places in its new form."""
    if isinstance(node, Scalar):
        if _at(node.span) not in edits:
            return node
        found.add(_at(node.span))
        return _layer(Mapping({node.text: Entry(node, _nothing())}, node.span), node.text, edits[_at(node.span)])
    if isinstance(node, Sequence):
        return Sequence([_changed(item, edits, found) for item in node.items], node.span)
    for kind, entry in node.entries.items():
        place = _at(entry.key.span)
        if place in edits:
            found.add(place)
            return _layer(node, kind, edits[place])
    entries = {key: Entry(entry.key, _changed(entry.value, edits, found)) for key, entry in node.entries.items()}
    return Mapping(entries, node.span)


def _layer(node: Mapping, kind: str, edit: Rewrite) -> Node:
    """A layer in its new form, with its modifiers and the arguments that it keeps."""
    old = find_op(kind)
    given = {name: entry.value for name, entry in node.entries.items() if name != kind and name not in MODIFIERS}
    value = node.entries[kind].value
    if old is not None and not (isinstance(value, Scalar) and value.value is None):
        given[old.primary() or ""] = value
    written = {new: given[name] for name, new in edit.kept.items() if name in given}
    written |= {name: as_node(value) for name, value in edit.stated().items()}
    if old is not None and old.wiring:
        written[""] = value
    modifiers = {name: entry for name, entry in node.entries.items() if name in MODIFIERS}
    if not written and not modifiers:
        return _word(edit.op.kind)
    first = "" if edit.op.wiring else type(edit.op).primary() or ""
    entries = {edit.op.kind: Entry(_word(edit.op.kind), written.pop(first, _nothing()))}
    names = [name for name in type(edit.op).model_fields if name in written]
    entries |= {name: Entry(_word(name), written[name]) for name in names}
    return Mapping(entries | modifiers, node.span)


def _nothing() -> Scalar:
    return Scalar(None, "", False, whole_file(""))


def _laid_out(source: Source) -> Source:
    try:
        return Source(source.name, format_spec(source))
    except CannotFormat:
        return source
