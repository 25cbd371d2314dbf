"""Masks in files: a PNG for each image, whose pixels are class numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from compiler.datasets.folders import (
    Part,
    asked_for,
    class_names,
    divided,
    each,
    file_names,
    folder,
    images_of,
    places,
)
from compiler.datasets.images import Cache, look_at, read_image, read_mask
from compiler.datasets.sample import IGNORED, Array, Dataset, Faults, Parts, Sample, SampleError
from compiler.files import whole_file
from netspec.data_choices import Masks


def load_masks(choice: Masks, root: Path) -> Parts:
    """The images and masks of a folder.

    Raises:
        CompilerError: files are missing.
    """
    folder(root, "which `masks:` names")
    labels = class_names(choice.names, root)
    faults, cache = Faults(choice.on_error), Cache()

    def part(place: Path) -> Part:
        images, masks = images_of(place / choice.images_in), images_of(place / choice.masks_in)
        wanted = asked_for(root, choice, list(images))

        def paired(name: str) -> str:
            if name not in masks:
                message = f"`{images[name]}` has no mask `{place / choice.masks_in / name}.png`"
                raise SampleError(images[name], message, "add the mask, or remove the image")
            look_at(images[name])
            look_at(masks[name])
            return name

        for name in sorted(masks.keys() - images.keys()):
            message = f"`{masks[name]}` is the mask of no image: there is no `{place / choice.images_in / name}.…`"
            faults.met(SampleError(masks[name], message, "put the image there, or remove the mask"))
        names = each(wanted, paired, faults, "opening images and masks")
        return Part(_dataset(names, images, masks, labels, cache), list(images))

    return divided(root, choice, [part(place) for place in places(root)], faults)


def _dataset(
    names: list[str], images: dict[str, Path], masks: dict[str, Path], labels: tuple[str, ...], cache: Cache
) -> Dataset:
    def decoded(name: str) -> tuple[Array, ...]:
        image, mask = read_image(images[name]), read_mask(masks[name])
        if image.shape[:2] != mask.shape:
            sizes = [f"{shape[1]} × {shape[0]}" for shape in (mask.shape, image.shape)]
            message = f"`{masks[name]}` is {sizes[0]}, its image `{images[name]}` is {sizes[1]}"
            raise SampleError(masks[name], message, "a mask has a number for each pixel of its image")
        check_numbers(mask, len(labels), masks[name])
        return image, mask

    shown_as = file_names(names, images)

    def read(index: int) -> Sample:
        image, mask = cache.get(images[names[index]], lambda: decoded(names[index]))
        nothing = np.zeros(0, dtype=np.int64)
        return Sample(shown_as[index], image, np.zeros((0, 4), dtype=np.float32), nothing, nothing.astype(bool), mask)

    return Dataset((), labels, shown_as, read)


def check_numbers(mask: Array, classes: int, name: object) -> None:
    """Sees to it that a mask has numbers of classes, where it is known how many there are, and 255.

    Raises:
        SampleError: it has others.
    """
    largest = int(mask.max(initial=0, where=mask != IGNORED))
    if classes and largest >= classes:
        message = f"`{name}` has the number {largest}, and there are {classes} classes, numbered from 0"
        raise SampleError(name, message, f"pixels of no class are {IGNORED}")


def write_mask(path: Path, mask: Array) -> None:
    """Writes a mask as a PNG with one channel.

    Raises:
        CompilerError: it can't be written.
    """
    with whole_file(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")
