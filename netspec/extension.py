"""`extends` and `use`: a spec that is built on another, and blocks that several specs share.

Both work on the trees, before anything is made of them, so everything after sees one spec. Every node keeps the span of
the file that it was written in.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from netspec.diagnostics import Diagnostic, Label, SpecError, did_you_mean
from netspec.layers import find_op
from netspec.source import Span
from netspec.yaml_reader import Entry, Mapping, Node, Scalar, Sequence, parse, read_file
from netspec.zoo import find_spec

MAX_FILES = 32
# What an extending spec may change key by key, if the key is there; other sections it replaces as a whole.
MERGED = ("args", "net", "blocks", "train", "deploy", "inputs")
# Keys of `train.data` whose text is a path, beside the kind's own and `path`.
DATA_PATHS = {
    "folder": (),
    "npz": (),
    "coco": ("images_in", "test", "test_images_in", "proposals"),
    "voc": ("proposals",),
    "yolo": ("proposals",),
    "masks": (),
}
ADDING = "a layer that is added below those of the base names what it reads: `from: …`"
OPEN = ("blocks", "train", "deploy")  # of these, the ones that it may add keys to


def extend(root: Node, folder: Path) -> Node:
    """The tree with what it extends and uses put in; the tree itself where it does neither.

    Args:
        folder: against which paths of files are taken.

    Raises:
        SpecError: a file can't be had, files extend one another in a circle, or an override meets nothing.
    """
    return _Extension().resolve(root, folder, ())


class _Extension:
    def __init__(self) -> None:
        self.files = 0

    def resolve(self, root: Node, folder: Path, chain: tuple[Path, ...]) -> Node:
        if not isinstance(root, Mapping) or not {"extends", "use"} & root.entries.keys():
            return root
        own = Mapping({key: entry for key, entry in root.entries.items() if key not in ("extends", "use")}, root.span)
        if "use" in root.entries:
            own = self.with_blocks(own, root.entries["use"], folder, chain)
        if "extends" in root.entries:
            node = root.entries["extends"].value
            base, _ = self.read(node, folder, chain)
            own = _merge(base, own, node.span)
        return own

    def read(self, node: Node, folder: Path, chain: tuple[Path, ...]) -> tuple[Mapping, Path]:
        """The resolved tree of another file, named by path or by its name in the zoo."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            help = "name a spec of the zoo, or a file: `extends: resnet50`"
            raise SpecError(
                [Diagnostic("wrong-type", "a file or the name of a spec is expected", node.span, help=help)]
            )
        try:
            beside = folder / node.text
            path = beside if beside.is_file() else find_spec(node.text)
            source = read_file(path)
        except SpecError as error:
            first = error.diagnostics[0]
            raise SpecError([Diagnostic("unknown-spec", first.message, node.span, help=first.help)]) from None
        place = path.resolve()
        self.files += 1
        if place in chain or self.files > MAX_FILES:
            names = " → ".join([*(known.name for known in chain), place.name])
            raise SpecError([Diagnostic("extension-cycle", f"the files build on one another: {names}", node.span)])
        root = self.resolve(parse(source), path.parent, (*chain, place))
        if not isinstance(root, Mapping):
            raise SpecError([Diagnostic("not-a-spec", f"`{path}` is no spec", node.span)])
        return _with_paths_from(root, path.parent, folder), path

    def with_blocks(self, own: Mapping, entry: Entry, folder: Path, chain: tuple[Path, ...]) -> Mapping:
        """The spec with the blocks of the files that it uses before its own."""
        files = entry.value.items if isinstance(entry.value, Sequence) else [entry.value]
        blocks: dict[str, Entry] = {}
        for node in files:
            library, path = self.read(node, folder, chain)
            found = library.get("blocks")
            if not isinstance(found, Mapping):
                raise SpecError([Diagnostic("missing-section", f"`{path}` has no `blocks`", node.span)])
            _add_blocks(blocks, found.entries, node.span)
        mine = own.get("blocks")
        if isinstance(mine, Mapping):
            _add_blocks(blocks, mine.entries, None)
        merged = dict(own.entries)
        key = own.entries["blocks"].key if mine else Scalar("blocks", "blocks", False, entry.key.span)
        merged["blocks"] = Entry(key, Mapping(blocks, own.span))
        return Mapping(merged, own.span)


def _with_paths_from(root: Mapping, there: Path, here: Path) -> Mapping:
    """A spec of another folder with the paths of its training data, which are relative to that, as seen from here.

    A word that names an argument is not a path; the argument's value is.
    """
    train, args = root.get("train"), root.get("args")
    data = train.get("data") if isinstance(train, Mapping) else None
    if not isinstance(train, Mapping) or not isinstance(data, Mapping):
        return root
    names = args.entries if isinstance(args, Mapping) else {}
    entries = dict(data.entries)
    paths = {key for kind in DATA_PATHS.keys() & entries.keys() for key in (kind, "path", *DATA_PATHS[kind])}
    for key in paths & entries.keys():
        node = entries[key].value
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.text not in names:
            path = _seen_from(here, there, node.text)
            entries[key] = Entry(entries[key].key, Scalar(path, path, True, node.span))
    return _with(root, "train", _with(train, "data", Mapping(entries, data.span)))


def _seen_from(here: Path, there: Path, path: str) -> str:
    if path.startswith("~") or Path(path).is_absolute():
        return path
    return os.path.relpath(there.resolve() / path, here.resolve())


def _with(mapping: Mapping, key: str, node: Node) -> Mapping:
    return Mapping(mapping.entries | {key: Entry(mapping.entries[key].key, node)}, mapping.span)


