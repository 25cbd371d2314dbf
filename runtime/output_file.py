"""Files that results go to, written whole or not at all: raw outputs as ``.npz``, and what others write."""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from runtime.errors import OutputError
from runtime.model_path import is_stream


def check_place(path: Path) -> None:
    """Raises OutputError when no file can be written at `path`, so that no work is done in vain."""
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name a .npz file in it")
    _refuse_stream(path)
    folder = _place(path).parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no directory {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {path}: the directory {folder} is read-only")


def write_outputs(path: Path, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Writes every output as one array [rows, …] under the output's name; `rows` are the outputs of each.

    Raises:
        OutputError: the rows of an output differ in shape, or the file cannot be written.
    """
    arrays = {name: _stack(path, name, [row[name] for row in rows]) for name in rows[0]}
    # numpy.savez takes the names as keyword arguments, among which `file` would be its own.
    with replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _stack(path: Path, name: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    if len(shapes := {row.shape for row in rows}) > 1:
        first, second = sorted(shapes)[:2]
        raise OutputError(
            f"cannot write {path}: the rows of '{name}' differ in shape: {list(first)} and {list(second)}",
            help="predict files of equal sizes together",
        )
    stacked = np.stack(rows)
    return stacked.astype(str) if stacked.dtype.hasobject else stacked


def _place(path: Path) -> Path:
    """Where a file that is written to `path` lies: a link stays one, as `/dev/stdout` has to."""
    return path.resolve() if path.is_symlink() else path


def _refuse_stream(path: Path) -> None:
    # As the superuser `--output /dev/null` would put a file in the device's place, for the whole machine.
    if is_stream(path):
        raise OutputError(f"cannot write {path}: it is a device or a pipe, which a file can't take the place of")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when all went well."""
    _refuse_stream(path)
    place = _place(path)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(place)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
