"""Arithmetic on tensors: element by element, along axes, and products of matrices."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field as Argument

from netspec import dims
from netspec.dims import Dim
from netspec.ops.base import SCRAMBLED, Line, Op, Window, axis_after_batch
from netspec.ops.merging import Broadcasting, may_agree
from netspec.tensor import ShapeError, TensorType, need_rank, write_shape


class Subtract(Broadcasting):
    """The first tensor less the second, element by element.

    In: two tensors of equal shape, or with sizes of 1 where the other has more. Out: the larger shape.
    """

    kind: ClassVar[str] = "subtract"
    most_inputs: ClassVar[int | None] = 2
    done: ClassVar[str] = "subtracted"


class Divide(Broadcasting):
    """The first tensor over the second, element by element.

    In: two tensors of equal shape, or with sizes of 1 where the other has more. Out: the larger shape.
    """

    kind: ClassVar[str] = "divide"
    most_inputs: ClassVar[int | None] = 2
    done: ClassVar[str] = "divided"


class Maximum(Broadcasting):
    """The greatest of tensors, element by element.

    In: two or more tensors of equal shape, or with sizes of 1 where another has more. Out: the larger shape.
    Source: Goodfellow et al. 2013, "Maxout networks", section 3.
    """

    kind: ClassVar[str] = "maximum"
    done: ClassVar[str] = "compared"


class Minimum(Broadcasting):
    """The least of tensors, element by element.

    In: two or more tensors of equal shape, or with sizes of 1 where another has more. Out: the larger shape.
    """

    kind: ClassVar[str] = "minimum"
    done: ClassVar[str] = "compared"


class Scale(Op):
    """x·factor + shift, with fixed numbers. In and out: any shape."""

    kind: ClassVar[str] = "scale"

    factor: float
    shift: float = 0.0


class Reduction(Op):
    """What ops have in common that make one number of all along some axes, which go unless `keepdim` keeps them as 1.

    In: N × …. Out: the same without `axes`.
    """

    axes: int | Annotated[tuple[int, ...], Argument(min_length=1, max_length=7)]
    keepdim: bool = False

    def reduced(self, x: TensorType) -> tuple[int, ...]:
        """The axes, counted from the front."""
        named = (self.axes,) if isinstance(self.axes, int) else self.axes
        axes = tuple(axis_after_batch(x, axis, "axes") for axis in named)
        if len(set(axes)) < len(axes):
            raise ShapeError("an axis is named twice", help="name each once; -1 is the last", argument="axes")
        return axes

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        axes = self.reduced(x)
        kept: list[Dim] = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        return x.with_shape(*(kept[axis] for axis in range(x.rank) if self.keepdim or axis not in axes))

    def window(self, *inputs: TensorType) -> Window | None:
        (x,) = inputs
        axes = self.reduced(x)
        seen = tuple(size if axis in axes else 1 for axis, size in enumerate(x.spatial, start=2))
        return Window(seen, seen) if max(axes) > 1 else None

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        over = [str(x.shape[axis]) for axis in self.reduced(x)]
        yield Line(
            f"{self.kind} of",
            "×".join(over) if len(over) > 1 else "",
            str(dims.product(x.shape[axis] for axis in self.reduced(x))),
        )


class Mean(Reduction):
    """The mean along axes, which go, or stay with size 1 where `keepdim` says so.

    In: N × …. Out: N × the other axes: `{mean: [2, 3]}` makes N × C of a map N × C × H × W.
    """

    kind: ClassVar[str] = "mean"


class Sum(Reduction):
    """The sum along axes. In and out as `mean`."""

    kind: ClassVar[str] = "sum"


class Max(Reduction):
    """The greatest along axes. In and out as `mean`."""

    kind: ClassVar[str] = "max"


class Min(Reduction):
    """The least along axes. In and out as `mean`."""

    kind: ClassVar[str] = "min"


class Matmul(Op):
    """The product of the matrices in the last two axes, each of the two transposed first where asked for.

    In: N × … × m × k and N × … × k × n; sizes of 1 between are stretched. Out: N × … × m × n.
    Source: Vaswani et al. 2017, "Attention is all you need", equation 1.
    """

    kind: ClassVar[str] = "matmul"
    wiring: ClassVar[bool] = True
    least_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2

    transpose_first: bool = False
    transpose_second: bool = False

    def _matrices(self, a: TensorType, b: TensorType) -> tuple[Dim, Dim, Dim, Dim]:
        """Rows and columns of the first matrix, and of the second, as they are multiplied."""
        m, k = a.shape[:-3:-1] if self.transpose_first else a.shape[-2:]
        rows, n = b.shape[:-3:-1] if self.transpose_second else b.shape[-2:]
        return m, k, rows, n

    def output(self, *inputs: TensorType) -> TensorType:
        a, b = inputs
        need_rank(a, 3, what="the first")
        need_rank(b, 3, what="the second")
        if a.rank != b.rank:
            raise ShapeError(
                f"{write_shape(a.shape)} and {write_shape(b.shape)} have other numbers of axes",
                help="bring both to one rank first, with `reshape`",
                code="rank-mismatch",
            )
        m, k, rows, n = self._matrices(a, b)
        if not may_agree(a.with_shape(k), b.with_shape(rows)):
            raise ShapeError(
                f"{m} × {k} and {rows} × {n} have no product: {k} columns meet {rows} rows",
                help="turn one of them: `transpose_first: true`, `transpose_second: true`",
            )
        between: list[Dim] = []
        for x, y in zip(a.shape[:-2], b.shape[:-2], strict=True):
            if 1 not in (x, y) and not may_agree(a.with_shape(x), b.with_shape(y)):
                raise ShapeError(
                    f"{write_shape(a.shape)} and {write_shape(b.shape)} hold different numbers of matrices",
                    help="the sizes before the last two are equal, or 1",
                )
            between.append(y if x == 1 else x)
        return a.with_shape(*between, m, n)

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        _, k, _, _ = self._matrices(*inputs)
        return dims.product(output.shape[1:]) * k

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        _, k, _, _ = self._matrices(*inputs)
        macs = self.macs(inputs, output)
        formula = "×".join(str(size) for size in (*output.shape[1:], k))
        yield Line("MACs", formula, f"{macs:,}" if isinstance(macs, int) else str(macs))


class ArgMax(Op):
    """The number of the greatest along an axis, which goes: of a map of class scores, the class at each place.

    In: N × …. Out: the same without `axis`, whole numbers from 0; of equals, one of them.
    Source: Long et al. 2015, "Fully convolutional networks", section 4.
    """

    kind: ClassVar[str] = "argmax"

    axis: int = 1

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        axis = axis_after_batch(x, self.axis)
        return TensorType((*x.shape[:axis], *x.shape[axis + 1 :]), "int64")

    def window(self, *inputs: TensorType) -> Window:
        return SCRAMBLED
