"""Files as input for a model: images through its preprocessing, ``.npy`` and ``.npz`` arrays as they are."""

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from runtime.answering.image_input import image_input, only_input
from runtime.errors import InputError
from runtime.images import decode
from runtime.model_path import refuse_named_pipe
from runtime.proposals import Proposals
from runtime.session import Session
from runtime.tensors import TensorSpec, describe

Feeds = dict[str, np.ndarray]


def read_samples(path: Path, session: Session, proposals: Proposals | None = None) -> Feeds:
    """The rows that a file holds, for every input of the model: arrays of shape [rows, …] and the input's type.

    An image is one row; its regions, where the model takes some beside it, are looked up in `proposals`. An array may
    leave the batch dimension away, and then is one row too.

    Raises:
        InputError: the file is missing or unreadable, does not fit the model, or holds NaN or infinity.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        feeds = _feeds_of_archive(path, session.inputs)
    elif suffix == ".npy":
        feeds = {only_input(str(path), session.inputs).name: _load_array(path)}
    else:
        feeds = _feeds_of_image(path, session, proposals)
    feeds = {spec.name: _fitted(path, feeds[spec.name], spec) for spec in session.inputs}
    if any(len(array) == 0 for array in feeds.values()):
        raise InputError(f"{path} holds no rows")
    if len({len(array) for array in feeds.values()}) > 1:
        sizes = ", ".join(f"{len(array)} for '{name}'" for name, array in feeds.items())
        raise InputError(f"{path}: the inputs have different numbers of rows: {sizes}")
    return feeds


def _feeds_of_image(path: Path, session: Session, proposals: Proposals | None) -> Feeds:
    taken = image_input(str(path), session)
    if taken.regions and proposals is None:
        raise InputError(
            f"the model takes regions to look at beside an image: its input '{taken.regions[0].name}', "
            f"{taken.regions[0]}",
            help="give them with --proposals FILE.npz",
        )
    row = taken.row(str(path), decode(path, str(path), taken.contract.channels))
    feeds = {taken.spec.name: row[np.newaxis]}
    return feeds | {other.name: proposals.of(path, other)[np.newaxis] for other in taken.regions if proposals}


def _feeds_of_archive(path: Path, inputs: Sequence[TensorSpec]) -> Feeds:
    """The arrays of a ``.npz`` by input: found by name, or the only array for the only input."""
    with _reading(path, "NumPy archive"), zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        if len(inputs) == 1 and len(members) == 1:
            members = {inputs[0].name: next(iter(members.values()))}
        for spec in inputs:
            if spec.name not in members:
                held = ", ".join(f"'{name}'" for name in members) or "nothing"
                raise InputError(f"{path} has no array for the input '{spec.name}'; it holds {held}")
        feeds = {}
        for spec in inputs:
            with archive.open(members[spec.name]) as file:
                feeds[spec.name] = np.lib.format.read_array(file, allow_pickle=False)
        return feeds


def _load_array(path: Path) -> np.ndarray:
    with _reading(path, "NumPy array"), path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into an InputError."""
    refuse_named_pipe(path)
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except MemoryError:
        raise InputError(f"cannot read {path}: it says that it holds more than fits into memory") from None
    except Exception as error:  # damaged headers and archives make NumPy and zipfile fail in many ways
        if "allow_pickle" in str(error):
            raise InputError(f"{path} holds Python objects, which are never loaded", help="save numbers") from None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or something else"
        raise InputError(f"cannot read {path} as a {kind}: {reason}") from None


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
    if spec.dtype.hasobject or not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise InputError(f"{path}: the input '{spec.name}' is {spec}, given {describe(array)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path} holds NaN or infinity")
    with np.errstate(over="ignore"):  # what overflows is found by looking at the result
        converted = array.astype(spec.dtype, copy=False)
    intact = np.isfinite(converted) if spec.dtype.kind == "f" else converted == array
    if not intact.all():
        raise InputError(f"{path} holds numbers too large for the input '{spec.name}', which is {spec}")
    return converted
