"""Ops that make several tensors of one."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import Field as Argument

from netspec.names import is_name
from netspec.ops.base import ANY, Count, Line, Op, axis_after_batch
from netspec.tensor import ShapeError, TensorType, write_shape


class Split(Op):
    """Parts of a tensor along an axis, of equal size or of the `sizes` given; a reader names the one that it means.

    `parts: {split: [query, key, value]}` gives `parts.query`, `parts.key` and `parts.value`.

    In: N × …. Out: for each name, the same with the axis as large as its part.
    """

    kind: ClassVar[str] = "split"
    reads: ClassVar[tuple[str, ...]] = ANY

    names: Annotated[tuple[str, ...], Argument(min_length=1, max_length=4096)]
    sizes: Annotated[tuple[Count, ...], Argument(min_length=1, max_length=4096)] | None = None
    axis: int = 1

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        self.part_sizes(x)
        return x

    def part_sizes(self, x: TensorType) -> tuple[int, ...]:
        """The size of each part.

        Raises:
            ShapeError: the parts don't make up the axis, or a name is none.
        """
        axis = axis_after_batch(x, self.axis, "axis")
        wrong = next((name for name in self.names if not is_name(name)), None)
        if wrong is not None or len(set(self.names)) < len(self.names):
            message = f"`{wrong}` can't name a part" if wrong is not None else "two parts have one name"
            raise ShapeError(message, help="write `split: [left, right]`", code="bad-name", argument="names")
        size = x.shape[axis]
        if not isinstance(size, int):
            message = f"the size of the axis that is split must be known, but is {size}"
            raise ShapeError(message, help="give the input a fixed size there", code="free-dimension", argument="axis")
        if self.sizes is not None and len(self.sizes) != len(self.names):
            raise ShapeError(
                f"{len(self.sizes)} sizes are given for {len(self.names)} parts",
                help="give one size for each name, or leave `sizes` out for equal parts",
                argument="sizes",
            )
        sizes = self.sizes or (size // len(self.names),) * len(self.names)
        if sum(sizes) != size:
            added = " + ".join(map(str, sizes))
            what = f"{added} is not" if self.sizes else f"{len(self.names)} equal parts can't be made of"
            raise ShapeError(
                f"{what} {size}, the size of axis {axis} of {write_shape(x.shape)}",
                help="the sizes of the parts add up to that of the axis",
                argument="sizes" if self.sizes else "names",
            )
        return sizes

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        return self.part_sizes(inputs[0])

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        (x,) = inputs
        axis = axis_after_batch(x, self.axis, "axis")
        return {
            name: x.with_shape(*x.shape[:axis], size, *x.shape[axis + 1 :])
            for name, size in zip(self.names, self.part_sizes(x), strict=True)
        }

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        for name, part in self.parts(*inputs).items():
            yield Line(name, "", write_shape(part.shape))
