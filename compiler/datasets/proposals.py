"""Regions that another program has found in the images of a data set, for nets that look at regions."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.datasets.sample import Array, Dataset, Sample, SampleError
from compiler.errors import CompilerError


def with_proposals(data: Dataset, path: Path) -> Dataset:
    """The samples with their regions, which a `.npz` file has under the images' file names, each P × 4.

    Raises:
        CompilerError: there is no such file, or it is none.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise CompilerError(f"there is no file `{path}`", "`netspec proposals` writes such a file") from None
    except (OSError, zipfile.BadZipFile):
        raise CompilerError(f"`{path}` is no NumPy archive", "`netspec proposals` writes such a file") from None
    known = frozenset(archive.namelist())

    def read(index: int) -> Sample:
        sample = data.read(index)
        return replace(sample, proposals=_boxes(archive, known, path, sample))

    return replace(data, read=read)


def _boxes(archive: zipfile.ZipFile, known: frozenset[str], path: Path, sample: Sample) -> Array:
    """The regions of a sample's image, P × 4 float32.

    Raises:
        SampleError: there are none under its name, or they are no boxes.
    """
    name = Path(sample.name).name
    if f"{name}.npy" not in known:
        help = "make them with `netspec proposals`; an array of no rows says that there are none"
        raise SampleError(sample.name, f"`{path}` has no regions for `{name}`", help)
    try:
        with archive.open(f"{name}.npy") as member:
            boxes = np.lib.format.read_array(member, allow_pickle=False)
    except Exception:  # damaged headers and archives make NumPy and zipfile fail in many ways
        raise SampleError(sample.name, f"`{path}`: the regions of `{name}` are damaged, or no numbers") from None
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu":
        shape = " × ".join(str(size) for size in boxes.shape) or "one number"
        raise SampleError(sample.name, f"`{path}`: `{name}` has {shape} of {boxes.dtype}, not boxes P × 4")
    if not np.isfinite(boxes).all():
        raise SampleError(sample.name, f"`{path}`: a region of `{name}` is NaN or infinite")
    return boxes.astype(np.float32)
