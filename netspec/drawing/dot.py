"""A picture as text in Graphviz's language."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator

from netspec.drawing import words
from netspec.drawing.folding import Line, lines
from netspec.drawing.tree import Box, Tree, name_of

FONT = "DejaVu Sans"  # the widest of those that the picture may be shown in, so that text always fits its box

AFTER_NAME, BEFORE_COUNT = "\u2002", "\u2003"  # blanks that tell the parts of a row apart

# Each colour with the one that takes its place on a dark screen.
PAGE, INK, FAINT, RULE, SKIP = "#ffffff", "#1c2733", "#3f4a57", "#8a96a3", "#c2570c"
SHARES = ("#fdfdfe", "#e6f0fa", "#cbdff4", "#a9cbed", "#82b3e4")
DEPTHS = ("#f5f6f8", "#ebedf1")  # containers, by turns
BORROWED = 'style="rounded,filled,dashed"'
SKIP_LOOK = f'color="{SKIP}", penwidth=1.6'
DARK = {
    PAGE: "#12161c",
    INK: "#e9eef4",
    FAINT: "#c0cad5",
    RULE: "#6d7986",
    SKIP: "#ff9d57",
    **dict(zip(SHARES, ("#1d232c", "#1c3044", "#1e3d5b", "#204c76", "#235b93"), strict=True)),
    **dict(zip(DEPTHS, ("#181d25", "#20262f"), strict=True)),
}


def write(tree: Tree, folded: Collection[Box]) -> str:
    """The whole picture."""
    drawn = lines(tree, folded)
    text = [header(tree, bool(folded), any(line.skip for line in drawn))]
    text += _boxes(tree, tree.root, folded)
    text += [arrow(tree, line) for line in drawn]
    return "\n".join([*text, "}"]) + "\n"


def _boxes(tree: Tree, parent: Box, folded: Collection[Box]) -> Iterator[str]:
    for box in parent.children:
        if box.role == "container" and box not in folded:
            yield opening(tree, box)
            yield from _boxes(tree, box, folded)
            yield "}"
        else:
            yield node(tree, box)


def header(tree: Tree, folds: bool, skips: bool) -> str:
    """What stands before the boxes: how they look, the title and the legend."""
    return "\n".join(
        [
            f"digraph {_quoted(tree.network.name)} {{",
            f'graph [rankdir=TB, nodesep=0.2, ranksep=0.1, fontname="{FONT}", fontsize=11, fontcolor="{INK}",',
            f'  bgcolor="{PAGE}", pad=0.15, labelloc=t, labeljust=l, label={_label(words.title(tree.network))}]',
            f'node [shape=box, style="rounded,filled", fillcolor="{SHARES[0]}", color="{RULE}", margin="0.07,0.035",',
            f'  height=0, width=0, fontname="{FONT}", fontsize=10, fontcolor="{INK}"]',
            f'edge [color="{RULE}", arrowsize=0.55, fontname="{FONT}", fontsize=8, fontcolor="{FAINT}"]',
            *_legend(tree, folds, skips),
        ]
    )


def _legend(tree: Tree, folds: bool, skips: bool) -> Iterator[str]:
    """A row of samples above the first box, of what colours and lines mean."""
    yield 'subgraph "cluster " {'
    yield f'graph [style="", color="{PAGE}", fontsize=8, fontcolor="{FAINT}", label="share of the parameters\\l"]'
    yield f'node [fontsize=8, fontcolor="{FAINT}"]'
    yield "{ rank=same"
    for colour, meaning in zip(SHARES, words.share_words(), strict=True):
        yield f'{_quoted(f"legend {meaning}")} [label={_quoted(meaning)}, fillcolor="{colour}"]'
    if folds:
        yield '"legend folded" [label=folded, peripheries=2]'
    if tree.lenders:
        yield f'"legend shared" [label="weights of another", {BORROWED}]'
    if skips:
        yield f'"legend skip" [label="→ skip", shape=plain, style="", fontcolor="{SKIP}"]'
    yield "} }"
    middle = _quoted(f"legend {words.share_words()[2]}")
    for box in tree.root.children:
        if box.role == "input":
            yield f"{middle} -> {identity(box)} [style=invis]"


def node(tree: Tree, box: Box) -> str:
    """A box that is not open."""
    network = tree.network
    count = words.parameters(network, box)
    look = f'fillcolor="{SHARES[words.share_step(count, network.parameters())]}"'
    if box.role == "container":
        what = words.kind_words(network, box) or words.layers_words(box)
        label = _label(_row(words.name_words(box), _times(box) + what, count, words.loan(tree, box.path)))
        look += ", peripheries=2"
    elif box.role == "layers":
        names = [words.name_words(box), *map(name_of, box.layers[1:])]
        label = _label(
            *(
                _row(
                    name,
                    _times(box) + words.layer_words(network, path),
                    box.times * network.layer(path)["parameters"],
                    words.loan(tree, path),
                )
                for name, path in zip(names, box.layers, strict=True)
            )
        )
    else:
        label = _quoted(box.path)
        look = f'fillcolor="{DEPTHS[1]}", shape=oval, style=filled'
    look += f", {BORROWED}" if words.borrows(tree, box) else ""
    return f"{identity(box)} [label={label}, tooltip={_quoted(words.account(tree, box))}, {look}]"


def opening(tree: Tree, box: Box) -> str:
    """The beginning of a container that is open."""
    what = (_times(box) + words.kind_words(tree.network, box)).rstrip()
    name, count = words.name_words(box), words.parameters(tree.network, box)
    label = _label(name + _behind(count, words.loan(tree, box.path)), *([what] if what else []))
    style = BORROWED if words.borrows(tree, box) else 'style="rounded,filled"'
    look = f'{style}, color="{RULE}", fillcolor="{DEPTHS[box.level % 2]}", margin=7, fontsize=8'
    tooltip = _quoted(words.account(tree, box))
    return f"subgraph {_quoted('cluster ' + box.path)} {{\ngraph [{look}, tooltip={tooltip}, label={label}]"


def arrow(tree: Tree, line: Line) -> str:
    """An arrow with the shapes of what it carries."""
    label = ", ".join(words.shape_words(tree.network, shape) for shape in line.shapes)
    look = [f"label={_quoted(' ' + label + ' ')}"] if label else []
    look += [SKIP_LOOK] if line.skip else []
    return f"{identity(line.source)} -> {identity(line.target)} [{', '.join(look)}]"


def identity(box: Box) -> str:
    """A box's name in the text. A blank keeps the outputs' apart from the layers'."""
    return _quoted(f"output {box.path}" if box.role == "output" else box.path)


def _times(box: Box) -> str:
    return f"{box.times} × " if box.times > 1 else ""


def _row(name: str, what: str, count: int, loan: str) -> str:
    return words.named(name, what, AFTER_NAME) + _behind(count, loan)


def _behind(count: int, loan: str) -> str:
    """What stands behind a name: the parameters, or whose they are."""
    return BEFORE_COUNT + (words.short(count) if count else loan) if count or loan else ""


def _label(*rows: str) -> str:
    """Rows below one another, each beginning at the left."""
    return _quoted("".join(row + "\n" for row in rows)).replace("\\n", "\\l")


def _quoted(text: str) -> str:
    return f'"{escaped(text)}"'


def escaped(text: str) -> str:
    """Text as it stands in a string of Graphviz's, which reads entities and backslashes there too."""
    plain = html.escape(printable(text), quote=False).replace("\\", "\\\\").replace('"', '\\"')
    return plain.replace("\n", "\\n")


def printable(text: str) -> str:
    """Text without control characters, which neither Graphviz nor XML can hold."""
    return re.sub(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
