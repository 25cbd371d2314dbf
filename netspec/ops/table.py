"""Tables of numbers: looked up, trained as they stand, or fixed."""

from math import prod
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec.ops.base import ANY, INTEGERS, SCRAMBLED, Count, Length, Op, Window
from netspec.tensor import ShapeError, TensorType, Weight, need_rank

Shape = Annotated[tuple[Count, ...], Argument(min_length=1, max_length=7)]


class Embedding(Op):
    """A trained vector for each of `entries` words, looked up by number; that of `padding` stays zero.

    In: N × … of whole numbers from 0 to entries − 1. Out: N × … × features. Source: Bengio et al. 2003, section 2.
    """

    kind: ClassVar[str] = "embedding"
    reads: ClassVar[tuple[str, ...]] = INTEGERS

    entries: Count
    features: Count
    padding: Length | None = None

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 1, 7)
        if self.padding is not None and self.padding >= self.entries:
            raise ShapeError(
                f"`padding` names entry {self.padding} of {self.entries}",
                help=f"entries run from 0 to {self.entries - 1}",
                argument="padding",
            )
        return TensorType((*x.shape, self.features))

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        return {"weight": Weight((self.entries, self.features))}

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED


class Parameter(Op):
    """A trained tensor, the same for every sample: a class token, a position embedding, a scale for each channel.

    In: any shape, of which only the number of samples counts. Out: N × `shape`. Training starts from a normal
    distribution around `mean`, or from `mean` itself where `std` is 0. Its key in the state-dict is the layer's path.
    Source: Dosovitskiy et al. 2020, "An image is worth 16×16 words", equation 1.
    """

    kind: ClassVar[str] = "parameter"
    reads: ClassVar[tuple[str, ...]] = ANY

    shape: Shape
    mean: float = 0.0
    std: Annotated[float, Argument(ge=0)] = 0.02

    def output(self, *inputs: TensorType) -> TensorType:
        return TensorType((inputs[0].shape[0], *self.shape))

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        return {"": Weight(self.shape)}

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED


class Constant(Op):
    """Fixed numbers, the same for every sample: in row-major order, or one number all over.

    In: any shape, of which only the number of samples counts. Out: N × `shape`, a vector where none is given.
    """

    kind: ClassVar[str] = "constant"
    reads: ClassVar[tuple[str, ...]] = ANY

    values: float | Annotated[tuple[float, ...], Argument(min_length=1)]
    shape: Shape | None = None

    def numbers(self) -> tuple[float, ...]:
        """The values that are written: one, or as many as the shape has."""
        return self.values if isinstance(self.values, tuple) else (self.values,)

    def sizes(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return self.shape or (len(self.numbers()),)

    def output(self, *inputs: TensorType) -> TensorType:
        count, places = len(self.numbers()), prod(self.sizes())
        if count not in (1, places):
            raise ShapeError(
                f"{count} numbers can't fill {' × '.join(str(size) for size in self.sizes())} places",
                help=f"give {places}, or one for all",
                argument="shape",
            )
        return TensorType((inputs[0].shape[0], *self.sizes()))

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED
