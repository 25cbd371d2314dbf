"""Pooling over whole maps, and over a fixed number of their parts."""

from collections.abc import Iterator
from typing import ClassVar

from netspec.ops.base import Line, Op, PerAxis, Window, per_axis
from netspec.ops.sliding import AXES
from netspec.tensor import TensorType, need_rank


class _GlobalPool(Op):
    """One value for each channel's whole map."""

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *(1 for _ in x.spatial))

    def window(self, *inputs: TensorType) -> Window:
        spatial = inputs[0].spatial
        return Window(spatial, spatial)


class GlobalAvgPool(_GlobalPool):
    """The mean of each channel's whole map.

    In: N × C × spatial. Out: N × C × 1 for each spatial axis.
    Source: Lin et al. 2013, "Network In Network", section 3.2.
    """

    kind: ClassVar[str] = "global_avgpool"


class GlobalMaxPool(_GlobalPool):
    """The greatest value of each channel's whole map.

    In: N × C × spatial. Out: N × C × 1 for each spatial axis. Source: Oquab et al. 2015, section 3.
    """

    kind: ClassVar[str] = "global_maxpool"


class AdaptivePool(Op):
    """What pooling over parts of the map has in common: part i of an axis spans ⌊i·L/size⌋ to ⌈(i + 1)·L/size⌉.

    In: N × C × spatial (one to three axes). Out: N × C × size.
    """

    size: PerAxis

    def sizes(self, x: TensorType) -> tuple[int, ...]:
        """The output size along each axis."""
        return per_axis(x, "size", self.size)

    def output(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        need_rank(x, 3, 5)
        return x.with_shape(*x.shape[:2], *self.sizes(x))

    def window(self, *inputs: TensorType) -> Window:
        """The widest of the parts, which overlap where the size does not divide the map."""
        (x,) = inputs
        parts = self.sizes(x)
        return Window(
            tuple(-(-length // size) for length, size in zip(x.spatial, parts, strict=True)),
            x.spatial,
            parts,
        )

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        (x,) = inputs
        for name, length, size in zip(AXES[len(x.spatial)], x.spatial, self.sizes(x), strict=True):
            yield Line(name, f"{length} in {size} parts", str(size))


class AdaptiveAvgPool(AdaptivePool):
    """The mean of each of `size` parts of the map: part i of an axis of L spans ⌊i·L/size⌋ to ⌈(i + 1)·L/size⌉.

    In: N × C × spatial (one to three axes). Out: N × C × size. Source: He et al. 2014, "Spatial pyramid pooling",
    section 2.3.
    """

    kind: ClassVar[str] = "adaptive_avgpool"


class AdaptiveMaxPool(AdaptivePool):
    """The greatest value of each of `size` parts of the map, which are those of `adaptive_avgpool`.

    In: N × C × spatial (one to three axes). Out: N × C × size. Source: He et al. 2014, section 2.3.
    """

    kind: ClassVar[str] = "adaptive_maxpool"
