"""A picture as text in Mermaid's language, which GitHub and many note-taking programs draw."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

from netspec.drawing import words
from netspec.drawing.dot import DEPTHS, INK, RULE, SHARES, SKIP, printable
from netspec.drawing.folding import lines, shown
from netspec.drawing.tree import Box, Tree, name_of


def write(tree: Tree, folded: Collection[Box]) -> str:
    """The whole picture. Boxes are numbered: their own names may be words of Mermaid's."""
    numbers = {box: f"b{index}" for index, box in enumerate(tree.root.all())}
    drawn = lines(tree, folded)
    text = ["---", f"title: {json.dumps(printable(words.title(tree.network)))}", "---", "flowchart TD"]
    text += _boxes(tree, tree.root, folded, numbers)
    borrowing = [numbers[box] for box in shown(tree.root, folded) if words.borrows(tree, box)]
    if borrowing:
        text += [f"class {','.join(borrowing)} borrowed", "classDef borrowed stroke-dasharray:4 3"]
    for line in drawn:
        label = ", ".join(words.shape_words(tree.network, shape) for shape in line.shapes)
        arrow = "==>" if line.skip else "-->"
        text.append(f"{numbers[line.source]} {arrow}{f'|{_quoted(label)}|' if label else ''} {numbers[line.target]}")
    text += _legend()
    skips = [str(index) for index, line in enumerate(drawn) if line.skip]
    if skips:
        text.append(f"linkStyle {','.join(skips)} stroke:{SKIP}")
    return "\n".join(text) + "\n"


def _boxes(tree: Tree, parent: Box, folded: Collection[Box], numbers: dict[Box, str]) -> Iterator[str]:
    network = tree.network
    for box in parent.children:
        number, times = numbers[box], f"{box.times} × " if box.times > 1 else ""
        name, kind = words.name_words(box), words.kind_words(network, box) if box.role == "container" else ""
        step = words.share_step(words.parameters(network, box), network.parameters())
        loan = f" {words.loan(tree, box.path)}" if box.role == "container" else ""
        if box.role == "container" and box not in folded:
            yield f"subgraph {number}[{_quoted(f'{name} {times}{kind}'.rstrip() + loan)}]"
            yield from _boxes(tree, box, folded, numbers)
            yield "end"
        elif box.role == "container":
            what = f"{name} {times}{kind or words.layers_words(box)}{loan}".rstrip()
            yield f"{number}[[{_quoted(what)}]]:::share{step}"
        elif box.role == "layers":
            names = [name, *map(name_of, box.layers[1:])]
            rows = [
                f"{words.named(name, times + words.layer_words(network, path), ' ')} {words.loan(tree, path)}".rstrip()
                for name, path in zip(names, box.layers, strict=True)
            ]
            yield f"{number}[{'<br/>'.join(map(_escaped, rows)).join(chr(34) * 2)}]:::share{step}"
        else:
            yield f"{number}([{_quoted(name)}]):::edge"


def _legend() -> Iterator[str]:
    yield 'subgraph legend["share of the parameters"]'
    for step, meaning in enumerate(words.share_words()):
        yield f"legend{step}[{_quoted(meaning)}]:::share{step}"
    yield "end"
    for step, colour in enumerate(SHARES):
        yield f"classDef share{step} fill:{colour},stroke:{RULE},color:{INK}"
    yield f"classDef edge fill:{DEPTHS[1]},stroke:{RULE},color:{INK}"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Text as Mermaid shows it: what could be markup is written by its number."""
    return re.sub(r"[^\w ×…./,+-]", lambda found: f"#{ord(found[0])};", printable(text))
