"""Boxes in the form of COCO: one JSON file for all images. Source: Lin et al. 2014; cocodataset.org, "Data format"."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from compiler.datasets.checking import clipped, fault_of_box
from compiler.datasets.folders import each, held_out, located, shown, some_of
from compiler.datasets.images import Cache, look_at, read_image
from compiler.datasets.outlines import OutlineError, mask_of, pixels_of
from compiler.datasets.sample import IGNORED, Array, Dataset, Faults, Parts, Sample, SampleError
from compiler.errors import CompilerError
from compiler.files import write_text
from netspec.data_choices import Coco

BACKGROUND = "background"


@dataclass(slots=True)
class _Image:
    """An image of the file, with its annotations; `fault` says why it can't be used."""

    file: str
    size: tuple[int, int]
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    outlines: list[tuple[Any, Any]] = field(default_factory=list)  # the annotation's number, and its segmentation
    fault: str = ""


def load_coco(choice: Coco, base: Path) -> Parts:
    """The images and boxes of annotation files.

    Raises:
        CompilerError: a file is missing, or something in it is wrong.
    """
    faults, cache = Faults(choice.on_error), Cache()
    path = located(base, choice.path)
    images_in = located(base, choice.images_in) if choice.images_in is not None else path.parent
    categories, images = _read(path, faults, choice.outlines)
    whole = _dataset(path, images, categories, choice, images_in, cache, faults)
    if not isinstance(choice.test, str):
        return held_out(whole, choice.test, path, faults)
    test_path = located(base, choice.test)
    if choice.test_images_in is not None:
        images_in = located(base, choice.test_images_in)
    elif choice.images_in is None:
        images_in = test_path.parent
    test_categories, images = _read(test_path, faults, choice.outlines)
    if test_categories != categories:
        differing = sorted(set(test_categories.values()) ^ set(categories.values())) or ["their ids"]
        message = f"`{path}` and `{test_path}` have other categories: {', '.join(map(str, differing[:5]))}"
        raise CompilerError(message, "both files need the same list of categories, with the same ids")
    test = _dataset(test_path, images, categories, choice, images_in, cache, faults)
    kept, held = (some_of(data, range(len(data)), at, faults) for data, at in ((whole, path), (test, test_path)))
    return Parts(kept, held, faults)


def _dataset(
    path: Path,
    images: list[_Image],
    categories: dict[int, str],
    choice: Coco,
    images_in: Path,
    cache: Cache,
    faults: Faults,
) -> Dataset:

    def opened(image: _Image) -> _Image:
        file = images_in / image.file
        if not image.fault and not file.is_file():
            image.fault = f"`{path}` has annotations for `{file}`, which is not there"
        if image.fault:
            raise SampleError(file, image.fault)
        look_at(file)
        return image

    usable = each(images, opened, faults, "opening images")
    labels = tuple(categories.values())
    if choice.outlines and len(labels) >= IGNORED:
        raise CompilerError(f"`{path}` has {len(labels)} categories, and masks have room for {IGNORED - 1}")

    def read(index: int) -> Sample:
        image = usable[index]
        file = images_in / image.file
        width, height = image.size

        def decoded() -> tuple[Array, ...]:
            pixels = read_image(file, image.size)
            return (pixels, _mask(image, path)) if choice.outlines else (pixels,)

        pixels, *mask = cache.get(file, decoded)
        boxes = clipped(np.array(image.boxes, dtype=np.float64).reshape(-1, 4), width, height).astype(np.float32)
        numbers, crowd = np.array(image.labels, dtype=np.int64), np.array(image.crowd, dtype=bool)
        return Sample(image.file, pixels, boxes, numbers, crowd, mask[0] if mask else None)

    names, counts = [image.file for image in usable], [len(image.boxes) for image in usable]
    return Dataset(labels, (BACKGROUND, *labels) if choice.outlines else (), names, read, counts)


def _mask(image: _Image, path: Path) -> Array:
    """The mask of an image: crowds are ignored where nothing else is."""
    width, height = image.size
    objects = []
    for (annotation, outline), label, crowd in zip(image.outlines, image.labels, image.crowd, strict=True):
        try:
            objects.append((pixels_of(outline, height, width), IGNORED if crowd else label + 1))
        except OutlineError as error:
            message = f"`{path}`, annotation {annotation}: the outline {error}"
            raise SampleError(image.file, message) from None
    objects.sort(key=lambda item: item[1] != IGNORED)
    return mask_of(objects, height, width)


# -- the file


