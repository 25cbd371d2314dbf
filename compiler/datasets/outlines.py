"""Outlines of objects as COCO writes them: polygons, and lengths of runs of pixels, column by column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from compiler.datasets.sample import Array


class OutlineError(Exception):
    """What is wrong with an outline."""


def pixels_of(outline: Any, height: int, width: int) -> Array:
    """The pixels of an object, height × width bool.

    Args:
        outline: a list of polygons, or `{size: [height, width], counts: …}`.

    Raises:
        OutlineError: it is neither, or does not fit the image.
    """
    if isinstance(outline, dict):
        if outline.get("size") != [height, width]:
            raise OutlineError(f"is for a size of {outline.get('size')}, the image is {height} × {width}")
        counts = outline.get("counts")
        runs = _runs(counts) if isinstance(counts, str) else counts
        return _filled(runs, height, width)
    if not isinstance(outline, list) or not outline:
        raise OutlineError("is neither a list of polygons nor lengths of runs")
    polygons = [_polygon(polygon, height, width) for polygon in outline]
    # Every polygon is traced within the image, so this reserves no more than the image needs.
    return np.asarray(coco_mask.decode(coco_mask.frPyObjects(polygons, height, width)).any(axis=2))


def _polygon(given: Any, height: int, width: int) -> list[float]:
    numbers = isinstance(given, list) and all(isinstance(value, int | float) for value in given)
    if not numbers or len(given) < 6 or len(given) % 2:
        raise OutlineError("has a polygon that is not x and y of three corners or more")
    try:
        points = [float(value) for value in given]
    except OverflowError:
        points = [math.inf]
    if not all(math.isfinite(value) for value in points):
        raise OutlineError("has a corner that is not made of finite numbers")
    return [float(min(max(value, 0), (width, height)[i % 2])) for i, value in enumerate(points)]


def _filled(runs: Any, height: int, width: int) -> Array:
    """Runs of pixels outside and inside in turn, down the columns."""
    whole = isinstance(runs, list) and all(type(run) is int and 0 <= run <= height * width for run in runs)
    if not whole or sum(runs) != height * width:
        raise OutlineError(f"has runs of pixels that are not {height * width} together")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _runs(text: str) -> list[int]:
    """The lengths in a text: five bits a character, and from the third on as differences to the last but one."""
    found: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise OutlineError("has runs of pixels that are no such text")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
        value = shift = 0
    if shift:
        raise OutlineError("has runs of pixels that are cut off")
    return found


def runs_of(pixels: Array) -> dict[str, Any]:
    """The outline of an object, from height × width bool."""
    found = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": list(pixels.shape), "counts": found["counts"].decode("ascii")}


def mask_of(objects: Sequence[tuple[Array, int]], height: int, width: int) -> Array:
    """A mask, height × width uint8, of the pixels and the numbers of objects, later ones over earlier ones."""
    mask = np.zeros((height, width), dtype=np.uint8)
    for pixels, number in objects:
        mask[pixels] = number
    return mask
