"""Elements as a request has them – values in a list, or bytes – and arrays, both ways."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from runtime.protocol.datatypes import DATATYPES
from runtime.protocol.tensors import invalid, shaped, shown
from runtime.serving.refused import Refused
from runtime.tensors import TensorSpec

Buffer = bytes | memoryview

# By NumPy's kind of type: the Python types that may stand for such an element, and a word for them.
VALUES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "u": (frozenset({int}), "whole numbers"),
    "i": (frozenset({int}), "whole numbers"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "strings"),
}

# What `struct` calls the numbers of each kind and size.
CODES = "u1 B, u2 H, u4 I, u8 Q, i1 b, i2 h, i4 i, i8 q, f2 e, f4 f, f8 d"
PACKED = dict(pair.split() for pair in CODES.split(", "))

# What Python has for a short text, and the reference to it.
TEXT_BYTES = 64

LENGTH = struct.Struct("<I")

# So many values are packed at a time: meanwhile no other thread runs.
AT_ONCE = 64 * 2**10

# Of so many values, it is quicker to ask NumPy which of them are worth a look.
MANY = 512


def from_values(spec: TensorSpec, shape: Sequence[int], values: Sequence[Any]) -> np.ndarray:
    """The input in `shape` whose elements are `values` in row-major order, of which the shape has as many.

    A number that the type cannot hold is refused; it never wraps around and never becomes infinite.
    """
    if spec.dtype.kind in "bO":
        _check_types(spec, values)
        array = np.array(values, dtype=spec.dtype)
    elif len(values) > AT_ONCE:
        array = np.concatenate([_packed(spec, values[at : at + AT_ONCE]) for at in range(0, len(values), AT_ONCE)])
    else:
        array = _packed(spec, values)
    return shaped(spec, array, shape)


def _packed(spec: TensorSpec, values: Sequence[Any]) -> np.ndarray:
    """Numbers as an array [count].

    `struct` takes half the time that NumPy takes, and no texts for numbers; with "=" it refuses what becomes infinite.
    """
    code = PACKED[f"{spec.dtype.kind}{spec.dtype.itemsize}"]
    try:
        array = np.frombuffer(struct.pack(f"={len(values)}{code}", *values), spec.dtype)
    except (struct.error, OverflowError):
        _check_types(spec, values)
        raise _too_large(spec) from None
    doubtful: Iterable[Any] = values
    if len(values) > MANY:  # for `struct` true is 1 and false is 0, so they can only be where those are
        doubtful = map(values.__getitem__, np.flatnonzero((array == 0) | (array == 1)).tolist())
    if bool in set(map(type, doubtful)):
        _check_types(spec, values)
    return array


def _check_types(spec: TensorSpec, values: Sequence[Any]) -> None:
    allowed, wanted = VALUES[spec.dtype.kind]
    if strange := set(map(type, values)) - allowed:
        found = next(value for value in values if type(value) in strange)
        if type(found) is float and spec.dtype.kind in "iu" and not -(2**63) < found < 2**64:
            raise _too_large(spec)  # a whole number that JSON's reader has made a float of
        raise invalid(f"input '{spec.name}': {DATATYPES[spec.dtype]} takes {wanted}, given {shown(found)}")


def _too_large(spec: TensorSpec) -> Refused:
    return invalid(f"input '{spec.name}': 'data' holds a number that {DATATYPES[spec.dtype]} cannot hold")


def from_raw(spec: TensorSpec, shape: Sequence[int], count: int, raw: Buffer) -> np.ndarray:
    """The input in `shape`, of `count` elements, from little-endian bytes in row-major order.

    Where it can be, the array is a view of `raw`: read-only, and alive as long as the array is.
    """
    if spec.dtype.hasobject:
        return shaped(spec, _texts(spec, count, raw), shape)
    if len(raw) != count * spec.dtype.itemsize:
        raise invalid(
            f"input '{spec.name}': {len(raw)} bytes of data, but {DATATYPES[spec.dtype]} {list(shape)} has "
            f"{count * spec.dtype.itemsize}"
        )
    if spec.dtype.kind == "b" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise invalid(f"input '{spec.name}': a byte of BOOL data is neither 0 nor 1")
    array = np.frombuffer(raw, spec.dtype)
    return shaped(spec, array if array.flags.aligned else array.copy(), shape)


def _texts(spec: TensorSpec, count: int, raw: Buffer) -> np.ndarray:
    """BYTES: an array [count] of `str`, each of which is its length in 4 bytes and then so many bytes of UTF-8."""
    where = f"input '{spec.name}'"
    if count * LENGTH.size > len(raw):
        raise invalid(f"{where}: {len(raw)} bytes of data cannot hold {count} BYTES elements and their lengths")
    texts = np.empty(count, object)
    at = 0
    for index in range(count):
        begin = at + LENGTH.size
        at = begin + LENGTH.unpack_from(raw, at)[0] if begin <= len(raw) else begin
        if at > len(raw):
            raise invalid(f"{where}: the data ends within BYTES element {index}")
        texts[index] = text_of(spec, index, raw[begin:at])
    if at != len(raw):
        raise invalid(f"{where}: {len(raw) - at} bytes of data behind the last of {count} BYTES elements")
    return texts


def text_of(spec: TensorSpec, index: int, raw: Buffer) -> str:
    """One BYTES element as text, which is all that the model's strings can hold."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise invalid(
            f"input '{spec.name}': BYTES element {index} is not UTF-8, and the model's strings are text"
        ) from None


def size_of(array: np.ndarray) -> int:
    """The bytes of memory that an array takes, about: a text is an object of its own."""
    return array.nbytes if not array.dtype.hasobject else array.size * TEXT_BYTES


def to_raw(array: np.ndarray) -> Buffer:
    """The elements as little-endian bytes in row-major order; numbers are not copied where they lie so already."""
    if not array.dtype.hasobject:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    parts: list[bytes] = []
    for text in array.ravel().tolist():
        encoded = text.encode()
        parts += (LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)
