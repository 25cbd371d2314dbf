"""What a model says about a tensor: its name, element type and shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Dimension = int | str | None

# ONNX Runtime's names of the element types that NumPy has too. Text is an array of `str` objects.
NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(string)": np.dtype(object),
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    A dimension is a number, the name of a symbolic dimension, or None where the model leaves it unnamed. An empty shape
    is a scalar or an unsaid shape, which ONNX Runtime does not tell apart, so any shape fits it.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dimension, ...]

    def accepts(self, array: np.ndarray) -> bool:
        """Whether `array` has this element type and a shape that fits."""
        return array.dtype == self.dtype and self.fits(array.shape)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether `shape` has this rank and, in every fixed dimension, this size."""
        if not self.shape:
            return True
        if len(shape) != len(self.shape):
            return False
        for size, expected in zip(shape, self.shape, strict=True):
            if size != expected and isinstance(expected, int):
                return False
        return True

    def may_be(self, other: "TensorSpec") -> bool:
        """Whether one tensor can fit both: the same element type and rank, and no dimension that both fix apart."""
        if self.dtype != other.dtype or not self.shape or not other.shape:
            return self.dtype == other.dtype
        return len(self.shape) == len(other.shape) and all(
            mine == theirs or not isinstance(mine, int) or not isinstance(theirs, int)
            for mine, theirs in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        if not self.shape:
            return f"{type_name(self.dtype)} of any shape"
        dimensions = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{type_name(self.dtype)} [{dimensions}]"


def describe(array: np.ndarray) -> str:
    """The type and shape of an array in the words of `TensorSpec`: ``float32 [8, 1, 28, 28]``."""
    return f"{type_name(array.dtype)} {list(array.shape)}"


def type_name(dtype: np.dtype[Any]) -> str:
    """NumPy's name of the type, and ``string`` for text."""
    return "string" if dtype.hasobject else str(dtype)
