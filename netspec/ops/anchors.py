"""Boxes that stand at every place of a map, and what a head predicts for each of them."""

from abc import abstractmethod
from collections.abc import Iterator
from math import sqrt
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field as Argument

from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Count, Line, Op, Window
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape

Positive = Annotated[float, Argument(gt=0)]
Sizes = Positive | Annotated[tuple[Positive, ...], Argument(min_length=1, max_length=64)]
Ratios = Annotated[tuple[Positive, ...], Argument(max_length=64)]
Strides = Annotated[tuple[Count, ...], Argument(min_length=1, max_length=16)]


class Cell(NamedTuple):
    """One box of a place: its corners before it is moved there, as `offset` + `part`·(width, height) of the image.

    The corners are left, top, right, bottom, in pixels from the top left of the first place.
    """

    offset: tuple[float, float, float, float]
    part: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class _AtEveryPlace(Op):
    """Boxes that repeat at every place of each level: shifted by (x·stride, y·stride)."""

    most_inputs: ClassVar[int | None] = None

    @abstractmethod
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        """The boxes of a place, for each level."""

    def levels(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        """The maps at whose places boxes stand."""
        return inputs

    def check_levels(self, *inputs: TensorType, **per_level: int) -> None:
        """Refuses maps that are none, and arguments that list another number of levels than are read.

        Raises:
            ShapeError: one of them.
        """
        for x in inputs:
            need_rank(x, 4, 4, "a level")
        levels = len(self.levels(*inputs))
        for name, count in {"strides": len(self.strides_read()), **per_level}.items():
            if count != levels:
                raise ShapeError(
                    f"`{name}` is for {count} level{'s' if count != 1 else ''}, and {levels} are read",
                    help=f"give one entry for each level that is read: {levels}",
                    argument=name,
                )

    def output(self, *inputs: TensorType) -> TensorType:
        boxes: Dim = 0
        for x, cells in zip(self.levels(*inputs), self.cells(), strict=True):
            boxes = boxes + x.shape[2] * x.shape[3] * len(cells)
        return TensorType((inputs[0].shape[0], boxes, 4))

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        levels, cells = self.levels(*inputs), self.cells()
        yield from self.explain_cells()
        counts = []
        for stride, x, here in zip(self.strides_read(), levels, cells, strict=True):
            boxes = x.shape[2] * x.shape[3] * len(here)
            counts.append(_count(boxes))
            yield Line(f"boxes at stride {stride}", f"{write_shape(x.spatial)} × {len(here)}", counts[-1])
        if len(counts) > 1:
            yield Line("boxes", " + ".join(counts), _count(output.shape[1]))

    def explain_cells(self) -> Iterator[Line]:
        """How many boxes a place has."""
        return iter(())


class Anchors(_AtEveryPlace):
    """Boxes of some `sizes` and `ratios` (height over width) around every place of one map, or of several levels.

    In: maps N × any × h × w, one for each of `strides`. Out: N × B × 4, left, top, right, bottom in pixels of the
    image: level by level, in a level row by row, in a place ratio by ratio and within by size. `sizes` has an entry for
    each level: the side of a square of the same area, or a list of them. A box is size·√(1/ratio) wide and size·√ratio
    high, centred on (column·stride, row·stride); with `rounded` its corners are rounded to whole pixels before.
    Source: Ren et al. 2015, "Faster R-CNN", section 3.1.1.
    """

    kind: ClassVar[str] = "anchors"

    sizes: Annotated[tuple[Sizes, ...], Argument(min_length=1, max_length=16)]
    strides: Strides
    ratios: Annotated[tuple[Positive, ...], Argument(min_length=1, max_length=64)] = (0.5, 1.0, 2.0)
    rounded: bool = True

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return self.strides

    def of_level(self) -> tuple[tuple[float, ...], ...]:
        """The sizes of each level."""
        return tuple(sizes if isinstance(sizes, tuple) else (sizes,) for sizes in self.sizes)

    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        return tuple(
            tuple(self._cell(size, ratio) for ratio in self.ratios for size in sizes) for sizes in self.of_level()
        )

    def _cell(self, size: float, ratio: float) -> Cell:
        x, y = size / sqrt(ratio) / 2, size * sqrt(ratio) / 2
        if self.rounded:
            x, y = float(round(x)), float(round(y))
        return Cell((-x, -y, x, y))

    def output(self, *inputs: TensorType) -> TensorType:
        self.check_levels(*inputs, sizes=len(self.sizes))
        return super().output(*inputs)

    def explain_cells(self) -> Iterator[Line]:
        ratios = len(self.ratios)
        counts = dict.fromkeys(len(sizes) for sizes in self.of_level())
        for count in counts:
            word, other = ("size" if count == 1 else "sizes"), ("ratio" if ratios == 1 else "ratios")
            yield Line("anchors of a place", f"{count} {word} × {ratios} {other}", str(count * ratios))


class DefaultBoxes(_AtEveryPlace):
    """SSD's boxes at every place of its levels, of `scales` that are parts of the image's sides.

    In: maps N × any × h × w, one for each of `strides`, and last the image. Out: N × B × 4, left, top, right, bottom
    in pixels of the image: level by level, row by row. `scales` has one entry more than there are levels, s. In level k
    a place has the squares of s[k] and √(s[k]·s[k + 1]), and for each of its `ratios` r two boxes of s[k]·√r by
    s[k]/√r, lying and standing. Centres are (column + ½)·stride, (row + ½)·stride; no side is longer than the image's.
    Source: Liu et al. 2016, "SSD", section 2.2.
    """

    kind: ClassVar[str] = "default_boxes"
    least_inputs: ClassVar[int] = 2

    scales: Annotated[tuple[Positive, ...], Argument(min_length=2, max_length=17)]
    ratios: Annotated[tuple[Ratios, ...], Argument(min_length=1, max_length=16)]
    strides: Strides

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        return self.strides

    def levels(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return inputs[:-1]

    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        return tuple(
            tuple(_part_of_image(stride, *sides) for sides in self._sides(level))
            for level, stride in enumerate(self.strides)
        )

    def _sides(self, level: int) -> Iterator[tuple[float, float]]:
        """Width and height of the boxes of a place, as parts of the image's."""
        scale = self.scales[level]
        between = sqrt(scale * self.scales[level + 1])
        yield scale, scale
        yield between, between
        for ratio in self.ratios[level]:
            long, short = scale * sqrt(ratio), scale / sqrt(ratio)
            yield long, short
            yield short, long

    def output(self, *inputs: TensorType) -> TensorType:
        self.check_levels(*inputs, ratios=len(self.ratios), scales=len(self.scales) - 1)
        return super().output(*inputs)

    def explain_cells(self) -> Iterator[Line]:
        for count in dict.fromkeys(len(ratios) for ratios in self.ratios):
            ratios = "1 ratio" if count == 1 else f"{count} ratios"
            yield Line("boxes of a place", f"2 squares + 2 × {ratios}", str(2 + 2 * count))


class PerBox(Op):
    """What heads predict at every place, as a row of `numbers` for each box, in the order of the boxes.

    In: maps N × A·numbers × h × w, one for each level, whose channels are the boxes of a place and within the numbers
    of each. Out: N × B × numbers: level by level, row by row, in a place by box. B is the sum of h·w·A.
    """

    kind: ClassVar[str] = "per_box"
    most_inputs: ClassVar[int | None] = None

    numbers: Count

    def of_place(self, x: TensorType) -> int:
        """How many boxes a place of a level has.

        Raises:
            ShapeError: its channels are no multiple of `numbers`.
        """
        channels = x.shape[1]
        if not isinstance(channels, int) or channels % self.numbers:
            raise ShapeError(
                f"{channels} channels can't be shared out among boxes of {self.numbers} numbers each",
                help=f"the head's channels are the boxes of a place times {self.numbers}",
                argument="numbers",
            )
        return channels // self.numbers

    def output(self, *inputs: TensorType) -> TensorType:
        boxes: Dim = 0
        for x in inputs:
            need_rank(x, 4, 4, "a level")
            boxes = boxes + x.shape[2] * x.shape[3] * self.of_place(x)
        return TensorType((inputs[0].shape[0], boxes, self.numbers))

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        for channels, boxes in dict.fromkeys((x.shape[1], self.of_place(x)) for x in inputs):
            yield Line("boxes of a place", f"{channels} / {self.numbers}", str(boxes))
        counts = [_count(x.shape[2] * x.shape[3] * self.of_place(x)) for x in inputs]
        for x, count in zip(inputs, counts, strict=True):
            yield Line("boxes of a level", f"{write_shape(x.spatial)} × {self.of_place(x)}", count)
        if len(counts) > 1:
            yield Line("boxes", " + ".join(counts), _count(output.shape[1]))


def _part_of_image(stride: int, width: float, height: float) -> Cell:
    """A box around the middle of a place whose sides are parts of the image's, at most all of it."""
    x, y = min(width, 1.0) / 2, min(height, 1.0) / 2
    return Cell((stride / 2,) * 4, (-x, -y, x, y))


def _count(boxes: Dim) -> str:
    return f"{boxes:,}" if isinstance(boxes, int) else str(boxes)
