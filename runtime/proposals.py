"""Regions of images, proposed by another program, as a model's second input.

They stand in one ``.npz`` file: for each image an array P × 4 under the image's file name, ``street.jpg``; left, top,
right, bottom in pixels of the image as it was given. P may differ from image to image. Rows of zeros, which have no
area, fill up what a model or a batch has room for.
"""

import zipfile
from pathlib import Path

import numpy as np

from runtime.errors import InputError
from runtime.model_path import refuse_named_pipe
from runtime.tensors import TensorSpec, describe

REGION = TensorSpec("regions", np.dtype(np.float32), ("batch", "regions", 4))


def is_proposals(spec: TensorSpec) -> bool:
    """Whether an input of a model takes regions: float32 [batch, regions, 4]."""
    return bool(spec.shape) and spec.may_be(REGION)


class Proposals:
    """The regions of many images, each read from the file when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Opens the file at `path`.

        Raises:
            InputError: it is missing, or no NumPy archive.
        """
        self._path = path
        refuse_named_pipe(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"there is no file {path}") from None
        except (OSError, zipfile.BadZipFile):
            raise InputError(
                f"cannot read {path} as a NumPy archive", help="`netspec proposals` writes such a file"
            ) from None
        self._members = {name.removesuffix(".npy"): name for name in self._archive.namelist()}

    def of(self, image: Path, spec: TensorSpec) -> np.ndarray:
        """The regions of an image, float32 P × 4, filled up to the number that the input `spec` has, if it has one.

        Raises:
            InputError: there are none under the image's name, more than the model takes, or they are no boxes.
        """
        boxes = self._read(image)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu":
            raise InputError(
                f"{self._path}: '{image.name}' has {describe(boxes)}, not boxes: numbers [regions, 4]",
                help="write left, top, right, bottom for each region, in pixels of the image",
            )
        if not np.isfinite(boxes).all():
            raise InputError(f"{self._path}: a box of '{image.name}' is NaN or infinite")
        room = spec.shape[1]
        if isinstance(room, int) and len(boxes) > room:
            raise InputError(f"{self._path}: '{image.name}' has {len(boxes)} regions, and the model takes {room}")
        return filled(boxes.astype(np.float32), room if isinstance(room, int) else 1)

    def _read(self, image: Path) -> np.ndarray:
        if image.name not in self._members:
            raise InputError(
                f"{self._path} has no regions for {image}",
                help=f"it needs an array under the image's file name, '{image.name}'; an array of no rows says that "
                "there are none",
            )
        try:
            with self._archive.open(self._members[image.name]) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except Exception:  # damaged headers and archives make NumPy and zipfile fail in many ways
            raise InputError(f"{self._path}: the regions of '{image.name}' are damaged, or no numbers") from None


def filled(boxes: np.ndarray, count: int) -> np.ndarray:
    """Boxes P × 4 with rows of zeros behind them until there are `count`."""
    return np.pad(boxes, ((0, max(0, count - len(boxes))), (0, 0)))