def _read(path: Path, faults: Faults, outlines: bool) -> tuple[dict[int, str], list[_Image]]:
    """The names of the categories by their ids, in that order, and the images in the file's order."""
    content = _json(path)
    categories = _categories(content, path)
    numbers = {id: index for index, id in enumerate(categories)}
    images = _images(content, path)
    if not images:
        raise CompilerError(
            f"`{path}` has no images", "its list `images` is empty: name the images that were annotated"
        )
    seen: set[Any] = set()
    annotations = content["annotations"]
    for place, annotation in enumerate(shown(iter(annotations), len(annotations), f"reading {path.name}")):
        if not isinstance(annotation, dict):
            raise CompilerError(f"`{path}`: entry {place} of `annotations` is no object")
        name = annotation.get("id")
        if not isinstance(name, int | str):
            raise CompilerError(f"`{path}`: entry {place} of `annotations` has no `id`")
        if name in seen:
            raise CompilerError(f"`{path}` has two annotations with the id {name}", "give each an id of its own")
        seen.add(name)
        image = images.get(annotation.get("image_id")) if isinstance(annotation.get("image_id"), int | str) else None
        if image is None:
            message = (
                f"`{path}`, annotation {name}: there is no image with the id {_written(annotation.get('image_id'))}"
            )
            faults.met(SampleError(f"{path}, annotation {name}", message))
            continue
        fault = _add(image, annotation, numbers)
        if outlines and not fault:
            image.outlines.append((name, annotation.get("segmentation")))
        if fault and not image.fault:
            image.fault = f"`{path}`, annotation {name} of `{image.file}`: {fault}"
    return categories, list(images.values())


def _add(image: _Image, annotation: dict[str, Any], numbers: Mapping[Any, int]) -> str:
    """Adds an annotation to its image; returns what is wrong with it."""
    category = annotation.get("category_id")
    if not isinstance(category, int | str) or category not in numbers:
        return f"there is no category with the id {_written(category)}"
    written = annotation.get("bbox")
    if not isinstance(written, list) or len(written) != 4:
        return "`bbox` is no list of x, y, width and height"
    if not all(isinstance(value, int | float) for value in written):
        return f"`bbox` is {_written(written)}, which are no four numbers"
    try:
        x, y, width, height = (float(value) for value in written)
    except OverflowError:
        x = y = width = height = math.inf
    fault = fault_of_box((x, y, x + width, y + height), *image.size)
    if fault:
        return fault
    image.boxes.append((x, y, x + width, y + height))
    image.labels.append(numbers[category])
    image.crowd.append(bool(annotation.get("iscrowd", 0)))
    return ""


def _written(value: Any) -> str:
    """A value as the file has it, so that 1 and "1" are told apart."""
    return json.dumps(value, ensure_ascii=False)[:60]


def _json(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CompilerError(
            f"there is no file `{path}`", "`coco:` is taken relative to the file that says it"
        ) from None
    except OSError as error:
        raise CompilerError(f"`{path}` can't be read: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        raise CompilerError(
            f"`{path}`, line {error.lineno}, column {error.colno}: this is no JSON: {error.msg}"
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CompilerError(f"`{path}` is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise CompilerError(f"`{path}` holds no object with `images`, `annotations` and `categories`")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            help = (
                "predictions can't be trained on" if key != "annotations" else "an image without boxes needs none in it"
            )
            raise CompilerError(f"`{path}` has no list `{key}`", help)
    return content


def _categories(content: dict[str, list[Any]], path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for place, category in enumerate(content["categories"]):
        id, name = (category.get(key) if isinstance(category, dict) else None for key in ("id", "name"))
        if not isinstance(id, int) or not isinstance(name, str):
            raise CompilerError(f"`{path}`: entry {place} of `categories` has no `id` and `name`")
        if id in found or name in found.values():
            raise CompilerError(f"`{path}` has two categories with the id {id} or the name `{name}`")
        found[id] = name
    if not found:
        raise CompilerError(f"`{path}` has no categories")
    return dict(sorted(found.items()))


def _images(content: dict[str, list[Any]], path: Path) -> dict[Any, _Image]:
    found: dict[Any, _Image] = {}
    files: set[str] = set()
    for place, image in enumerate(content["images"]):
        given = image if isinstance(image, dict) else {}
        id, file, width, height = (given.get(key) for key in ("id", "file_name", "width", "height"))
        if not isinstance(id, int | str) or not isinstance(file, str) or not file:
            raise CompilerError(f"`{path}`: entry {place} of `images` has no `id` and `file_name`")
        if not isinstance(width, int) or not isinstance(height, int) or width < 1 or height < 1:
            raise CompilerError(
                f"`{path}`, image {id}: `width` and `height` are {_written(width)} and {_written(height)}"
            )
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise CompilerError(f"`{path}`, image {id}: `{file}` leads out of the folder of images")
        if id in found or file in files:
            raise CompilerError(f"`{path}` has two images with the id {id} or the name `{file}`")
        found[id] = _Image(file, (width, height))
        files.add(file)
    return found


def write_annotations(
    path: Path, images: list[dict[str, Any]], annotations: Iterable[dict[str, Any]], labels: Iterable[str]
) -> None:
    """Writes an annotation file; categories are numbered from 1, as in COCO.

    Raises:
        CompilerError: it can't be written.
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(labels, 1)]
    content = {"images": images, "annotations": list(annotations), "categories": categories}
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
