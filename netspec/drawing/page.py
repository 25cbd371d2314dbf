"""A picture as one HTML page that folds: nothing is fetched, and no word of the spec can run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Collection
from importlib.resources import files
from string import Template
from typing import Any

from netspec.drawing import dot, render, words
from netspec.drawing.folding import MAX_BOXES, DrawingError
from netspec.drawing.tree import Box, Tree

MOST_BOXES = 10 * MAX_BOXES  # folded ones too: they are all in the page


def write(tree: Tree, folded: Collection[Box]) -> str:
    """The page, with the picture folded as given at first.

    Raises:
        DrawingError: what does the layout is not installed, or the network is too large for a page.
    """
    boxes = sum(1 for _ in tree.root.all())
    if boxes > MOST_BOXES:
        message = f"the page would have {boxes:,} boxes, more than {MOST_BOXES:,}, folded ones included"
        raise DrawingError(message, "the other formats hold only what they show")
    script = "\n" + _file("compose.js") + _file("page.js")
    return Template(_file("page.html")).substitute(
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=html.escape(dot.printable(words.title(tree.network))),
        style=_file("page.css") + render.style(),
        picture=render.svg(dot.write(tree, folded)),
        kit=json.dumps(kit(tree, folded), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        graphviz=base64.b64encode(gzip.compress(render.layout_program(), mtime=0)).decode(),
        script=script,
    )


def kit(tree: Tree, folded: Collection[Box]) -> dict[str, Any]:
    """What the page puts together anew for every way of folding: boxes open and shut, and all arrows."""
    numbers = {box: index for index, box in enumerate(tree.root.all())}
    return {
        "header": dot.header(tree, True, any(arrow.skip for arrow in tree.arrows)),
        "top": [numbers[box] for box in tree.root.children],
        "boxes": [
            {
                "name": dot.printable(box.path),
                "frame": f"cluster {dot.printable(box.path)}",
                "identity": dot.identity(box),
                "parent": numbers.get(box.parent) if box.parent else None,
                "children": [numbers[child] for child in box.children],
                "level": box.level,
                "shut": dot.node(tree, box),
                "open": dot.opening(tree, box) if box.role == "container" else None,
            }
            for box in numbers
        ],
        "arrows": [
            [numbers[a.source], numbers[a.target], dot.escaped(words.shape_words(tree.network, a.shape)), a.skip]
            for a in tree.arrows
        ],
        "skip": dot.SKIP_LOOK,
        "folded": [numbers[box] for box in numbers if box in folded],
        "touches": [[pattern, replacement.replace("\\", "$")] for pattern, replacement in render.TOUCHES],
        "most": MAX_BOXES,
    }


def _file(name: str) -> str:
    return (files("netspec.drawing") / name).read_text(encoding="utf-8")
