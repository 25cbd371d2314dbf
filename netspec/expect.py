"""`expect`: what a spec asserts of itself. An assertion that fails is an error with the value found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from netspec import dims
from netspec.diagnostics import Diagnostic, Findings, did_you_mean
from netspec.dims import symbol
from netspec.network import Layer, Network
from netspec.tensor import write_shape
from netspec.yaml_reader import Entry, Node, Scalar, Sequence
from netspec.yaml_reader import Mapping as MappingNode

ASSERTIONS = ("parameters", "macs", "depth", "shapes", "receptive_field")


def check_expectations(network: Network, names: Mapping[str, str], entry: Entry | None, findings: Findings) -> None:
    """Holds the network against the spec's `expect`.

    Args:
        names: every path that a reference could mean, with the node that it stands for.
    """
    if entry is None:
        return
    if not isinstance(entry.value, MappingNode):
        findings.add(
            Diagnostic(
                "wrong-type", "`expect` takes a mapping", entry.value.span, help="write `expect: {parameters: 61_706}`"
            )
        )
        return
    for key, item in entry.value.entries.items():
        if key not in ASSERTIONS:
            help = did_you_mean(key, ASSERTIONS)
            findings.add(Diagnostic("unknown-key", f"`expect` knows no `{key}`", item.key.span, help=help))
            continue
        for diagnostic in _check(network, names, key, item.value):
            findings.add(diagnostic)


def _check(network: Network, names: Mapping[str, str], key: str, node: Node) -> Iterator[Diagnostic]:
    if key == "depth":
        yield from _compare(node, "depth", "", network.depth())
    elif key in ("parameters", "macs"):
        count: Callable[[str], Any] = network.parameters if key == "parameters" else network.macs
        if isinstance(node, MappingNode):
            for path, wanted in _paths(node, {*names, *network.containers, "total"}):
                if isinstance(wanted, Diagnostic):
                    yield wanted
                else:
                    yield from _compare(
                        wanted, key, "" if path == "total" else path, count("" if path == "total" else path)
                    )
        else:
            yield from _compare(node, key, "", count(""))
    else:
        yield from _check_layers(network, names, key, node)


def _check_layers(network: Network, names: Mapping[str, str], key: str, node: Node) -> Iterator[Diagnostic]:
    if not isinstance(node, MappingNode):
        help = "write `shapes: {fc: [N, 10]}`" if key == "shapes" else "write `receptive_field: {conv1: 5}`"
        yield Diagnostic("wrong-type", f"`{key}` takes a mapping of layers", node.span, help=help)
        return
    for path, wanted in _paths(node, names):
        if isinstance(wanted, Diagnostic):
            yield wanted
            continue
        layer = network.layer(names[path])
        if key == "shapes":
            yield from _compare_shape(network, wanted, path, layer["output"].shape)
        else:
            yield from _compare_field(network, wanted, path, layer)


def _paths(node: MappingNode, known: Any) -> Iterator[tuple[str, Node | Diagnostic]]:
    for path, entry in node.entries.items():
        if path in known:
            yield path, entry.value
        else:
            help = did_you_mean(path, known)
            yield path, Diagnostic("unknown-reference", f"there is no layer `{path}`", entry.key.span, help=help)


def _compare(node: Node, what: str, path: str, found: Any) -> Iterator[Diagnostic]:
    wanted = node.value if isinstance(node, Scalar) else None
    shown = what if what in ("depth", "parameters") else "MACs"
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        of = f" of {shown}" if what != "depth" else ""
        yield Diagnostic("wrong-type", f"a whole number{of} is expected here", node.span)
    elif not isinstance(found, int):
        yield Diagnostic(
            "expect", f"the {shown} depend on free dimensions: {found}", node.span, help="give them `sizes` in `inputs`"
        )
    elif found != wanted:
        where = f"`{path}` has" if path else "the network has"
        message = (
            f"{where} {found:,} {shown}, not {wanted:,}" if what != "depth" else f"the depth is {found}, not {wanted}"
        )
        yield Diagnostic("expect", message, node.span, label=f"{found - wanted:+,}")


def _compare_shape(network: Network, node: Node, path: str, shape: tuple[Any, ...]) -> Iterator[Diagnostic]:
    if not isinstance(node, Sequence):
        yield Diagnostic("wrong-type", "a shape is a list, as in `[N, 64, 56, 56]`", node.span)
        return
    for item in node.items:
        if not isinstance(item, Scalar) or isinstance(item.value, bool | float):
            yield Diagnostic("wrong-type", "a size is a whole number, or the name of a free dimension", item.span)
            return
    wanted: list[Any] = [
        symbol(item.text) if isinstance(item, Scalar) and isinstance(item.value, str) else getattr(item, "value", None)
        for item in node.items
    ]
    same = len(wanted) == len(shape) and all(
        w == s or dims.evaluate(w, network.sizes) == dims.evaluate(s, network.sizes)
        for w, s in zip(wanted, shape, strict=True)
        if w is not None
    )
    if not same:
        found = ", ".join(str(size) for size in network.concrete(shape))
        given = ", ".join(str(w) for w in wanted)
        yield Diagnostic("expect", f"`{path}` gives [{found}], not [{given}]", node.span)


def _compare_field(network: Network, node: Node, path: str, layer: Layer) -> Iterator[Diagnostic]:
    field, output = layer["receptive_field"], layer["output"]
    items = node.items if isinstance(node, Sequence) else [node]
    wanted = [item.value for item in items if isinstance(item, Scalar) and isinstance(item.value, int)]
    if len(wanted) != len(items):
        yield Diagnostic("wrong-type", "a receptive field is a number, or a list of one for each axis", node.span)
    elif field is None:
        why = f"its places, {write_shape(output.shape)}, are not places of the input" if output.spatial else ""
        message = f"`{path}` has no receptive field: {why or 'it has no spatial axes'}"
        yield Diagnostic("expect", message, node.span, help="leave it out, or name a layer before")
    else:
        found = network.concrete(field.size)
        if tuple(wanted if len(wanted) > 1 else wanted * len(found)) != found:
            shown, given = (" × ".join(str(size) for size in sizes) for sizes in (found, wanted))
            yield Diagnostic("expect", f"the receptive field of `{path}` is {shown}, not {given}", node.span)
