"""Pictures and masks as bytes: PNG, and run lengths in the form of COCO."""

import io
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image

# The greatest number of a class in a mask of 8 bits; larger ones make it 16 bits.
MAX_BYTE = 255


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()


def mask_png(numbers: np.ndarray) -> bytes:
    """The classes of pixels [height, width] as a grey PNG of their numbers, of 8 bits, or 16 if need be."""
    bits = np.uint8 if numbers.max(initial=0) <= MAX_BYTE else np.uint16
    return png(Image.fromarray(numbers.astype(bits)))


def run_lengths(pixels: np.ndarray) -> dict[str, Any]:
    """A mask, bool [height, width], as COCO's run lengths without compression: ``{"size", "counts"}``.

    ``counts`` are the lengths of runs of pixels outside and inside in turn, column by column, from one outside on.
    https://cocodataset.org/#format-data
    """
    inside = pixels.ravel(order="F")
    turns = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts = list(chain([0] * (2 if inside[:1].any() else 1), turns.tolist(), [inside.size]))
    return {"size": list(pixels.shape), "counts": np.diff(starts).tolist()}
