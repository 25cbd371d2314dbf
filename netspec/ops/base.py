"""What an op is: its arguments, its shape rule, the weights it owns, its costs, and its arithmetic spelled out.

An op is a subclass of `Op` in one of this package's modules; being defined is being registered, and the line
`kind: ClassVar[str] = "…"` is where it is found before it is imported. Its fields are its arguments, the first one
being the primary argument (`conv: 64` sets `channels`). Everything is a pure function of the arguments and the input
types, so results are shared between equal layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import lcm
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Argument

from netspec.dims import Dim
from netspec.ops.registry import Registry
from netspec.tensor import Field, ShapeError, TensorType, Weight, write_shape

T = TypeVar("T")

Count = Annotated[int, Argument(ge=1, le=2**31 - 1)]
Length = Annotated[int, Argument(ge=0, le=2**31 - 1)]
Probability = Annotated[float, Argument(ge=0, lt=1)]
PerAxis = Count | Annotated[tuple[Count, ...], Argument(min_length=1, max_length=3)]
LengthPerAxis = Length | Annotated[tuple[Length, ...], Argument(min_length=1, max_length=3)]
# One number, or for each axis a number or a pair [before, after].
Padding = Length | Annotated[tuple[Length | tuple[Length, Length], ...], Argument(min_length=1, max_length=3)]

# Element types, as `Op.reads` lists them.
FLOATS = ("float32",)
INTEGERS = ("int64", "int32")
ANY = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")


class Line(NamedTuple):
    """One line of worked arithmetic: what is worked out, the formula with its numbers, the result."""

    what: str
    formula: str
    result: str

    def __str__(self) -> str:
        return f"{self.formula} = {self.result}" if self.formula else self.result


@dataclass(slots=True, eq=False)
class Window:
    """What one output unit sees of its input along each spatial axis.

    Attributes:
        extent: the span of the kernel.
        stride: how far the next unit's window lies.
        grow: how many output units share a stride, where the output is finer than the input.
    """

    extent: tuple[Dim, ...]
    stride: tuple[Dim, ...]
    grow: tuple[int, ...] = ()


# The result's axes are not the input's any more: no receptive field is known from there on.
SCRAMBLED = Window((), ())


# Apart from the class: a hint that names `Op` would be evaluated anew for every op.
_registry: "Registry[Op]" = Registry("netspec.ops")


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
    reads: ClassVar[tuple[str, ...]] = FLOATS  # the element types that it takes

    def __init_subclass__(cls, written: bool = True, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.kind and written:
            _registry[cls.kind] = cls

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
        """The tensors that the op owns, in the order of PyTorch's state-dict; one under "" has the layer's own path."""
        return {}

    def macs(self, inputs: tuple[TensorType, ...], output: TensorType) -> Dim:
        """Multiply-accumulates of convolutions and matrix products for one sample; a fused multiply-add is one.

        Element-wise work (activations, pooling, a normalisation's scale and shift) counts as none.
        """
        return 0

    def window(self, *inputs: TensorType) -> Window | None:
        """What a unit sees of its input; None where it sees one unit at its own place."""
        return None

    def strides_read(self, *inputs: TensorType) -> tuple[int | None, ...]:
        """The stride that the op takes each map that it reads to have, in pixels of the image; None for any.

        The map's own is held against it; the arguments that state strides are called `stride` or `strides`.
        """
        return ()

    def held(self, *inputs: TensorType) -> tuple[Any, ...]:
        """What the op's module keeps of its inputs' sizes: a module that is shared must keep the same everywhere."""
        return ()

    def without_effect(self, *inputs: TensorType) -> Iterator[tuple[str, str]]:
        """Arguments whose value changes nothing here, each with the reason. Only those that are given are told of."""
        return iter(())

    def explain(self, inputs: tuple[TensorType, ...], output: TensorType) -> Iterator[Line]:
        """The op's arithmetic, worked out as one would by hand. Sizes are numbers where they are known."""
        return iter(())


class Part(Op, written=False):
    """One of several results of the layer that it reads; it is no module and no work."""

    kind: ClassVar[str] = "part"


def through(field: Field | None, window: Window | None) -> Field | None:
    """The receptive field after a window: r + (k − 1)·j, and the jump j·s (Araujo et al. 2019, equation 2).

    Where the output grows by g, the jump is j·s/g. None where the window's axes are not the field's.
    """
    if field is None or window is None:
        return field
    axes = len(field.extent)
    if len(window.extent) != axes:
        return None
    grow = window.grow or (1,) * axes
    parts = lcm(*grow)
    return Field(
        tuple((r + (k - 1) * j) * parts for r, k, j in zip(field.extent, window.extent, field.jump, strict=True)),
        tuple(j * s * (parts // g) for j, s, g in zip(field.jump, window.stride, grow, strict=True)),
        field.parts * parts,
    ).reduced()


def per_axis(x: TensorType, name: str, value: int | tuple[T, ...]) -> tuple[int | T, ...]:
    """An argument as one value for each spatial axis of an input.

    Raises:
        ShapeError: it lists another number of them.
    """
    axes = len(x.spatial)
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ShapeError(
            f"`{name}` is a list of {len(value)}, for the {axes} spatial axes of {write_shape(x.shape)}",
            help=f"give one number, or {axes}",
            argument=name,
        )
    return value


def axis_after_batch(x: TensorType, axis: int, argument: str = "axis") -> int:
    """An axis of an input, counted from the front; -1 is the last.

    Raises:
        ShapeError: it is the batch, or there is no such axis.
    """
    if not -x.rank <= axis < x.rank or axis % x.rank == 0:
        raise ShapeError(
            f"axis {axis} is not one of the {x.rank - 1} axes after the batch",
            help=f"axes run from 1 to {x.rank - 1}; -1 is the last",
            argument=argument,
        )
    return axis % x.rank


@cache
def _load_plugins() -> None:
    from importlib.metadata import entry_points  # only where no op of ours has the name

    for entry in entry_points(group="netspec.ops"):
        entry.load()


def discover(plugins: bool = False) -> Registry[Op]:
    """Every op by its name. With `plugins`, ops of installed packages too (entry-point group `netspec.ops`).

    Raises:
        TypeError: two ops share a name.
    """
    if plugins:
        _load_plugins()
    return _registry
