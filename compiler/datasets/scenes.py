"""Digit scenes: real handwritten digits at varied scale on cluttered canvases, with exact boxes and masks."""

from __future__ import annotations

import numpy as np

from compiler.datasets.canvas import canvas, stroke
from compiler.datasets.digits import digit_images, digit_split
from compiler.datasets.images import Cache
from compiler.datasets.sample import Array, Dataset, Faults, Parts, Sample
from netspec.data_choices import Scenes

HELD_OUT = 0.25  # the share of the digits that only scenes of the held-out part show
LABELS = tuple(str(digit) for digit in range(10))
TURN = 0.2  # radians: how far a digit is turned at most
CONTRAST = 70.0  # of 255: how much brighter or darker than what is around it a digit is at least
TRIES = 30  # places that are looked at for a digit before it is left out


def digit_scenes(choice: Scenes) -> Parts:
    """The scenes of a recipe. Each follows from the seed, its part and its number; so none depends on the others."""
    images, classes = digit_images()
    train, test = digit_split(HELD_OUT)
    cache = Cache()

    def part(number: int, indices: Array, count: int) -> Dataset:
        own, digits = images[indices], classes[indices]

        def read(index: int) -> Sample:
            arrays = cache.get((number, index), lambda: _scene(choice, number, index, own, digits))
            image, boxes, labels, mask, instances = arrays
            ignore = np.zeros(len(boxes), dtype=bool)
            return Sample(names[index], image, boxes, labels, ignore, mask, instances=instances)

        names = [f"{'train' if number == 0 else 'test'}-{index:05}" for index in range(count)]
        return Dataset(LABELS, ("background", *LABELS), names, read)

    return Parts(part(0, train, choice.count), part(1, test, choice.test), Faults())


def _scene(choice: Scenes, part: int, index: int, images: Array, classes: Array) -> tuple[Array, ...]:
    """Image, boxes, labels, mask and instances of a scene."""
    rng = np.random.default_rng([choice.seed, part, index])
    size = (choice.size, choice.size) if isinstance(choice.size, int) else choice.size
    least, most = (share * min(size) for share in choice.scale)
    # No pieces of ones: a piece of a one is a one.
    pixels = canvas(rng, size, choice.clutter, images[classes != 1], float(rng.uniform(least, most)))
    instances = np.zeros(size, dtype=np.uint8)
    placed: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(choice.shown[0], choice.shown[1] + 1))):
        chosen = int(rng.integers(len(images)))
        height = float(np.exp(rng.uniform(np.log(least), np.log(most))))
        cover = _drawn(rng, images[chosen], height, size)
        where = _place(rng, cover.shape, size, placed, choice.overlap)
        if where is None:
            continue
        placed.append(where)
        labels.append(int(classes[chosen]))
        _ink(rng, pixels, instances, cover, where, len(placed))
    image = np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
    mask = np.array([0, *(label + 1 for label in labels)], dtype=np.uint8)[instances]
    return image, _boxes(instances, len(placed)), np.array(labels, dtype=np.int64), mask, instances


def _drawn(rng: np.random.Generator, digit: Array, height: float, size: tuple[int, int]) -> Array:
    """How much of each pixel the ink of a digit covers; cut to where it covers at least half."""
    inked = np.flatnonzero(digit.max(axis=1) > 100)
    scale = height / (inked[-1] - inked[0] + 1)
    tall, wide = scale * 10, scale * 10 * rng.uniform(0.85, 1.2)
    cover = stroke(np.pad(digit, 1), (round(tall), round(wide)), float(rng.uniform(-TURN, TURN)))
    rows, columns = np.flatnonzero((cover >= 0.5).any(axis=1)), np.flatnonzero((cover >= 0.5).any(axis=0))
    cut = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut[: size[0], : size[1]]


def _place(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    size: tuple[int, int],
    placed: list[tuple[int, int, int, int]],
    overlap: float,
) -> tuple[int, int, int, int] | None:
    """A box, left, top, right, bottom, that covers little of those that are placed already; None if none is found."""
    height, width = shape
    for _ in range(TRIES):
        left, top = int(rng.integers(size[1] - width + 1)), int(rng.integers(size[0] - height + 1))
        box = (left, top, left + width, top + height)
        if all(_covered(box, other) <= overlap for other in placed):
            return box
    return None


def _covered(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """What two boxes have in common, as a share of the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


def _ink(
    rng: np.random.Generator,
    pixels: Array,
    instances: Array,
    cover: Array,
    box: tuple[int, int, int, int],
    number: int,
) -> None:
    """Draws a digit in a colour that stands out from what is around it."""
    left, top, right, bottom = box
    place = pixels[top:bottom, left:right]
    around = float(place.mean())
    dark, bright = around - CONTRAST, 255 - around - CONTRAST
    darker = rng.random() < dark / (dark + bright) if dark > 0 and bright > 0 else dark > bright
    tone = rng.uniform(0, max(dark, 1)) if darker else 255 - rng.uniform(0, max(bright, 1))
    colour = np.clip(tone + rng.uniform(-40, 40, 3), 0, 255).astype(np.float32)
    place += cover[..., None] * (colour - place)
    place += cover[..., None] * rng.standard_normal((*cover.shape, 1), dtype=np.float32) * 4
    instances[top:bottom, left:right][cover >= 0.5] = number


def _boxes(instances: Array, count: int) -> Array:
    """The smallest box around the visible ink of each digit."""
    boxes = np.zeros((count, 4), dtype=np.float32)
    for index in range(count):
        own = instances == index + 1
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
