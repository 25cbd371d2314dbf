"""Predictions as a COCO results list: https://cocodataset.org/#format-results.

Boxes are ``{"image_id", "category_id", "bbox": [left, top, width, height], "score"}``; a mask gives ``{"image_id",
"category_id", "segmentation": {"size": [height, width], "counts": …}}`` for each class in it but the background, its
pixels run-length encoded by pycocotools.

The ids come from an annotation file, which names images by ``file_name`` and classes by ``name``. Without one an
image's id is the number that its file is named by (``000000397133.jpg``) where every file has such a name, else its
place among the files, from 1; a detector's classes are numbered from 1, and a mask's by the numbers in it.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson

from runtime.answering.objects import is_background
from runtime.errors import InputError, UserError
from runtime.model_path import refuse_named_pipe
from runtime.prediction import Prediction

Id = int | str


class Ids(Protocol):
    """How images and classes are numbered."""

    def image(self, file: Path) -> Id:
        """The id of an image; InputError where it has none."""

    def category(self, label: str, number: int) -> Id | None:
        """The id of a class, counted from 1 or as in a mask; None where it has none and is left out."""


class NumberedIds:
    """The ids of images and classes of which nothing else is known."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Numbers `files`, by their names where all of them are different numbers of at most 64 bits."""
        stems = [file.stem for file in files]
        numbered = all(stem.isascii() and stem.isdecimal() for stem in stems)
        numbers = [int(stem) for stem in stems] if numbered else []
        if len(set(numbers)) < len(set(files)) or max(numbers) >= 2**63:
            numbers = list(range(1, len(files) + 1))
        self._images = dict(zip(reversed(files), reversed(numbers), strict=True))  # a file's first place counts

    def image(self, file: Path) -> Id:
        return self._images[file]

    def category(self, label: str, number: int) -> Id | None:
        return number


class AnnotatedIds:
    """The ids in a COCO annotation file."""

    def __init__(self, path: Path, labels: tuple[str, ...] | None) -> None:
        """Reads the annotation file at `path` for a model with these class names.

        Raises:
            InputError: it is no such file, or knows none of the names.
        """
        self._path = path
        content = _read(path)
        self._images: dict[str, list[tuple[tuple[str, ...], Id]]] = {}
        for name, number in _named(path, content, "images", "file_name"):
            parts = Path(name).parts
            self._images.setdefault(parts[-1] if parts else "", []).append((parts, number))
        categories = list(_named(path, content, "categories", "name"))
        self._categories = dict(categories)
        if len(self._categories) < len(categories):
            raise InputError(f"{path} has two categories of one name")
        if labels is None:
            raise InputError(f"the model's classes have no names, so that they can't be found in {path}")
        if not set(labels) & set(self._categories):
            raise InputError(
                f"{path} has none of the model's classes; its categories are {_some(self._categories)}",
                help=f"the model's classes are {_some(labels)}",
            )

    def image(self, file: Path) -> Id:
        known = self._images.get(file.name, [])
        if len(known) > 1:
            here = file.absolute().parts
            known = [(parts, number) for parts, number in known if here[-len(parts) :] == parts]
        if len(known) != 1:
            how = "several images that are" if known else "no image that is"
            raise InputError(f"{self._path} has {how} named as {file}")
        return known[0][1]

    def category(self, label: str, number: int) -> Id | None:
        return self._categories.get(label)


def _read(path: Path) -> dict[str, Any]:
    refuse_named_pipe(path)
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is no JSON file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no COCO annotation file: it has no `images`")
    return content


def _named(path: Path, content: dict[str, Any], key: str, name: str) -> Iterator[tuple[str, Id]]:
    """The names and ids in a list of the annotation file."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{path} is no COCO annotation file: it has no list `{key}`")
    for place, entry in enumerate(entries):
        fields = entry if isinstance(entry, dict) else {}
        if not isinstance(fields.get(name), str) or not isinstance(fields.get("id"), int | str):
            raise InputError(f"{path}: `{key}[{place}]` has no `{name}`, which is text, or no `id`")
        yield fields[name], fields["id"]


def _some(names: Sequence[str] | dict[str, Any]) -> str:
    """The first names, and how many there are beyond."""
    first = list(names)[:5]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


def results(prediction: Prediction, ids: Ids) -> list[dict[str, Any]]:
    """The entries of one image; classes without an id are left out.

    Raises:
        InputError: it is no image but a row of an array, or an image without an id.
    """
    if prediction.rows > 1:
        raise InputError(
            f"{prediction.file} is an array of {prediction.rows} images, and COCO results are about one image a file",
            help="give images, or use --format json",
        )
    image, mask = ids.image(prediction.file), prediction.answer.mask
    if mask is not None:
        return [
            {
                "image_id": image,
                "category_id": category,
                "segmentation": run_lengths(mask.numbers == index),
            }
            for label, index in ((region.label, region.index) for region in mask.regions)
            if not is_background(label) and (category := ids.category(label, index)) is not None
        ]
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": [left, top, right - left, bottom - top],
            "score": found.score,
        }
        for found in prediction.answer.found or ()
        for left, top, right, bottom in [found.box]
        if (category := ids.category(found.label, found.index + 1)) is not None
    ]


def run_lengths(pixels: np.ndarray) -> dict[str, Any]:
    """A mask [height, width] in COCO's run-length encoding.

    Raises:
        UserError: pycocotools is not installed.
    """
    encoded = _pycocotools().encode(np.asfortranarray(pixels, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def check_run_lengths() -> None:
    """Raises UserError where masks can't be encoded, so that no work is done in vain."""
    _pycocotools()


def _pycocotools() -> Any:
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError:
        raise UserError(
            "masks as COCO results need pycocotools, which is not installed", help="pip install pycocotools"
        ) from None
