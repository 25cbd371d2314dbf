"""What the checks know of a tensor before it exists."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, inf, lcm
from typing import NamedTuple

from netspec import dims
from netspec.dims import Dim, Sym

Shape = tuple[Dim, ...]


class TensorType(NamedTuple):
    """Shape and element type of a tensor. Dimension 0 is the batch, dimension 1 the channels or features."""

    shape: Shape
    dtype: str = "float32"

    @property
    def spatial(self) -> Shape:
        """The dimensions after the channels: (H, W) of an image."""
        return self.shape[2:]

    @property
    def rank(self) -> int:
        return len(self.shape)

    def with_shape(self, *shape: Dim) -> TensorType:
        return TensorType(shape, self.dtype)


class Field(NamedTuple):
    """The receptive field of a unit along each spatial axis, and how far the next unit's lies.

    Both are counted in `parts` of an input pixel, so that they stay exact where units lie closer than pixels: after
    upsampling by 2, neighbours are half a pixel apart.
    Source: Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks", equations 2 and 3.
    """

    extent: tuple[Dim, ...]
    jump: tuple[Dim, ...]
    parts: int = 1

    @property
    def size(self) -> tuple[Dim, ...]:
        """The receptive field in whole pixels, along each axis."""
        return tuple(-(-extent // self.parts) for extent in self.extent)

    def reduced(self) -> Field:
        """The same field in as few parts as will do."""
        by = gcd(self.parts, *(_content(value) for value in (*self.extent, *self.jump)))
        return Field(tuple(r // by for r in self.extent), tuple(j // by for j in self.jump), self.parts // by)

    def in_parts(self, parts: int) -> Field:
        """The same field with `parts`, a multiple of its own."""
        times = parts // self.parts
        return Field(tuple(r * times for r in self.extent), tuple(j * times for j in self.jump), parts)


def merge_fields(fields: list[Field | None]) -> Field | None:
    """The receptive field of a unit that reads several tensors: along each axis the largest, at the smallest jump.

    A size that depends on a free dimension is a whole map's, and counts as the larger.
    """
    known = [field for field in fields if field is not None]
    if len(known) < 2 or len({len(field.extent) for field in known}) > 1:
        return known[0] if known else None
    parts = lcm(*(field.parts for field in known))
    known = [field.in_parts(parts) for field in known]
    extents = zip(*(field.extent for field in known), strict=True)
    jumps = zip(*(field.jump for field in known), strict=True)
    return Field(
        tuple(max(axis, key=_extent) for axis in extents), tuple(min(axis, key=_extent) for axis in jumps), parts
    ).reduced()


def _content(dim: Dim) -> int:
    """The greatest number that divides a dimension whatever its free names are."""
    return dim if isinstance(dim, int) else gcd(*(coefficient for _, coefficient in dim.terms))


def _extent(dim: Dim) -> float:
    return dim if isinstance(dim, int) else inf


class Weight(NamedTuple):
    """A tensor that an op owns. A parameter is trained; a buffer (a running mean) is kept but not trained."""

    shape: tuple[int, ...]
    kind: str = "parameter"

    @property
    def size(self) -> int:
        total = 1
        for size in self.shape:
            total *= size
        return total


class ShapeError(Exception):
    """Why an op can't take its inputs.

    Attributes:
        message: one sentence with the sizes that clash.
        help: the mend.
        code: the diagnostic's code.
        argument: the op's argument at fault, where it is one rather than an input.
        notes: facts that explain it.
    """

    def __init__(
        self,
        message: str,
        help: str = "",
        code: str = "shape-mismatch",
        argument: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message, self.help, self.code, self.argument, self.notes = message, help, code, argument, notes


def write_shape(shape: Shape, sizes: Mapping[str, int] | None = None) -> str:
    """A shape as people write it, `N × 64 × 56 × 56`, with free dimensions replaced by `sizes` where given."""
    found = [dims.evaluate(dim, sizes) if sizes else dim for dim in shape]
    return " × ".join(f"({dim})" if isinstance(dim, Sym) and len(dim.terms) > 1 else str(dim) for dim in found)


def need_rank(tensor: TensorType, least: int, most: int | None = None, what: str = "the input") -> None:
    """Refuses a tensor with too few or too many dimensions.

    Raises:
        ShapeError: the rank is outside [least, most].
    """
    if tensor.rank < least or (most is not None and tensor.rank > most):
        wanted = str(least) if most == least else f"{least} to {most}" if most else f"at least {least}"
        raise ShapeError(
            f"{what} has {tensor.rank} dimensions ({write_shape(tensor.shape)}), {wanted} are needed",
            help="put a `flatten` before it" if most is not None and tensor.rank > most else "read an earlier layer",
            code="rank-mismatch",
        )


def need_known(dim: Dim, what: str, help: str) -> int:
    """A dimension that has to be a number, because weights are sized by it.

    Raises:
        ShapeError: it depends on a free dimension.
    """
    if isinstance(dim, int):
        return dim
    raise ShapeError(f"{what} must be known to size the weights, but is {dim}", help=help, code="free-dimension")
