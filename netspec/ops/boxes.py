"""Boxes that a head's numbers lead to, and what of them lies in the image."""

from collections.abc import Iterator
from math import log
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import SCRAMBLED, Line, Op, Window
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape

Positive = Annotated[float, Argument(gt=0)]
FourWeights = Annotated[tuple[Positive, ...], Argument(min_length=4, max_length=4)]


def need_boxes(x: TensorType, what: str, most: int = 3) -> None:
    """Refuses a tensor that is not N × B × 4, or with `most` 4 not that nor N × B × C × 4.

    Raises:
        ShapeError: another shape.
    """
    need_rank(x, 3, most, what)
    if x.shape[-1] != 4:
        raise ShapeError(
            f"{what} are {write_shape(x.shape)}, but a box has 4 numbers: left, top, right, bottom",
            help="read boxes N × B × 4, as `anchors` or `decode_boxes` give them",
        )


class DecodeBoxes(Op):
    """The boxes that a head's numbers make of others, of anchors or proposals: moved, and wider or narrower.

    In: deltas N × B × 4 and boxes N × B × 4; or deltas N × B × C·4 of C classes, each with a box of its own. Out:
    N × B × 4, or N × B × C × 4. The numbers are (x, y, w, h), each divided by its weight of `offset_weights`: x and y
    move the centre by so many widths and heights; w and h, at most `clip`, are logarithms of what the sides grow by.
    Source: Girshick et al. 2014, "R-CNN", appendix C, equations 1 to 4; the clip is that of Detectron, ln(1000/16).
    """

    kind: ClassVar[str] = "decode_boxes"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    offset_weights: FourWeights = (1.0, 1.0, 1.0, 1.0)
    clip: Positive = log(1000 / 16)

    def classes(self, deltas: TensorType) -> int | None:
        """How many boxes there are for each box that is read; None for one."""
        numbers = deltas.shape[2]
        if not isinstance(numbers, int) or numbers % 4:
            raise ShapeError(
                f"{numbers} numbers of a box are not 4 for each of some classes",
                help="read deltas N × B × 4, as `per_box: 4` gives them, or N × B × C·4",
            )
        return numbers // 4 if numbers > 4 else None

    def output(self, *inputs: TensorType) -> TensorType:
        deltas, boxes = inputs
        need_rank(deltas, 3, 3, "the deltas")
        need_boxes(boxes, "the boxes")
        if deltas.shape[1] != boxes.shape[1]:
            raise ShapeError(
                f"{deltas.shape[1]} rows of deltas can't move {boxes.shape[1]} boxes",
                help="the head's levels and channels have to be those that the boxes stand on, in the same order",
            )
        classes = self.classes(deltas)
        return boxes if classes is None else boxes.with_shape(*boxes.shape[:2], classes, 4)

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        if output.rank == 4:
            yield Line("boxes of a row", f"{inputs[0].shape[2]} / 4", str(output.shape[2]))


class ClipBoxes(Op):
    """Boxes cut off at the borders of the image.

    In: boxes N × … × 4, and the image N × any × H × W. Out: the boxes, with x in [0, W] and y in [0, H].
    Source: Ren et al. 2015, "Faster R-CNN", section 3.3.
    """

    kind: ClassVar[str] = "clip_boxes"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def output(self, *inputs: TensorType) -> TensorType:
        boxes, image = inputs
        need_boxes(boxes, "the boxes", 4)
        need_rank(image, 4, 4, "the image")
        return boxes

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED
