"""Writing an ONNX model to disk: small ones in one file, large ones with their weights in a side file that we write."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from compiler.errors import CompilerError
from compiler.files import place_of, whole_file

# Above this many bytes of weights copying them through protobuf is what an export would spend its time on.
SIDE_FILE_FROM = 8 * 1024 * 1024
SMALL_TENSOR = 1024
ALIGNMENT = 4096  # so that a runtime can map tensors into memory
PIECE = 16 * 1024 * 1024  # of a tensor, written at a time; the digest is of sums of so many bytes:
SUMMED = 4096

Array = NDArray[Any]


def write_model(model: onnx.ModelProto, initializers: Mapping[str, Array], path: Path) -> Path | None:
    """Writes a model with its weights, checked; returns the side file, if there is one.

    The side file's name holds a digest of its content, so a model never meets the weights of another export, at
    whatever moment the writing is cut off.

    Raises:
        CompilerError: a file can't be written, or the ONNX checker refuses the model.
    """
    path = place_of(path)  # and the side file beside it
    total = sum(array.nbytes for array in initializers.values())
    side = None
    large = [name for name, array in initializers.items() if total > SIDE_FILE_FROM and array.nbytes > SMALL_TENSOR]
    if large:
        side = _write_side_file({name: initializers[name] for name in large}, path)
    offset = 0
    for name, array in initializers.items():
        tensor = model.graph.initializer.add()
        tensor.name = name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        if side is not None and name in large:
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", side.name), ("offset", offset), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            offset += _padded(array.nbytes)
        else:
            tensor.raw_data = np.ascontiguousarray(array).tobytes()
    with whole_file(path, lasting=False) as temporary:
        temporary.write_bytes(model.SerializeToString())
        check(temporary if side else model)
    _remove_stale(path, side)
    return side


def check(model: onnx.ModelProto | Path) -> None:
    """Holds a model, or a file with a side file beside it, against the ONNX specification.

    Raises:
        CompilerError: it does not conform.
    """
    try:
        onnx.checker.check_model(str(model) if isinstance(model, Path) else model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise CompilerError(f"the ONNX checker refuses the model: {error}") from None


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _bytes(array: Array) -> memoryview:
    """A contiguous array's bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _write_side_file(arrays: Mapping[str, Array], path: Path) -> Path:
    """Writes the weights one after another; several pieces at a time, as copying them is all that takes long."""
    pieces: list[tuple[int, memoryview]] = []
    end = 0
    for array in arrays.values():
        content = _bytes(np.ascontiguousarray(array))
        pieces += [(end + start, content[start : start + PIECE]) for start in range(0, len(content), PIECE)]
        end += _padded(array.nbytes)
    unnamed = path.with_name(f".{path.name}.weights")  # until all of it is known
    with whole_file(unnamed, lasting=False) as temporary:
        with temporary.open("r+b") as file:
            file.truncate(end)

        def write(piece: tuple[int, memoryview]) -> bytes:
            offset, left = piece
            digest = _digest(left)
            with temporary.open("r+b", buffering=0) as own:
                own.seek(offset)
                while left:
                    left = left[own.write(left) :]
            return digest

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digest = hashlib.sha256("\n".join(arrays).encode() + b"".join(pool.map(write, pieces)))
    side = path.with_name(f"{path.name}.{digest.hexdigest()[:8]}.data")
    unnamed.replace(side)
    return side


def _digest(content: memoryview) -> bytes:
    """What tells one content from another: a digest of the sums of its words, and of what is left behind the last sum.

    SHA-256 of all of it would take longer than writing it. It need not withstand an attack: whoever can write one of
    the files can write the other.
    """
    whole = len(content) // SUMMED * SUMMED
    words = np.frombuffer(content[:whole], dtype=np.uint64).reshape(-1, SUMMED // 8)
    return hashlib.sha256(words.sum(axis=1).tobytes() + content[whole:]).digest()


def _remove_stale(path: Path, side: Path | None) -> None:
    """Removes side files that earlier exports to this path have left."""
    pattern = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}\.data\Z")
    for file in path.parent.iterdir():
        if pattern.match(file.name) and file != side:
            file.unlink(missing_ok=True)
