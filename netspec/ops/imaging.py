"""From pixels to a network's input and back: what the served form does around the trained network.

No layer is written so; `deploy.preprocess` says it, and `netspec.deployed` puts it into the graph.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from netspec.dims import Dim, symbol
from netspec.ops.base import SCRAMBLED, Count, Length, Line, Op, Window
from netspec.tensor import TensorType

Fit = Literal["none", "stretch", "letterbox", "shortest"]


class Fitting(Op, written=False):
    """How an image of any size is laid onto the network's input.

    - `none`: as it is.
    - `stretch`: brought to `height` × `width`, whatever that does to its proportions.
    - `letterbox`: scaled by r = min(height/h, width/w) and put in the middle; the rest is `fill`.
    - `shortest`: scaled so that the shorter side is `shortest`, unless the longer would be over `longest`, and filled
      up with zeros below and to the right to a multiple of `multiple`. Source: Girshick 2015, section 3.

    Sizes are worked out in whole numbers, so that they are the same wherever they are: rounded half up in a letterbox,
    down otherwise. Distances between pixels' centres are kept: the pixel i of the new image is at (i + ½)·h/new − ½.

    Attributes:
        height, width: the size of the network's input; 0 where it is free.
        names: of the free dimensions.
    """

    fit: Fit = "stretch"
    height: Length = 0
    width: Length = 0
    shortest: Length = 0
    longest: Length = 0
    multiple: Count = 1
    names: tuple[str, str] = ("H", "W")

    def sizes(self) -> tuple[Dim, Dim]:
        """The height and width of the network's input."""
        height, width = self.names
        return self.height or symbol(height), self.width or symbol(width)

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image of a size is scaled to, before anything is filled up."""
        if self.fit == "none":
            return height, width
        if self.fit == "stretch":
            return self.height, self.width
        if self.fit == "letterbox":
            if self.height * width <= self.width * height:
                return self.height, max(1, (2 * width * self.height + height) // (2 * height))
            return max(1, (2 * height * self.width + width) // (2 * width)), self.width
        least, most = min(height, width), max(height, width)
        to, by = (self.shortest, least) if self.shortest * most <= self.longest * least else (self.longest, most)
        return max(1, height * to // by), max(1, width * to // by)

    def filled(self, height: int, width: int) -> tuple[int, int]:
        """The size that an image, scaled to a size, is filled up to."""
        if self.fit == "shortest":
            by = self.multiple
            return -(-height // by) * by, -(-width // by) * by
        return (self.height, self.width) if self.fit == "letterbox" else (height, width)

    def offset(self, height: int, width: int) -> tuple[int, int]:
        """Where an image, scaled to a size, begins in the network's input: rows above it, columns left of it."""
        if self.fit == "letterbox":
            return (self.height - height) // 2, (self.width - width) // 2
        return 0, 0


class Prepare(Fitting, written=False):
    """An image's pixels as the network's input: laid out by `fit`, then (pixel/255 − mean)/std for each channel.

    In: N × height × width × C of whole numbers from 0 to 255. Out: N × C × H × W. Letterboxes are filled with `fill`,
    a share of white, before it is normalised.
    """

    kind: ClassVar[str] = "prepare"
    reads: ClassVar[tuple[str, ...]] = ("uint8",)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["bilinear", "nearest"] = "bilinear"
    fill: float = 0.5

    def output(self, *inputs: TensorType) -> TensorType:
        batch, height, width, channels = inputs[0].shape
        sizes = (height, width) if self.fit == "none" else self.sizes()
        return TensorType((batch, channels, *sizes))

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        if self.fit == "letterbox":
            yield Line("scale", f"min({self.height}/height, {self.width}/width)", "r")
        if self.fit == "shortest":
            yield Line("scale", f"min({self.shortest}/shorter, {self.longest}/longer)", "r")


class _BesideImage(Fitting, written=False):
    """What reads a result and, for its size, the pixels of the image that it is of."""

    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED


class BoxesOfImage(_BesideImage, written=False):
    """Boxes in pixels of the network's input as boxes in pixels of the image, kept within it.

    In: N × B × 4, and the image's pixels N × height × width × C. Out: N × B × 4. Boxes of zeros stay zeros.
    """

    kind: ClassVar[str] = "boxes_of_image"
    reads: ClassVar[tuple[str, ...]] = ("float32", "uint8")


class BoxesOfInput(_BesideImage, written=False):
    """Boxes in pixels of the image as boxes in pixels of the network's input: `boxes_of_image` undone.

    In: N × B × 4, and the image's pixels N × height × width × C. Out: N × B × 4. Boxes without area stay so.
    """

    kind: ClassVar[str] = "boxes_of_input"
    reads: ClassVar[tuple[str, ...]] = ("float32", "uint8")


class MaskOfImage(_BesideImage, written=False):
    """Class numbers of the network's pixels as class numbers of the image's: each takes that of the nearest one.

    In: N × H × W of whole numbers, and the image's pixels N × height × width × C. Out: N × height × width.
    """

    kind: ClassVar[str] = "mask_of_image"
    reads: ClassVar[tuple[str, ...]] = ("int64", "uint8")

    def output(self, *inputs: TensorType) -> TensorType:
        mask, pixels = inputs
        return TensorType((mask.shape[0], *pixels.shape[1:3]), mask.dtype)
