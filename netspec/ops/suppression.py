"""Non-maximum suppression: of boxes that overlap, the best one."""

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Count, Line, Op, Window
from netspec.ops.boxes import need_boxes
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape

Overlap = Annotated[float, Argument(ge=0, le=1)]
Side = Annotated[float, Argument(ge=0)]


class Nms(Op):
    """The detections of each image: class by class greedy non-maximum suppression, and the best of what is left.

    In: boxes N × B × 4, or N × B × C × 4 with one for each class; scores N × B × C. Out: `boxes` N × K × 4; `scores`
    N × K, falling; `labels` N × K, classes from 0; `counts` N, how many of the K = `detections` there are, which come
    first: behind them boxes and scores are 0 and labels −1.

    A box counts whose score is above `score` and whose sides are at least `min_size`, the best `candidates` of a class
    where that is given. From the best score down, each is kept that overlaps none kept before by more than `iou`,
    intersection over union. Of equal scores the one that stands first is the better. With `background` the scores'
    first column, and its boxes, are left out. With `agnostic` a box has only its best class, and boxes of all classes
    suppress one another. Source: Girshick et al. 2014, "R-CNN", section 2.2.
    """

    kind: ClassVar[str] = "nms"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    iou: Overlap
    score: float = 0.05
    detections: Count = 100
    candidates: Count | None = None
    background: bool = False
    agnostic: bool = False
    min_size: Side = 0.0

    def output(self, *inputs: TensorType) -> TensorType:
        return self.parts(*inputs)["boxes"]

    def classes(self, scores: TensorType) -> int:
        """The classes that boxes are found of.

        Raises:
            ShapeError: there are none.
        """
        columns = scores.shape[2]
        if not isinstance(columns, int) or columns - self.background < 1:
            left = "one column is the background's" if columns == 1 else f"there are {columns} columns"
            raise ShapeError(
                f"no class is left of scores {write_shape(scores.shape)}: {left}",
                help="leave `background` out, if the scores are of classes only",
                argument="background",
            )
        return columns - self.background

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        boxes, scores = inputs
        need_boxes(boxes, "the boxes", 4)
        need_rank(scores, 3, 3, "the scores")
        self.classes(scores)
        if boxes.shape[1:-1] not in (scores.shape[1:2], scores.shape[1:]):
            raise ShapeError(
                f"scores {write_shape(scores.shape)} are not those of boxes {write_shape(boxes.shape)}",
                help="read boxes N × B × 4, or N × B × C × 4, and scores N × B × C, with the same B and C",
            )
        batch, kept = scores.shape[0], self.detections
        return {
            "boxes": TensorType((batch, kept, 4)),
            "scores": TensorType((batch, kept)),
            "labels": TensorType((batch, kept), "int64"),
            "counts": TensorType((batch,), "int64"),
        }

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        scores = inputs[1]
        boxes, columns, classes = scores.shape[1], scores.shape[2], self.classes(scores)
        if self.background:
            yield Line("classes", f"{columns} − 1 for the background", str(classes))
        if not self.agnostic:
            yield Line("scores", f"{boxes} × {classes}", _count(boxes * classes))
        if self.candidates is not None:
            yield Line("candidates of a class", "", f"{self.candidates:,} at most")
        yield Line("detections of an image", "", f"{self.detections:,} at most")


class Proposals(Op):
    """The boxes of each image that are most likely an object: candidates level by level, suppressed, the best of all.

    In: for L levels, first the objectness of each, N × B × 1, or × 2 for background and object; then the boxes of
    each, N × B × 4, or those of all in one tensor, level by level. Out: N × `count` × 4, best first; behind the last
    one boxes are 0, which have no area and count for nothing. In training there are `training` of them, and as many
    candidates.

    Of the best `candidates` of each level, those whose sides are at least `min_size` are taken from the best one down
    if they overlap none taken before on their level by more than `iou`. The boxes get no gradient.
    Source: Ren et al. 2015, "Faster R-CNN", section 3.3; for levels Lin et al. 2016, "Feature pyramid networks",
    section 4.1.
    """

    kind: ClassVar[str] = "proposals"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = None

    count: Count = 1000
    candidates: Count = 1000
    iou: Overlap = 0.7
    min_size: Side = 1e-3
    training: Count = 2000

    def levels(self, *inputs: TensorType) -> int:
        """How many levels the inputs are of.

        Raises:
            ShapeError: they are not the objectness and the boxes of some.
        """
        levels = next((count for count, x in enumerate(inputs) if x.shape[-1] == 4), len(inputs))
        if levels == 0 or len(inputs) - levels not in (1, levels):
            raise ShapeError(
                f"{levels} tensors of objectness and {len(inputs) - levels} of boxes are read",
                help="read the objectness of every level, then the boxes of every level, or of all in one tensor",
            )
        return levels

    def output(self, *inputs: TensorType) -> TensorType:
        levels = self.levels(*inputs)
        for x in inputs[:levels]:
            need_rank(x, 3, 3, "the objectness")
            if x.shape[2] not in (1, 2):
                raise ShapeError(
                    f"objectness is one number for each box, or two, and {x.shape[2]} are read",
                    help="read `per_box: 1` of every level, or `per_box: 2` with background and object",
                )
        for x in inputs[levels:]:
            need_boxes(x, "the boxes")
        marks, boxes = ([x.shape[1] for x in part] for part in (inputs[:levels], inputs[levels:]))
        if (marks if len(boxes) == levels else [add_up(marks)]) != boxes:
            raise ShapeError(
                f"objectness of {' + '.join(map(str, marks))} boxes is not that of {' + '.join(map(str, boxes))}",
                help="read the levels of both in the same order",
            )
        return TensorType((inputs[0].shape[0], self.count, 4))

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        boxes = [x.shape[1] for x in inputs[: self.levels(*inputs)]]
        kept = [min(size, self.candidates) if isinstance(size, int) else self.candidates for size in boxes]
        worked = " + ".join(_count(size) for size in kept) if len(kept) > 1 else ""
        yield Line("candidates", worked, _count(sum(kept)))
        yield Line("proposals", "", f"{self.count:,} at most, {self.training:,} in training")


def add_up(sizes: Iterable[Dim]) -> Dim:
    """The sum of sizes."""
    total: Dim = 0
    for size in sizes:
        total = total + size
    return total


def _count(number: Dim) -> str:
    return f"{number:,}" if isinstance(number, int) else str(number)
