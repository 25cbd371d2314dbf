"""What a network needs of its free dimensions: the least size, and what it must be a multiple of.

Found by trying: the shape rules of the distinct layers are worked out for sizes of one dimension at a time, the others
staying as they are. So the answer is the layers' own, also for ops of other packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netspec import dims
from netspec.dims import Dim, Sym
from netspec.network import Network
from netspec.ops.base import Op, Part
from netspec.tensor import Shape, ShapeError, TensorType

PERIOD = 192  # sizes are told apart by their remainders of this: powers of two up to 64, and their threefold
PROBES = (1, 2, 3, 7, 17, 95)  # where all of these work, all sizes do


@dataclass(slots=True, eq=False)
class Requirement:
    """What is needed of one free dimension.

    Attributes:
        name: of the dimension.
        least: the smallest size of those `step` apart that works.
        step: all sizes so far apart from `least` on work; 1 where every size does.
        also: what other sizes that work leave when divided by `step`.
        equal: the dimensions that it has to be equal to.
        layer: the layer that refuses the sizes between; else the one that refuses smaller sizes; None where none does.
    """

    name: str
    least: int
    step: int = 1
    equal: tuple[str, ...] = ()
    layer: str | None = None
    also: tuple[int, ...] = ()

    def __str__(self) -> str:
        at = f" (`{self.layer}`)" if self.layer else ""
        if self.equal:
            same = " and ".join(f"`{name}`" for name in (self.name, *self.equal))
            return f"{same} are equal{at}"
        if self.step == 1:
            return f"`{self.name}` is at least {self.least}{at}"
        if self.least % self.step == 0:
            more = f", at least {self.least}" if self.least > self.step else ""
            others = f", or leaves {_listed(self.also)}" if self.also else ""
            return f"`{self.name}` is a multiple of {self.step}{others}{more}{at}"
        return f"`{self.name}` is {self.least}, or larger by a multiple of {self.step}{at}"


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers in words: `3`, `3 or 5`, `25 to 31`."""
    if len(numbers) > 2 and numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return " or ".join(map(str, numbers))


class _Layers:
    """The layers with a free dimension, each kind of them once, and which of them refuses a size."""

    def __init__(self, network: Network) -> None:
        found: dict[tuple[Op, tuple[TensorType, ...]], tuple[str, Shape]] = {}
        for path, layer in network.layers():
            op = layer["op"]
            if op is not None and not isinstance(op, Part):
                types = tuple(network.layer(node)["output"] for node in layer["inputs"])
                if any(isinstance(dim, Sym) for tensor in types for dim in tensor.shape[1:]):
                    found.setdefault((op, types), (path, layer["output"].shape))
        self.layers = [(op, types, path, shape) for (op, types), (path, shape) in found.items()]
        self.sizes = network.own_sizes or network.sizes

    def refusing(self, asked: dict[str, int]) -> str | None:
        """The first layer that can't be at the sizes that are asked for."""
        sizes = self.sizes | asked
        known: dict[Dim, Dim] = {}

        def value(dim: Dim) -> Dim:
            if isinstance(dim, int):
                return dim
            if dim not in known:
                known[dim] = dims.evaluate(dim, sizes)
            return known[dim]

        for op, types, path, shape in self.layers:
            try:
                op.output(*(TensorType(tuple(value(dim) for dim in tensor.shape), tensor.dtype) for tensor in types))
            except ShapeError:
                return path
            if any(isinstance(size, int) and size < 1 for size in map(value, shape)):
                return path
        return None


def requirements(network: Network) -> list[Requirement]:
    """What the network needs of each free dimension but the batch, where it needs more than one place."""
    layers = _Layers(network)
    free: dict[str, None] = {}
    for name in network.inputs:
        for dim in network.layer(name)["output"].shape[1:]:
            free |= dict.fromkeys(sorted(dims.symbols(dim)))
    found: list[Requirement] = []
    for name in free:
        if any(name in requirement.equal for requirement in found):
            continue
        requirement = _of_one(layers, (name,)) or _together(layers, name, free)
        if requirement is not None and (requirement.least > 1 or requirement.equal):
            found.append(requirement)
    return found


def _together(layers: _Layers, name: str, free: dict[str, None]) -> Requirement | None:
    """Where no size of one dimension works by itself: the others that have to be equal to it."""
    for other in free:
        if other != name:
            found = _of_one(layers, (name, other))
            if found is not None:
                size = found.least + (PERIOD // found.step) * found.step
                where = layers.refusing({name: size, other: size + found.step})
                return Requirement(name, found.least, found.step, (other,), where)
    return None


def _of_one(layers: _Layers, names: tuple[str, ...]) -> Requirement | None:
    """What is needed of dimensions that change together; None where hardly a size works."""

    def refusing(size: int) -> str | None:
        return layers.refusing(dict.fromkeys(names, size))

    nominal = max([layers.sizes.get(name, 1) for name in names])
    base = PERIOD * (max(nominal, 512) // PERIOD + 1)
    step, offset, layer = 1, 0, None
    also: tuple[int, ...] = ()
    for probe in PROBES:
        layer = layer or refusing(base + probe)
    if layer is not None or refusing(base) is not None:
        works = [refusing(base + r) is None for r in range(PERIOD)]
        step = next((s for s in _divisors() if works == (works[:s] * (PERIOD // s))), PERIOD)
        if True not in works[:step] or step == PERIOD:
            return None
        offset = works[:step].index(True)
        also = tuple(r for r in range(offset + 1, step) if works[r])
    low, high, top = -1, 0, base // step  # offset + step·low fails, offset + step·top works
    while high < top and (offset + step * high < 1 or refusing(offset + step * high) is not None):
        low, high = high, min(2 * high + 1, top)  # most networks need little
    while high - low > 1:
        middle = (low + high) // 2
        if refusing(offset + step * middle) is None:
            high = middle
        else:
            low = middle
    least = offset + step * high
    if layer is None and least > 1:
        layer = refusing(least - 1)
    return Requirement(names[0], least, step, layer=layer, also=also)


def _divisors() -> Iterator[int]:
    return (step for step in range(2, PERIOD + 1) if PERIOD % step == 0)
