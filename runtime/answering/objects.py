"""What detectors and segmenters answer, for one image: boxes with classes and scores, or a class for each pixel."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtime.errors import InputError
from runtime.task import Detection, Segmentation

# More classes than any network has: a greater number in a mask is no class.
MAX_CLASSES = 2**16


@dataclass(frozen=True)
class Found:
    """An object in an image: the name and number of its class, its score, and left, top, right, bottom in pixels."""

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """A class in an image: its name and number, how many pixels have it, and their share of the image in 0…1."""

    label: str
    index: int
    pixels: int
    share: float


@dataclass(frozen=True)
class Mask:
    """The class of each pixel: their numbers, height × width, and the classes that occur, by number."""

    numbers: np.ndarray
    regions: tuple[Region, ...]


def label_of(index: int, labels: tuple[str, ...] | None) -> str:
    """The name of a class, its number where it has none."""
    return labels[index] if labels is not None and 0 <= index < len(labels) else str(index)


def is_background(label: str) -> bool:
    """Whether a class is what lies between the things to be seen: ``background``, ``__background__``."""
    return label.strip("_").lower() == "background"


def found_objects(
    task: Detection, outputs: Mapping[str, np.ndarray], labels: tuple[str, ...] | None, score: float
) -> tuple[Found, ...]:
    """The objects of one image with at least this score, in the order in which the model gives them.

    Args:
        task: the names of the outputs.
        outputs: of one image, without the batch dimension.
        labels: the names of the classes.
        score: in 0…1.

    Raises:
        InputError: the model answers with NaN or infinity, or counts more objects than it gives.
    """
    count = int(outputs[task.counts])
    boxes, scores, classes = (outputs[name] for name in (task.boxes, task.scores, task.labels))
    if not 0 <= count <= min(len(boxes), len(scores), len(classes)):
        raise InputError(f"the model says that it found {count} objects, and gives {len(boxes)} boxes")
    if not (np.isfinite(boxes[:count]).all() and np.isfinite(scores[:count]).all()):
        raise InputError("the model answers with NaN or infinity")
    rows = zip(boxes[:count].tolist(), scores[:count].tolist(), classes[:count].tolist(), strict=True)
    return tuple(
        Found(label_of(index, labels), index, value, (left, top, right, bottom))
        for (left, top, right, bottom), value, index in rows
        if value >= score
    )


def mask_of(
    task: Segmentation, outputs: Mapping[str, np.ndarray], labels: tuple[str, ...] | None, image: np.ndarray | None
) -> Mask:
    """The classes of one image's pixels.

    Args:
        task: the name of the output.
        outputs: of one image, without the batch dimension.
        labels: the names of the classes.
        image: the image [height, width, channels], where the model takes its pixels.

    Raises:
        InputError: the mask is of another size than the image, or holds numbers that are no classes.
    """
    numbers = outputs[task.mask]
    if image is not None and numbers.shape != image.shape[:2]:
        raise InputError(
            f"the model gives a mask of {numbers.shape[1]} × {numbers.shape[0]} pixels for an image of "
            f"{image.shape[1]} × {image.shape[0]}"
        )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < MAX_CLASSES:
        raise InputError(
            f"the model's mask holds numbers from {numbers.min()} to {numbers.max()}, which are no classes"
        )
    counts = np.bincount(numbers.ravel())
    return Mask(
        numbers,
        tuple(
            Region(label_of(index, labels), index, int(counts[index]), float(counts[index] / numbers.size))
            for index in np.flatnonzero(counts).tolist()
        ),
    )