def _add_blocks(blocks: dict[str, Entry], more: dict[str, Entry], where: Span | None) -> None:
    for name, entry in more.items():
        if name in blocks and not _is_same(blocks[name].key.span, entry.key.span):
            labels = (Label(blocks[name].key.span, "first defined here"),)
            message = f"two blocks are called `{name}`"
            raise SpecError([Diagnostic("duplicate-name", message, where or entry.key.span, labels=labels)])
        blocks[name] = entry


def _is_same(one: Span, other: Span) -> bool:
    """Whether two places are one in one file, which several files may use."""
    return one.source.text == other.source.text and (one.line, one.column) == (other.line, other.column)


def _merge(base: Mapping, own: Mapping, where: Span) -> Mapping:
    """The base with the extending spec's keys in place of its own; the base's name and what it asserts of itself go."""
    merged = {key: entry for key, entry in base.entries.items() if key not in ("name", "expect")}
    for key, entry in own.entries.items():
        under = base.get(key)
        if key in MERGED and isinstance(under, Mapping) and isinstance(entry.value, Mapping):
            merged[key] = Entry(entry.key, _merge_section(key, under, entry.value, where))
        elif key in MERGED and (isinstance(under, Mapping) or isinstance(entry.value, Mapping)) and _holds(under):
            raise SpecError([_unlike(key, under, entry.value, where)])
        else:
            merged[key] = entry
    return Mapping(merged, own.span)


def _holds(section: Node | None) -> bool:
    """Whether a section is there and not left empty."""
    return section is not None and not (isinstance(section, Scalar) and section.value is None)


def _unlike(section: str, base: Node | None, own: Node, where: Span) -> Diagnostic:
    """A list in place of a mapping would drop all that the base has there, and so would the reverse."""
    labels = [Label(where, "extended here")]
    message = f"what an extending spec has under `{section}` takes the place of the base's, name by name"
    help = f"write a mapping, as the base does: `{section}: {{name: …}}`"
    if isinstance(own, Mapping):
        assert base is not None
        labels.append(Label(base.span, "the base has no names here"))
        help = "name the layers in the base, or write a list here, in place of all of it"
    elif section == "net":
        help = "name the layers that are changed, `net: {fc: {linear: 10}}`; with other layers throughout, don't extend"
    return Diagnostic("wrong-type", message, own.span, labels=tuple(labels), help=help)


def _merge_section(section: str, base: Mapping, own: Mapping, where: Span) -> Mapping:
    """Each key of `own` in the place of the base's, so that the order of layers stays that of the base."""
    merged = dict(base.entries)
    for key, entry in own.entries.items():
        if key not in merged and section not in OPEN and not (section == "net" and _reads_by_name(entry.value)):
            what = {"args": "argument", "net": "layer", "inputs": "input"}[section]
            raise SpecError(
                [
                    Diagnostic(
                        "unknown-override",
                        f"the spec that this one extends has no {what} `{key}`",
                        entry.key.span,
                        labels=(Label(where, "extended here"),),
                        notes=(ADDING,) if section == "net" else (),
                        help=did_you_mean(key, merged),
                    )
                ]
            )
        value = entry.value
        declared = merged[key].value if key in merged else None
        if section == "args" and isinstance(declared, Mapping) and not isinstance(value, Mapping):
            key_of_it = Scalar("default", "default", False, entry.key.span)
            value = Mapping({**declared.entries, "default": Entry(key_of_it, value)}, value.span)
        merged[key] = Entry(entry.key, value)
    return Mapping(merged, own.span)


def _reads_by_name(layer: Node) -> bool:
    """Whether a layer says what it reads, so that it can be added below those of the base without a doubt."""
    if not isinstance(layer, Mapping):
        return False
    if {"from", "over"} & layer.entries.keys():
        return True
    lists = [key for key, entry in layer.entries.items() if isinstance(entry.value, Sequence)]
    return any(getattr(find_op(key), "wiring", False) for key in lists)


def without(root: Node, section: str, names: Collection[str]) -> Node:
    """The tree without these keys of a section; without the section where none is left."""
    if not isinstance(root, Mapping) or not isinstance(found := root.get(section), Mapping):
        return root
    left = {name: entry for name, entry in found.entries.items() if name not in names}
    if left:
        return _with(root, section, Mapping(left, found.span))
    return Mapping({key: entry for key, entry in root.entries.items() if key != section}, root.span)


def written_out(root: Node) -> str:
    """A tree as YAML text: a spec that stands alone, whatever files it was put together from."""
    text: str = yaml.serialize(_yaml_node(root), Dumper=_Dumper, allow_unicode=True, width=120)
    return text


_RESOLVER: Any = yaml.resolver.Resolver()
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _yaml_node(node: Node) -> yaml.Node:
    if isinstance(node, Scalar):
        if node.quoted:
            return yaml.ScalarNode("tag:yaml.org,2002:str", node.text, style='"')
        if node.value is None:
            return yaml.ScalarNode("tag:yaml.org,2002:null", "null")
        # The tag that the dumper expects of this text, so that it writes none: our reader goes by the text alone.
        return yaml.ScalarNode(_RESOLVER.resolve(yaml.ScalarNode, node.text, (True, False)), node.text)
    if isinstance(node, Sequence):
        items = [_yaml_node(item) for item in node.items]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", items, flow_style=_is_plain(node))
    pairs = [(_yaml_node(entry.key), _yaml_node(entry.value)) for entry in node.entries.values()]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=_is_small(node))


def _is_small(node: Mapping) -> bool:
    """Whether a mapping reads well on one line: a layer with its arguments."""
    return all(_is_plain(entry.value) for entry in node.entries.values()) and len(node.entries) < 8


def _is_plain(node: Node) -> bool:
    """Whether a value is one word or number, or a list of such."""
    return isinstance(node, Scalar) or (isinstance(node, Sequence) and all(map(_is_plain, node.items)))
