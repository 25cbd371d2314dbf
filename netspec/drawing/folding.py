"""Which containers of a picture are folded into one box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from netspec.diagnostics import did_you_mean
from netspec.drawing.tree import Box, Tree
from netspec.tensor import Shape

# What fits on a page: boxes in all, side by side, and points from top to bottom. Fewer than the least say too little.
PAGE_BOXES, PAGE_ABREAST, PAGE_HEIGHT, LEAST_BOXES = 60, 6, 1_300, 8
# Points from top to bottom of an arrow with its box, of a row in a box, and of a frame around boxes.
STEP, ROW, FRAME = 28, 12, 40
MAX_BOXES = 2_000  # more than anyone can look at; their layout takes half a minute


class DrawingError(Exception):
    """Why a picture can't be drawn, and the mend."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message, self.help = message, help


@dataclass(slots=True, eq=False)
class Line:
    """The arrows between two boxes that are shown, as one."""

    source: Box
    target: Box
    shapes: list[Shape]
    skip: bool


def choose(tree: Tree, depth: int | None, fold: Collection[str] = (), unfold: Collection[str] = ()) -> set[Box]:
    """The containers that are folded.

    Args:
        depth: how many levels of containers are open; None for as many as fit on a page.
        fold, unfold: paths of containers that are folded, and that are open with all around them, whatever the depth.

    Raises:
        DrawingError: there is no such container.
    """
    containers = {box.path: box for box in tree.root.all() if box.role == "container"}
    for path in (*fold, *unfold):
        if path not in containers:
            help = did_you_mean(path, containers) or "containers are blocks, `net`s, `branches` and `repeat`s"
            raise DrawingError(f"`{path}` is no container that the picture has", help)
    folded = _to_depth(tree, depth) if depth is not None else _to_page(tree)
    for path in unfold:
        box: Box | None = containers[path]
        while box is not None:
            folded.discard(box)
            box = box.parent
    return folded | {containers[path] for path in fold}


def _to_depth(tree: Tree, depth: int) -> set[Box]:
    return {box for box in tree.root.all() if box.role == "container" and box.level >= depth}


def _to_page(tree: Tree) -> set[Box]:
    """Folded as little as a page allows, a whole level at a time."""
    levels = max((box.level + 1 for box in tree.root.all() if box.role == "container"), default=0)
    best = _to_depth(tree, 0)
    for depth in range(1, levels + 1):
        folded = _to_depth(tree, depth)
        boxes = sum(1 for _ in shown(tree.root, folded))
        few = sum(1 for _ in shown(tree.root, best)) < LEAST_BOXES
        drawn = lines(tree, folded)
        if boxes > PAGE_BOXES or ((_height(drawn) > PAGE_HEIGHT or _abreast(drawn) > PAGE_ABREAST) and not few):
            break
        best = folded
    return best


def shown(box: Box, folded: Collection[Box]) -> Iterator[Box]:
    """The boxes to draw below a box that is open, without the containers that are open."""
    for child in box.children:
        if child.role != "container" or child in folded:
            yield child
        else:
            yield from shown(child, folded)


def lines(tree: Tree, folded: Collection[Box]) -> list[Line]:
    """The arrows between the boxes that are shown. A tensor's shape stands at the first of its lines only."""
    place: dict[Box, Box] = {}
    for box in shown(tree.root, folded):
        place.update(dict.fromkeys((box, *box.all()), box))
    found: dict[tuple[Box, Box], Line] = {}
    told: set[tuple[Box, Shape]] = set()
    for arrow in tree.arrows:
        source, target = place[arrow.source], place[arrow.target]
        if source is target:
            continue
        line = found.setdefault((source, target), Line(source, target, [], True))
        line.skip = line.skip and arrow.skip
        if (source, arrow.shape) not in told:
            told.add((source, arrow.shape))
            line.shapes.append(arrow.shape)
    return list(found.values())


def _height(drawn: Iterable[Line]) -> int:
    """About how many points the longest way takes; lines come in the order of their targets."""
    heights: dict[Box, int] = {}
    for line in drawn:
        source, target = line.source, line.target
        rows = len(target.layers) if target.role == "layers" else 1
        step = STEP + ROW * rows + FRAME * len(_around(target) - _around(source))
        heights[target] = max(heights.get(target, 0), heights.get(source, STEP) + step)
    return max(heights.values(), default=0)


def _abreast(drawn: Iterable[Line]) -> int:
    """How many boxes stand side by side where most do: as many lines behind the first on the longest way."""
    ranks: dict[Box, int] = {}
    for line in drawn:
        ranks[line.target] = max(ranks.get(line.target, 0), ranks.get(line.source, 0) + 1)
    return max(Counter(ranks.values()).values(), default=0)


def _around(box: Box) -> set[Box]:
    """The containers around a box."""
    found = set()
    while box.parent is not None:
        box = box.parent
        found.add(box)
    return found


def check_size(tree: Tree, folded: Collection[Box]) -> None:
    """Refuses a picture that nobody can look at.

    Raises:
        DrawingError: it has too many boxes.
    """
    boxes = sum(1 for _ in shown(tree.root, folded))
    if boxes > MAX_BOXES:
        message = f"the picture would have {boxes:,} boxes, more than {MAX_BOXES:,}"
        raise DrawingError(message, "fold more: a smaller --depth, or --fold with the path of a container")
