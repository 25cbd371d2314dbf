"""What an op is: its arguments, its shape rule, the weights it owns, its costs, and its arithmetic spelled out.

An op is a subclass of `Op` in one of this package's modules; being defined is being registered. Its fields are its
arguments, the first one being the primary argument (`conv: 64` sets `channels`). Everything is a pure function of the
arguments and the input types, so results are shared between equal layers.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

from netspec.dims import Dim
from netspec.tensor import Field, TensorType, Weight

Count = Annotated[int, Argument(ge=1, le=2**31 - 1)]
Length = Annotated[int, Argument(ge=0, le=2**31 - 1)]
Probability = Annotated[float, Argument(ge=0, lt=1)]
PerAxis = Count | Annotated[tuple[Count, ...], Argument(min_length=1, max_length=3)]
LengthPerAxis = Length | Annotated[tuple[Length, ...], Argument(min_length=1, max_length=3)]


class Line(NamedTuple):
    """One line of worked arithmetic: what is worked out, the formula with its numbers, the result."""

    what: str
    formula: str
    result: str

    def __str__(self) -> str:
        return f"{self.formula} = {self.result}" if self.formula else self.result


@dataclass(slots=True, eq=False)
class Window:
    """What one output unit sees of its input along each spatial axis: kernel extent and stride."""

    extent: tuple[Dim, ...]
    stride: tuple[Dim, ...]


# Apart from the class: a hint that names `Op` would be evaluated anew for every op.
_registry: "dict[str, type[Op]]" = {}


class Op(BaseModel):
    """One operation of the language. Subclasses document tensor shapes in and out, and their source.

    A subclass that no layer names, being made by the elaboration only, is declared with `written=False`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    kind: ClassVar[str] = ""
    wiring: ClassVar[bool] = False  # the kind's own value names the layers that are read: `add: [a, b]`
    weighted: ClassVar[bool] = False  # counts as a layer where people count a network's depth
    least_inputs: ClassVar[int] = 1
    most_inputs: ClassVar[int | None] = 1  # 0 for an op that makes a tensor out of nothing
    main: ClassVar[str | None] = None  # of several results, the one that the layer's name alone stands for

    def __init_subclass__(cls, written: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.kind and written:
            other = _registry.setdefault(cls.kind, cls)
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"two ops are called {cls.kind!r}: {other.__module__} and {cls.__module__}")

    @classmethod
    def primary(cls) -> str | None:
        """The argument that the kind's own value sets; None for an op without one."""
        return None if cls.wiring else next(iter(cls.model_fields), None)

    def output(self, *inputs: TensorType) -> TensorType:
        """The type of the result.

        Raises:
            ShapeError: the inputs don't fit.
        """
        return inputs[0]

    def parts(self, *inputs: TensorType) -> dict[str, TensorType]:
        """The results of an op that gives several tensors, by name and in order; empty for an op that gives one.

        What is read is `layer.name`, never a position.
        """
        return {}

    def weights(self, *inputs: TensorType) -> dict[str, Weight]:
        """The tensors that the op owns, in the order of PyTorch's state-dict."""
        return {}

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        """Multiply-accumulates of convolutions and matrix products for one sample; a fused multiply-add is one.

        Element-wise work (activations, pooling, a normalisation's scale and shift) counts as none.
        """
        return 0

    def window(self, *inputs: TensorType) -> Window | None:
        """What a unit sees of its input; None where it sees one unit at its own place."""
        return None

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        """The op's arithmetic, worked out as one would by hand. Sizes are numbers where they are known."""
        return iter(())


class Part(Op, written=False):
    """One of several results of the layer that it reads; it is no module and no work."""

    kind: ClassVar[str] = "part"


def through(field: Field | None, window: Window | None) -> Field | None:
    """The receptive field after a window: r + (k − 1)·j, and the jump j·s (Araujo et al. 2019, equation 2)."""
    if field is None or window is None:
        return field
    size = tuple(r + (k - 1) * j for r, k, j in zip(field.size, window.extent, field.jump, strict=True))
    return Field(size, tuple(j * s for j, s in zip(field.jump, window.stride, strict=True)))


def per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...] | None:
    """One number for each spatial axis; None where a list of another length was given."""
    if isinstance(value, int):
        return (value,) * axes
    return value if len(value) == axes else None


_discovered: set[str] = set()


def discover(plugins: bool = False) -> "dict[str, type[Op]]":
    """Every op by its name. With `plugins`, ops of installed packages too (entry-point group `netspec.ops`).

    Raises:
        TypeError: two ops share a name.
    """
    if "built-in" not in _discovered:
        _discovered.add("built-in")
        package = importlib.import_module("netspec.ops")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"netspec.ops.{module.name}")
    if plugins and "plugins" not in _discovered:
        _discovered.add("plugins")
        for entry in entry_points(group="netspec.ops"):
            entry.load()
    return _registry
