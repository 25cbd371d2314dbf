"""Feeds that nobody gave: zeros or random numbers of a model's shapes, to warm it up, to ask it or to time it."""

from __future__ import annotations  # NumPy imports its random numbers when they are named

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.metadata import ImageContract, ImagePixels, ImagePreprocess
from runtime.session import Session
from runtime.tensors import Dimension, TensorSpec

# The side of the square image that a model is tried on where it takes images of any size.
IMAGE_SIDE = 224

NO_SHAPES: Mapping[str, Sequence[int]] = {}


def probe(
    session: Session,
    rows: int,
    generator: np.random.Generator | None = None,
    shapes: Mapping[str, Sequence[int]] = NO_SHAPES,
) -> dict[str, np.ndarray]:
    """Feeds of `rows` rows, zeros or random numbers; empty where a size is free and nothing says what it may be.

    `shapes` says the sizes of inputs by name; where a model leaves the first of them free, it is `rows` all the same.
    """
    feeds = {}
    for spec in session.inputs:
        contract = session.metadata.preprocess.get(spec.name)
        shape = known_shape(spec, contract, rows, shapes.get(spec.name))
        if not shape or -1 in shape:
            return {}
        is_pixels = isinstance(contract, ImagePixels)
        feeds[spec.name] = pixels(shape, generator) if is_pixels and generator else filled(spec, shape, generator)
    return feeds


def filled(spec: TensorSpec, shape: Sequence[int], generator: np.random.Generator | None) -> np.ndarray:
    """An array of the element type: random where it holds real numbers and there is a `generator`, else zeros."""
    if spec.dtype.hasobject:
        return np.full(shape, "", object)
    if generator is None or spec.dtype.kind != "f":
        return np.zeros(shape, spec.dtype)
    return generator.standard_normal(shape).astype(spec.dtype)


def pixels(shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
    """Random pixels 0…255."""
    return generator.integers(0, 256, shape, np.uint8)


def known_shape(
    spec: TensorSpec, contract: ImageContract | None, rows: int, given: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The shape of an input for `rows` rows, with −1 for a size that is free and of which nothing is known.

    It is empty where the model says nothing of the shape and none is `given`.
    """
    if not spec.shape:
        return tuple(given or ())
    sizes: Mapping[Dimension, int] = _image_sides(contract) if given is None else dict(enumerate(given))
    return tuple(
        size if isinstance(size, int) else rows if axis == 0 else sizes.get(axis, -1)
        for axis, size in enumerate(spec.shape)
    )


def _image_sides(contract: ImageContract | None) -> dict[Dimension, int]:
    """Where an input is an image, the sides to try it on, by axis."""
    if isinstance(contract, ImagePreprocess):
        height, width = contract.size or (IMAGE_SIDE, IMAGE_SIDE)
        return {2: height, 3: width}
    return {1: IMAGE_SIDE, 2: IMAGE_SIDE} if isinstance(contract, ImagePixels) else {}
