"""Features of boxes: pooled from the map, or the maps, that lie under each of them."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Count, Line, Op, PerAxis, Window
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape

Positive = Annotated[float, Argument(gt=0)]


def check_boxes(boxes: TensorType) -> None:
    """Refuses what is no list of boxes for each image.

    Raises:
        ShapeError: the tensor is not N × P × 4.
    """
    if boxes.rank != 3 or boxes.shape[-1] != 4:
        raise ShapeError(
            f"boxes are N × boxes × 4, and {write_shape(boxes.shape)} is read",
            help="name the boxes last: `from: [map, boxes]`; each is left, top, right, bottom",
        )


class RegionPooling(Op):
    """What pooling of boxes has in common: cells of a grid laid over each box.

    In: maps N × C × H × W, and last boxes N × P × 4. Out: N × P × C × height × width.
    """

    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    size: PerAxis

    def cells(self) -> tuple[int, int]:
        """Rows and columns of the grid.

        Raises:
            ShapeError: another number of sizes than two is given.
        """
        if isinstance(self.size, int):
            return self.size, self.size
        if len(self.size) != 2:
            raise ShapeError(
                f"`size` is a list of {len(self.size)}", help="give one number, or [rows, columns]", argument="size"
            )
        return self.size[0], self.size[1]

    def output(self, *inputs: TensorType) -> TensorType:
        *maps, boxes = inputs
        check_boxes(boxes)
        for level in maps:
            need_rank(level, 4, 4, "a map under the boxes")
            if level.shape[1] != maps[0].shape[1]:
                raise ShapeError(
                    f"the levels have {maps[0].shape[1]} and {level.shape[1]} channels, and all go into one tensor",
                    help="bring them to one width first, as a feature pyramid does",
                )
        return maps[0].with_shape(*boxes.shape[:2], maps[0].shape[1], *self.cells())

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        rows, columns = self.cells()
        channels = output.shape[2]
        features = channels * (rows * columns)
        yield Line("features of a box", f"{channels} × {rows} × {columns}", str(features))


class RoiAlign(RegionPooling):
    """Each box as a small map: the mean of `sampling`² points in every cell, interpolated between places of its level.

    In: maps N × C × H × W, finest first, one for each of `strides`, and last boxes N × P × 4 in pixels of the image.
    Out: N × P × C × height × width. The boxes get no gradient. Without `aligned`, coordinates are half a place off and
    a box is at least one place wide, as first published; boxes without area give numbers of no meaning.

    Of several levels, a box is read from ⌊`canonical_level` + log₂(√area/`canonical_size`)⌋, held to those there are;
    the number of a level is log₂ of its stride.
    Source: He et al. 2017, "Mask R-CNN", section 3; for levels Lin et al. 2016, "Feature pyramid networks", equation 1.
    """

    kind: ClassVar[str] = "roi_align"
    most_inputs: ClassVar[int | None] = None

    strides: Annotated[tuple[Count, ...], Argument(min_length=1, max_length=16)]
    sampling: Count = 2
    aligned: bool = False
    canonical_size: Positive = 224.0
    canonical_level: int = 4

    def output(self, *inputs: TensorType) -> TensorType:
        levels = len(inputs) - 1
        if len(self.strides) != levels:
            raise ShapeError(
                f"{len(self.strides)} strides are given for {levels} maps",
                help="read the maps first and the boxes last, and give a stride for each map",
                argument="strides",
            )
        first = self.strides[0]
        doubling = tuple(first << level for level in range(levels))
        if levels > 1 and (self.strides != doubling or first & (first - 1)):
            raise ShapeError(
                f"of strides [{', '.join(map(str, self.strides))}], a box's level can't be told",
                help="strides of levels are powers of two, each twice the one before: [4, 8, 16, 32]",
                argument="strides",
            )
        return super().output(*inputs)

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return self.strides

    def thresholds(self) -> tuple[float, ...]:
        """The areas in square pixels from which on a box belongs to the second level, to the third, and so on.

        A box that is within a millionth of the next level is put there.
        """
        first = self.strides[0].bit_length() - 1
        return tuple(
            (self.canonical_size * 2 ** (first + level - self.canonical_level - 1e-6)) ** 2
            for level in range(1, len(self.strides))
        )

    def without_effect(self, *inputs: TensorType) -> Iterator[tuple[str, str]]:
        if len(self.strides) == 1:
            for name in ("canonical_size", "canonical_level"):
                yield name, "there is one level"

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        yield from super().explain(inputs, output)
        for stride, area in zip(self.strides[1:], self.thresholds(), strict=True):
            yield Line(f"stride {stride} from", "", f"√area = {area**0.5:.5g}")


class RoiPool(RegionPooling):
    """Each box as a small map: the greatest value in every cell, whose borders are rounded to whole places.

    In: a map N × C × H × W of `stride`, and boxes N × P × 4 in pixels of the image. Out: N × P × C × height × width.
    Cell i of a box of L places spans ⌊i·L/size⌋ to ⌈(i + 1)·L/size⌉; one that lies outside the map is 0. The boxes get
    no gradient. Source: Girshick 2015, "Fast R-CNN", section 2.1.
    """

    kind: ClassVar[str] = "roi_pool"

    stride: Count

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return (self.stride,)


class SpatialPyramidPool(Op):
    """A vector of one length for a map of any size: the greatest values of n × n parts, for each n of `levels`.

    In: N × C × H × W. Out: N × C·Σn². The parts are those of `adaptive_maxpool`.
    Source: He et al. 2014, "Spatial pyramid pooling", section 2.2.
    """

    kind: ClassVar[str] = "spatial_pyramid_pool"

    levels: Annotated[tuple[Count, ...], Argument(min_length=1, max_length=16)]

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 4, 4)
        return x.with_shape(x.shape[0], x.shape[1] * sum(n * n for n in self.levels))

    def window(self, *inputs: TensorType) -> Window:
        spatial = inputs[0].spatial
        return Window(spatial, spatial)

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        parts = " + ".join(f"{n}²" for n in self.levels)
        yield Line("features", f"{inputs[0].shape[1]} × ({parts})", str(output.shape[1]))


class FoldBatch(Op):
    """What belongs to the boxes of all images as a batch, for layers that read maps: N × P × … → (N·P) × ….

    In: N × P × C × …. Out: (N·P) × C × …, the boxes of the first image first. `unfold_batch` turns it back.
    """

    kind: ClassVar[str] = "fold_batch"

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3)
        return x.with_shape(x.shape[0] * x.shape[1], *x.shape[2:])

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        yield Line("rows", " × ".join(map(str, inputs[0].shape[:2])), str(output.shape[0]))


class UnfoldBatch(Op):
    """The rows of a batch as the boxes of the images that they belong to: the inverse of `fold_batch`.

    In: (N·P) × …, and a tensor N × P × …, of which only these two sizes count. Out: N × P × ….
    """

    kind: ClassVar[str] = "unfold_batch"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def output(self, *inputs: TensorType) -> TensorType:
        x, like = inputs
        need_rank(x, 2)
        need_rank(like, 2, what="the second")
        rows: Dim = dims.product(like.shape[:2])
        if x.shape[0] != rows:
            raise ShapeError(
                f"{x.shape[0]} rows are not those of {write_shape(like.shape[:2])}",
                help="name what was folded second, as it was before `fold_batch`",
            )
        return x.with_shape(*like.shape[:2], *x.shape[1:])

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED
