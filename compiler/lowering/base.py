"""How an op is lowered, and where its lowering is found."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray
from torch import nn

from netspec.ops.base import Op
from netspec.tensor import TensorType


class Emitter(Protocol):
    """What a lowering sees of the ONNX graph being written: its own node's names, and a way to add nodes."""

    inputs: tuple[str, ...]
    types: tuple[TensorType, ...]

    def weight(self, name: str) -> str:
        """The name of an initializer that holds one of the op's own weights, called as in `Op.weights`."""

    def turned(self, name: str) -> str:
        """The name of one that holds a matrix of the op's own weights, transposed."""

    def constant(self, name: str, values: Sequence[int] | Sequence[float]) -> str:
        """The name of an initializer with fixed one-dimensional values, int64 or float32."""

    def scalar(self, name: str, value: float) -> str:
        """The name of an initializer with one float32 number."""

    def whole(self, name: str, value: int) -> str:
        """The name of an initializer with one int64 number."""

    def array(self, name: str, values: NDArray[Any]) -> str:
        """The name of an initializer that holds an array."""

    def size(self, index: int, start: int, end: int | None = None, name: str = "size") -> str:
        """The sizes of an input from one axis up to before another, an int64 vector: a constant where all are known."""

    def emit(self, op_type: str, inputs: Sequence[str], part: str = "", **attributes: Any) -> str:
        """Adds a node; without `part` it gives the layer's result, with it an intermediate value.

        One that an earlier node gives already has its name, here and in `emit_several`.
        """

    def emit_several(self, op_type: str, inputs: Sequence[str], parts: Sequence[str], **attributes: Any) -> list[str]:
        """Adds a node that gives several intermediate values, whose names it returns."""

    def emit_part(self, op_type: str, inputs: Sequence[str], part: str, **attributes: Any) -> str:
        """Adds the node that gives one result, called `part`, of an op with several."""

    def emit_parts(self, op_type: str, inputs: Sequence[str], parts: Sequence[str], **attributes: Any) -> None:
        """Adds the node that gives the results of an op with several, by the names of its `parts`."""


class Lowering:
    """One op's two lowerings. Subclasses are found by the op that they are declared for.

    Attributes:
        overwritable: whether the op's backward pass does without its output, so that an activation that alone reads it
            may work in place.
        works_in_place: whether the op can write over its first input; its module then has the attribute `inplace`.
        chooses: whether it takes the greatest of what it reads, so that rounding may change all that it gives.
    """

    overwritable: ClassVar[bool] = False
    works_in_place: ClassVar[bool] = False
    chooses: ClassVar[bool] = False

    @staticmethod
    def torch(op: Any, inputs: tuple[TensorType, ...]) -> nn.Module:
        """The op as a module, with the default initialisation of its PyTorch counterpart."""
        raise TypeError(f"no PyTorch lowering for {op.kind}")

    @staticmethod
    def expression(op: Any, inputs: Sequence[str]) -> str:
        """The op as Python over the names of its inputs, where written source needs no module for it; else ""."""
        return ""

    @staticmethod
    def onnx(op: Any, node: Emitter) -> None:
        """The op as ONNX nodes, the last of which gives the layer's result."""
        raise TypeError(f"no ONNX lowering for {op.kind}")


L = TypeVar("L", bound=type[Lowering])
_LOWERINGS: dict[type[Op], type[Lowering]] = {}


def lowers(op: type[Op]) -> Callable[[L], L]:
    """Declares a class to be the lowering of an op.

    Raises:
        TypeError: the op has one already.
    """

    def declare(lowering: L) -> L:
        if op in _LOWERINGS:
            raise TypeError(f"{op.kind} is lowered twice: by {_LOWERINGS[op].__qualname__} and {lowering.__qualname__}")
        _LOWERINGS[op] = lowering
        return lowering

    return declare


def lowering_of(op: Op) -> type[Lowering]:
    """The lowering of an op.

    An op of `netspec.ops.<family>` has it in `compiler.lowering.<family>`; that of a package of the user's own is
    brought by an entry point of the group `netspec.lowerings`.

    Raises:
        LookupError: there is none.
    """
    cls = type(op)
    if cls not in _LOWERINGS:
        package, _, family = cls.__module__.rpartition(".")
        if package == "netspec.ops":
            importlib.import_module(f"compiler.lowering.{family}")
        else:
            for entry in entry_points(group="netspec.lowerings"):
                entry.load()
    if cls not in _LOWERINGS:
        raise LookupError(f"the op {cls.kind} has no lowering")
    return _LOWERINGS[cls]


def by_rank(inputs: tuple[TensorType, ...], *classes: type[nn.Module]) -> type[nn.Module]:
    """The class for one, two or three spatial axes."""
    return classes[len(inputs[0].spatial) - 1]
