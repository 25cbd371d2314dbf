"""`netspec diff`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import click
from rich.markup import escape

from netspec.cli.common import load_or_exit, served_option, set_option
from netspec.cli.tables import show_table
from netspec.diff import Diff, Node, compare, state_dict, totals
from netspec.dims import Dim, evaluate
from netspec.drawing.tree import name_of
from netspec.drawing.words import kind_words, layer_words
from netspec.network import Layer, Network

HEADINGS = ("", "layer", "what", "output", "parameters", "MACs", "receptive field")
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "moved": (">", "cyan")}
FEW = 3  # a container with more lines than these is told in one


class Line(NamedTuple):
    """One line of the table: a layer, a container told as one, or several of these in a row."""

    change: str
    nodes: list[Node]


@click.command(epilog="Example: netspec diff resnet50 resnet101")
@click.argument("before")
@click.argument("after", required=False)
@set_option
@click.option("--set-before", "settings_before", multiple=True, metavar="NAME=VALUE", help="The same for BEFORE.")
@served_option
@click.option("--all", "every", is_flag=True, help="Every layer by itself, none told together with its container.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where they differ.")
def command(
    before: str,
    after: str | None,
    settings: tuple[str, ...],
    settings_before: tuple[str, ...],
    served: bool,
    every: bool,
    form: str,
    exit_code: bool,
) -> None:
    """Tell what changed from the spec BEFORE to the spec AFTER: layers, shapes, parameters, MACs, receptive fields.

    --set is for AFTER. Without AFTER it is BEFORE again: `netspec diff resnet50 --set width=32`.
    """
    networks = [
        load_or_exit(before, settings_before, served=served),
        load_or_exit(after or before, settings, served=served),
    ]
    diff = compare(*networks)
    data = diff.as_data()
    if form == "json":
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    elif data["differ"]:
        _show(diff, every)
    else:
        click.echo(f"{diff.before.name} and {diff.after.name}: the same network")
    sys.exit(1 if exit_code and data["differ"] else 0)


def _show(diff: Diff, every: bool) -> None:
    title = f"{diff.before.name} → {diff.after.name}"
    rows = []
    for line in _lines(diff, diff.root, every):
        mark, colour = MARKS[line.change]
        row = (mark, *map(escape, _cells(diff, line)))
        rows.append(tuple(f"[{colour}]{cell}[/]" for cell in row) if sys.stdout.isatty() else row)
    if rows:
        show_table(HEADINGS, rows, ("parameters", "MACs"), title)
        click.echo()
    else:
        click.echo(f"{title}: the same layers")
    for name, (old, new) in totals(diff).items():
        if old != new:
            more = f"  ({new / old - 1:+.1%})" if name in ("parameters", "macs") and _both_counts(old, new) else ""
            click.echo(f"{_TITLES.get(name, name):<20}{_total(old, new)}{more}")
    click.echo(f"{'state-dict':<20}{_state_dict(diff)}")


def _lines(diff: Diff, node: Node, every: bool) -> list[Line]:
    """What changed below a container, with containers in one line where more would say less."""
    lines: list[Line] = []
    for child in node.children:
        leaves = list(child.leaves())
        if child.box.role == "layers":
            below = [Line(child.change, [child])] if child.change else []
        else:
            below = _lines(diff, child, every)
            whole = all(leaf.change for leaf in leaves)
            if not every and len(leaves) > 1 and (len(below) > FEW or whole):
                changes = {leaf.change for leaf in leaves}
                below = [Line(changes.pop() if whole and len(changes) == 1 else "changed", [child])]
        if below and lines and _continues(diff, lines[-1], below[0]):
            lines[-1].nodes.extend(below.pop(0).nodes)
        lines += below
    return lines


def _continues(diff: Diff, line: Line, other: Line) -> bool:
    """Whether a container was added or removed like the one before it: a `repeat` has more turns, say."""
    boxes = [node.box for node in (line.nodes[-1], *other.nodes)]
    if line.change != other.change or line.change not in ("added", "removed") or len(boxes) != 2:
        return False
    kinds = {kind_words(_network(diff, line.nodes[0]), box) if box.role == "container" else "" for box in boxes}
    return len(kinds) == 1 and kinds != {""} and len({box.path.rpartition(".")[0] for box in boxes}) == 1


def _network(diff: Diff, node: Node) -> Network:
    return diff.before if node.after is None else diff.after


def _cells(diff: Diff, line: Line) -> tuple[str, ...]:
    first, last = line.nodes[0], line.nodes[-1]
    where = first.box.path if first is last else f"{first.box.path} … {name_of(last.box.path)}"
    if first.before and first.after and first.before.path != first.after.path:
        where = f"{first.before.path} → {first.after.path}"
    leaf = list(last.leaves())[-1]
    return (
        where,
        _what(diff, line),
        _fact(leaf, "output"),
        _sums(diff, line, lambda layer, sizes: layer["parameters"]),
        _sums(diff, line, lambda layer, sizes: evaluate(layer["macs"], sizes)),
        _fact(leaf, "receptive_field"),
    )


def _what(diff: Diff, line: Line) -> str:
    first = line.nodes[0]
    network = _network(diff, first)
    if first.box.role == "layers":
        return _what_of_layer(network, first)
    leaves = [leaf for node in line.nodes for leaf in node.leaves()]
    kind = kind_words(network, first.box)
    if line.change in ("added", "removed"):
        many = f"{len(line.nodes)} × " if len(line.nodes) > 1 else ""
        return f"{many}{kind or 'container'}, {len(leaves)} layers"
    told = [kind] if kind else []
    for change in MARKS:
        those = [leaf for leaf in leaves if leaf.change == change]
        if those:
            told.append(f"{len(those)} of {len(leaves)} {change}" + _kinds(diff, change, those))
    return ", ".join(told)


def _kinds(diff: Diff, change: str, leaves: list[Node]) -> str:
    """`: batchnorm`, where all that was added or removed is of one kind."""
    kinds = {_network(diff, leaf).layer(leaf.box.path)["op"] for leaf in leaves}
    names = {op.kind for op in kinds if op is not None}
    return f" ({names.pop()})" if change in ("added", "removed") and len(names) == 1 else ""


def _what_of_layer(network: Network, node: Node) -> str:
    if node.change != "changed":
        return layer_words(network, node.box.path)
    op = network.layer(node.box.path)["op"]
    assert op is not None
    told = [" → ".join(node.facts["op"]) if "op" in node.facts else op.kind]
    told += [f"{name} {old} → {new}" for name, (old, new) in node.facts.get("arguments", {}).items()]
    if "inputs" in node.facts:
        told.append("reads " + " → ".join(", ".join(nodes) for nodes in node.facts["inputs"]))
    return ", ".join(told)


def _fact(leaf: Node, name: str) -> str:
    """A shape before and after, without the batch; one of them where the other is missing."""
    start = 1 if name == "output" else 0
    sizes = ["×".join(map(str, size[start:])) for size in leaf.facts.get(name, ()) if size is not None]
    return " → ".join(sizes)


def _sums(diff: Diff, line: Line, count: Callable[[Layer, dict[str, int]], Dim]) -> str:
    """A sum over the layers of a line before and after; "" where it is the same, or nothing."""
    sums: list[Dim] = []
    for network, boxes in (
        (diff.before, [node.before for node in line.nodes]),
        (diff.after, [node.after for node in line.nodes]),
    ):
        total: Dim = 0
        for path in (path for box in boxes if box is not None for path in box.layers):
            total = total + count(network.layer(path), network.sizes)
        sums.append(total)
    if sums[0] == sums[1]:
        return ""
    if line.change in ("added", "removed"):
        return _value(sums[line.change == "added"])
    return f"{_value(sums[0])} → {_value(sums[1])}"


_TITLES = {"macs": "MACs a sample", "receptive_field": "receptive field"}


def _total(old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        return ", ".join(f"{name} {_value(old.get(name))} → {_value(new.get(name))}" for name in names)
    return f"{_value(old)} → {_value(new)}"


def _both_counts(old: Any, new: Any) -> bool:
    return isinstance(old, int) and isinstance(new, int) and old > 0


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, list):
        return " × ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _state_dict(diff: Diff) -> str:
    counts = state_dict(diff)
    words = {"same": "the same", "other_shape": "of another shape", "only_before": "gone", "only_after": "new"}
    return ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key])
