"""Files as input for a model: images through its preprocessing, ``.npy`` and ``.npz`` arrays as they are."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.errors import InputError
from runtime.images import read_image
from runtime.session import Session
from runtime.tensors import TensorSpec, describe

Feeds = dict[str, np.ndarray]


def read_samples(path: Path, session: Session) -> Feeds:
    """The rows that a file holds, for every input of the model: arrays of shape [rows, …] and the input's type.

    An image is one row. An array may leave the batch dimension away, and then is one row too.

    Raises:
        InputError: the file is missing or unreadable, does not fit the model, or holds NaN or infinity.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        feeds = _feeds_of_archive(path, session.inputs)
    elif suffix == ".npy":
        feeds = {_only_input(path, session.inputs).name: _load_array(path)}
    else:
        feeds = _feeds_of_image(path, session)
    feeds = {spec.name: _fitted(path, feeds[spec.name], spec) for spec in session.inputs}
    if len({len(array) for array in feeds.values()}) > 1:
        sizes = ", ".join(f"{len(array)} for '{name}'" for name, array in feeds.items())
        raise InputError(f"{path}: the inputs have different numbers of rows: {sizes}")
    return feeds


def _feeds_of_image(path: Path, session: Session) -> Feeds:
    spec = _only_input(path, session.inputs)
    contract = session.metadata.preprocess.get(spec.name)
    if contract is None:
        raise InputError(
            f"cannot prepare {path}: the model does not say how an image becomes its input '{spec.name}'",
            help=f"give the prepared tensor as a .npy file: {spec}",
        )
    return {spec.name: read_image(path, contract)[np.newaxis]}


def _feeds_of_archive(path: Path, inputs: Sequence[TensorSpec]) -> Feeds:
    """The arrays of a ``.npz`` by input: found by name, or the only array for the only input."""
    arrays = _load_archive(path)
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0].name: array for array in arrays.values()}
    for spec in inputs:
        if spec.name not in arrays:
            held = ", ".join(f"'{name}'" for name in arrays) or "nothing"
            raise InputError(f"{path} has no array for the input '{spec.name}'; it holds {held}")
    return arrays


def _only_input(path: Path, inputs: Sequence[TensorSpec]) -> TensorSpec:
    if len(inputs) == 1:
        return inputs[0]
    names = ", ".join(f"'{spec.name}'" for spec in inputs)
    raise InputError(
        f"{path} is one array, but the model has {len(inputs)} inputs: {names}",
        help="give a .npz file that holds an array for each",
    )


def _load_array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise _unreadable(path, error) from None


def _load_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # AttributeError: np.load gives a bare array for a .npy file under the name of a .npz
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path}")
    if isinstance(error, MemoryError):
        return InputError(f"cannot read {path}: it holds more than fits into memory")
    if "allow_pickle" in str(error) or "pickled" in str(error):
        return InputError(f"{path} holds Python objects, which are never loaded; save plain numbers")
    kind = "NumPy archive" if path.suffix.lower() == ".npz" else "NumPy array"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or something else"
    return InputError(f"cannot read {path} as a {kind}: {reason}")


def _fitted(path: Path, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The array with a batch dimension and the input's element type, if that changes no value beyond rounding."""
    converted = _converted(path, array, spec)
    if spec.shape and converted.ndim == len(spec.shape) - 1:
        converted = converted[np.newaxis]
    if converted.ndim == 0:
        raise InputError(f"{path}: a single number cannot be split into rows, as the input '{spec.name}' is")
    row = TensorSpec(spec.name, spec.dtype, (None, *spec.shape[1:]) if spec.shape else ())
    if not row.accepts(converted):
        raise InputError(f"{path}: the input '{spec.name}' is {spec}, given {describe(array)}")
    return converted


def _converted(path: Path, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.dtype.hasobject and array.dtype.kind == "U":
        return array.astype(object)
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InputError(f"{path}: the input '{spec.name}' is {spec}, given {describe(array)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path} holds NaN or infinity")
    with np.errstate(over="ignore"):  # what overflows is found by looking at the result
        converted = array.astype(spec.dtype, copy=False)
    if spec.dtype.kind == "f":
        fits = bool(np.isfinite(converted).all())
    else:
        fits = bool((converted == array).all())
    if not fits:
        raise InputError(f"{path} holds numbers too large for the input '{spec.name}', which is {spec}")
    return converted
