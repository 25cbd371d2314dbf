"""A folder of pictures, one for each image predicted, each written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from runtime.errors import OutputError
from runtime.output_file import replacing


class Gallery:
    """Names pictures after their images, so that no two have one name, and writes them as PNG.

    The second image named ``a`` becomes ``a-2.png``. Names that differ in case alone count as one, since some file
    systems know no difference.
    """

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        """Makes `folder` where it is not there.

        Raises:
            OutputError: it can't be written to, or is where images are: a picture might take the place of one.
        """
        self._folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the directory {folder}: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise OutputError(f"cannot write pictures: the directory {folder} is read-only")
        inside = folder.resolve()
        if beside := next((image for image in images if image.resolve().parent == inside), None):
            raise OutputError(
                f"{folder} is where {beside} is: a picture might take an image's place",
                help="name another folder for the pictures",
            )

    def add(self, name: str, picture: Image.Image) -> Path:
        """Writes a picture under a name like `name`, and returns its path.

        Raises:
            OutputError: the file can't be written.
        """
        path = self._folder / f"{self._free(name)}.png"
        with replacing(path) as unfinished:
            picture.save(unfinished, format="PNG", compress_level=1)
        return path

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free.casefold() in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free.casefold())
        return free
