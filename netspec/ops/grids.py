"""Heads that predict boxes at every place of a map: what its channels mean, and the boxes that follow from them."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field as Argument

from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Count, Line, Op, Window
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape

Positive = Annotated[float, Argument(gt=0)]
Anchor = Annotated[tuple[Positive, ...], Argument(min_length=2, max_length=2)]


def check_channels(size: Dim, needed: int, worked: str, what: str, layer: str) -> None:
    """Refuses a head's input of other channels than its numbers take.

    Raises:
        ShapeError: with the arithmetic, and the layer that would give them.
    """
    if size != needed:
        raise ShapeError(
            f"{worked} = {needed} {what} are needed, and {size} are read",
            help=f"let the layer before give them: `{{{layer}: {needed}}}`",
        )


class _Grid(Op):
    """What heads on a grid have in common: their results are no maps any more."""

    main: ClassVar[str | None] = "raw"

    def output(self, *inputs: TensorType) -> TensorType:
        return self.parts(*inputs)["raw"]

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED


class Yolo(_Grid):
    """Boxes with their classes at every place of a map, `anchors` of them; these are [width, height] in pixels.

    In: N × A·(5 + C) × h × w, of `stride`. Out: `raw`, N × B × (5 + C) with tx, ty, tw, th, the objectness and C
    classes as they are read; `boxes`, N × B × 4; `scores`, N × B × C. B is h·w·A: row by row, in a place by anchor.

    A box is centred on (σ(tx) + column)·stride, (σ(ty) + row)·stride and is p·eᵗ wide and high, t at most ln(1000/16).
    Its scores are σ(objectness)·σ(class), or with `scores: softmax` σ(objectness)·softmax(classes).
    Source: Redmon & Farhadi 2018, "YOLOv3", section 2.1; with softmax 2016, "YOLO9000", section 2.
    """

    kind: ClassVar[str] = "yolo"

    classes: Count
    anchors: Annotated[tuple[Anchor, ...], Argument(min_length=1, max_length=64)]
    stride: Count
    scores: Literal["sigmoid", "softmax"] = "sigmoid"

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return (self.stride,)

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        (x,) = inputs
        need_rank(x, 4, 4)
        anchors, numbers = len(self.anchors), 5 + self.classes
        check_channels(x.shape[1], anchors * numbers, f"{anchors} × (5 + {self.classes})", "channels", "conv")
        boxes = x.shape[2] * x.shape[3] * anchors
        sizes = {"raw": numbers, "boxes": 4, "scores": self.classes}
        return {name: x.with_shape(x.shape[0], boxes, size) for name, size in sizes.items()}

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        anchors = len(self.anchors)
        yield Line("channels", f"{anchors} × (5 + {self.classes})", str(anchors * (5 + self.classes)))
        yield Line("boxes", f"{write_shape(x.spatial)} × {anchors}", str(output.shape[1]))


class YoloGrid(_Grid):
    """Boxes of a grid's cells, `boxes` in each, that share the cell's class; S is `grid`, B `boxes`, C `classes`.

    In: N × S·S·(B·5 + C), and the image, N × any × H × W, whose size the boxes are parts of. Out: `raw`,
    N × S·S × (B·5 + C), the cells row by row, in each B times x, y, √w, √h, the confidence, and then C classes;
    `boxes`, N × S·S·B × 4; `scores`, N × S·S·B × C, a class's probability times the confidence.

    A box is centred on (column + x)/S of the width and (row + y)/S of the height; w and h are parts of the image.
    Source: Redmon et al. 2015, "You only look once", section 2 and equation 3.
    """

    kind: ClassVar[str] = "yolo_grid"
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    classes: Count
    grid: Count = 7
    boxes: Count = 2

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        x, image = inputs
        need_rank(x, 2, 2)
        need_rank(image, 4, 4, "the image")
        check_channels(x.shape[1], self.total(), self.worked(), "features", "linear")
        cells = self.grid * self.grid
        sizes = {
            "raw": (cells, self.boxes * 5 + self.classes),
            "boxes": (cells * self.boxes, 4),
            "scores": (cells * self.boxes, self.classes),
        }
        return {name: x.with_shape(x.shape[0], *size) for name, size in sizes.items()}

    def total(self) -> int:
        """How many numbers describe an image."""
        return self.grid * self.grid * (self.boxes * 5 + self.classes)

    def worked(self) -> str:
        """How they come about: `7 × 7 × (2·5 + 20)`."""
        return f"{self.grid} × {self.grid} × ({self.boxes}·5 + {self.classes})"

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        yield Line("features", self.worked(), str(self.total()))
        yield Line("boxes", f"{self.grid} × {self.grid} × {self.boxes}", str(self.grid**2 * self.boxes))


class Distances(_Grid):
    """A box at every place of a map, by how far its sides lie from the place's centre: left, top, right, bottom.

    In: N × 4·bins × h × w, of `stride`. Out: `raw`, N × h·w × 4·bins, as they are read; `boxes`, N × h·w × 4.

    The centre of a place is (column + ½, row + ½)·stride. A distance is the mean of 0, 1, …, bins − 1 under the softmax
    of a side's `bins` numbers, times the stride; with one bin it is that number, and 0 where it is negative.
    Source: Li et al. 2020, "Generalized focal loss", equation 5; Tian et al. 2019, "FCOS", section 3.1.
    """

    kind: ClassVar[str] = "distances"

    bins: Count
    stride: Count

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return (self.stride,)

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        (x,) = inputs
        need_rank(x, 4, 4)
        check_channels(x.shape[1], 4 * self.bins, f"4 × {self.bins}", "channels", "conv")
        places = x.shape[2] * x.shape[3]
        return {
            "raw": x.with_shape(x.shape[0], places, 4 * self.bins),
            "boxes": x.with_shape(x.shape[0], places, 4),
        }

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        yield Line("channels", f"4 × {self.bins}", str(4 * self.bins))
        if self.bins > 1:
            reach = (self.bins - 1) * self.stride
            yield Line("farthest", f"({self.bins} − 1) × {self.stride}", f"{reach} pixels")
        yield Line("boxes", write_shape(inputs[0].spatial), str(output.shape[1]))
