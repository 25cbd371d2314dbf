"""Boxes in the form of YOLO: a text file for each image, a line for each box.

    class  centre x  centre y  width  height        as shares of the image's width and height

An image without a file, or with an empty one, shows nothing that is to be found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compiler.datasets.checking import clipped, fault_of_box
from compiler.datasets.folders import Part, class_names, divided, each, file_names, folder, images_of, places, read_text
from compiler.datasets.images import Cache, look_at, read_image
from compiler.datasets.sample import Array, Dataset, Faults, Parts, Sample, SampleError
from compiler.errors import CompilerError
from compiler.files import write_text
from netspec.data_choices import YoloText


def load_yolo(choice: YoloText, root: Path) -> Parts:
    """The images and boxes of a folder.

    Raises:
        CompilerError: files are missing, or a line is wrong.
    """
    folder(root, "which `yolo:` names")
    labels = class_names(choice.names, root)
    faults, cache = Faults(choice.on_error), Cache()

    def whole(place: Path) -> Part:
        images = images_of(place / choice.images_in)
        texts = folder(place / choice.boxes_in, "which should hold the boxes")
        files = {file.relative_to(texts).with_suffix("").as_posix(): file for file in sorted(texts.rglob("*.txt"))}
        for name in files.keys() - images.keys():
            message = f"`{files[name]}` has boxes, and there is no image `{place / choice.images_in / name}.…`"
            faults.met(SampleError(files[name], message, "put the image there, or remove the file"))
        return Part(_dataset(images, files, labels, cache, faults), list(images))

    return divided(root, choice, [whole(place) for place in places(root)], faults)


def _dataset(
    images: dict[str, Path], files: dict[str, Path], labels: tuple[str, ...], cache: Cache, faults: Faults
) -> Dataset:
    def boxes_of(name: str) -> tuple[str, Array]:
        look_at(images[name])
        return name, _read_boxes(files[name], len(labels)) if name in files else np.zeros((0, 5))

    rows = dict(each(list(images), boxes_of, faults, "reading boxes and opening images"))
    names = list(rows)
    shown_as = file_names(names, images)

    def read(index: int) -> Sample:
        name = names[index]
        (image,) = cache.get(images[name], lambda: (read_image(images[name]),))
        height, width = image.shape[:2]
        boxes = corners(rows[name][:, 1:]) * [width, height, width, height]
        for number, box in enumerate(boxes):
            fault = fault_of_box(tuple(box.tolist()), width, height)
            if fault:
                raise SampleError(files[name], f"`{files[name]}`, box {number + 1}: {fault}")
        return Sample(
            shown_as[index],
            image,
            clipped(boxes, width, height).astype(np.float32),
            rows[name][:, 0].astype(np.int64),
            np.zeros(len(boxes), dtype=bool),
        )

    return Dataset(labels, (), shown_as, read, [len(rows[name]) for name in names])


def corners(boxes: Array) -> Array:
    """Boxes n × 4 of centre and size as left, top, right, bottom."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def _read_boxes(path: Path, classes: int) -> Array:
    """The lines of a file, n × 5."""
    try:
        text = read_text(path)
    except CompilerError as error:
        raise SampleError(path, error.message, error.help) from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words:
            rows.append(_read_line(words, classes, path, number))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _read_line(words: list[str], classes: int, path: Path, line: int) -> list[float]:
    where = f"`{path}`, line {line}"
    try:
        values = [float(word) for word in words]
    except ValueError:
        word = next(word for word in words if not _is_number(word))
        raise SampleError(path, f"{where}: `{word[:40]}` is no number", LINE) from None
    if len(values) != 5:
        raise SampleError(path, f"{where} has {len(values)} numbers, and a box is five", LINE)
    label = values[0]
    if not label.is_integer() or not 0 <= label < classes:
        message = f"{where}: there is no class {words[0]}; the names are {classes}, numbered from 0"
        raise SampleError(path, message, "add its name to the list of names, or number the classes from 0")
    if not all(math.isfinite(value) for value in values):
        raise SampleError(path, f"{where}: the box is not made of finite numbers")
    if min(values[3:]) <= 0:
        raise SampleError(path, f"{where}: the box has no area, it is {words[3]} × {words[4]}")
    if max(values[1:]) > 1.5:
        help = "write shares of the image's width and height, from 0 to 1"
        raise SampleError(path, f"{where}: {max(values[1:]):g} is no share; boxes are not in pixels here", help)
    return values


LINE = "write `class x y width height`, x and y of the centre, as shares of the image's width and height"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def write_boxes(path: Path, boxes: Iterable[Iterable[float]], labels: Iterable[int], size: tuple[int, int]) -> None:
    """Writes the boxes of an image of a width and height, with as many digits as give the same float32 again.

    Raises:
        CompilerError: the file can't be written.
    """
    width, height = size
    lines = []
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        shares = (*centre, (right - left) / width, (bottom - top) / height)
        lines.append(" ".join([str(label), *(f"{share:.9f}" for share in shares)]) + "\n")
    write_text(path, "".join(lines))
